"""Rows from a loader that gives one document after the other, as its users pack them: documents are strung together
with END between them and cut where rows end, so no position is padding.

What each row's documents are is kept, as a mask against attention across documents needs it.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from triptych.data_pipelines.stream.benchmark.documents import END, ROW_LENGTH, ROWS

Rows = dict[str, torch.Tensor]
"""tokens: int64 [ROWS, ROW_LENGTH]. ends: int64, where documents end within the batch's positions."""


def packed(documents: Iterable[NDArray[np.uint16] | NDArray[np.int32]]) -> Iterator[Rows]:
    """Batches of full rows."""
    size = ROWS * ROW_LENGTH
    flat, at, ends = np.empty(size, np.int64), 0, []
    for document in documents:
        first = 0
        while first <= len(document):
            part = document[first : first + size - at]
            flat[at : at + len(part)] = part
            at, first = at + len(part), first + len(part)
            if at < size:
                flat[at] = END
                at, first = at + 1, first + 1
                ends.append(at)
            if at == size:
                yield {
                    "tokens": torch.from_numpy(flat.reshape(ROWS, ROW_LENGTH)),
                    "ends": torch.tensor(ends, dtype=torch.int64),
                }
                flat, at, ends = np.empty(size, np.int64), 0, []
