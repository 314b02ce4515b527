"""Which documents share a row: best-fit decreasing bin packing, a pure function of the lengths.

Best-fit packing (Ding et al. 2024, arXiv 2404.10830) cuts only texts that are longer than a row and puts every other
document whole into the fullest row that has room for it, longest first.
"""

from bisect import bisect_left, insort

import numpy as np
from numpy.typing import NDArray


def best_fit(lengths_N: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """The row of each of N documents, int64 [N]; rows count from 0 and none is empty. Lengths are 1..capacity.

    Equal lengths keep their order, so the same lengths give the same rows everywhere.
    """
    assert not len(lengths_N) or (lengths_N.min() >= 1 and lengths_N.max() <= capacity), "a document fits no row"
    order_N = np.argsort(-lengths_N, kind="stable")
    rows = [0] * len(order_N)
    # room left << 32 | row, of the rows that are not full, least room first: integers compare faster than pairs.
    rooms: list[int] = []
    num_rows = 0
    for document, length in zip(order_N.tolist(), lengths_N[order_N].tolist(), strict=True):
        taken = length << 32
        at = bisect_left(rooms, taken)
        if at < len(rooms):
            room = rooms.pop(at)
        else:
            room = capacity << 32 | num_rows
            num_rows += 1
        rows[document] = room & 0xFFFFFFFF
        room -= taken
        if room >> 32:
            insort(rooms, room)
    return np.array(rows, np.int64)


def one_each(lengths_N: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """Every document in a row of its own, as multimodal pairs are padded to one length in arXiv 2602.21472."""
    assert not len(lengths_N) or lengths_N.max() <= capacity, "a document fits no row"
    return np.arange(len(lengths_N), dtype=np.int64)
