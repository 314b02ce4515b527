"""The places of something that are to be made anew: painted, timed, counted or written.

Shape legend: Y X pixels, G K rows and columns of the code grid, N codes.
"""

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_PAINTED = 0.1  # of a code's square: less is taken for the edge of a stroke
_HOLE = re.compile(r"\[\[\s*(\d{1,6})\s*\]\]")


def grid_of(num_codes: int, shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the codes of a picture of `shape`, rows from the top. ValueError if they are no grid."""
    rows = round(math.sqrt(num_codes * shape[0] / shape[1]))
    if rows < 1 or num_codes % rows:
        raise ValueError(f"{num_codes} codes of {shape[1]} x {shape[0]} pixels make no grid; give spans of codes")
    return rows, num_codes // rows


def painted_holes(mask_YX: NDArray[np.bool_], num_codes: int) -> NDArray[np.bool_]:
    """bool [N]: codes of which a tenth or more is painted."""
    from PIL import Image

    rows, columns = grid_of(num_codes, mask_YX.shape)
    values = Image.fromarray(mask_YX.astype(np.float32))
    share_GK = np.asarray(values.resize((columns, rows), Image.Resampling.BOX))
    return (share_GK >= _PAINTED).reshape(-1)


def span_holes(spans: Sequence[Sequence[float]], num_codes: int) -> NDArray[np.bool_]:
    """bool [N]: codes first..last of each [first, last + 1]. ValueError for one that lies outside, or is empty."""
    holes = np.zeros(num_codes, bool)
    for first, stop in spans:
        if not (0 <= first < stop <= num_codes and first == int(first) and stop == int(stop)):
            raise ValueError(f"span [{first:g}, {stop:g}] is not within 0..{num_codes}; give whole numbers that are")
        holes[int(first) : int(stop)] = True
    return holes


def timed_holes(stretches: Sequence[Sequence[float]], num_codes: int, seconds: float) -> NDArray[np.bool_]:
    """bool [N]: codes that a stretch [from, to] touches, of codes that last `seconds` together. ValueError for one that
    lies outside, or is empty.
    """
    holes = np.zeros(num_codes, bool)
    for start, end in stretches:
        if not 0 <= start < end or start >= seconds:
            raise ValueError(f"stretch [{start:g}, {end:g}] is not within 0..{seconds:.2f} s; give one that is")
        holes[math.floor(start / seconds * num_codes) : math.ceil(min(end, seconds) / seconds * num_codes)] = True
    return holes


def text_pieces(text: str) -> list[str | int]:
    """Pieces of a text between holes, which are their numbers of tokens. A hole's tokens bring their own spaces, so
    those before it go.
    """
    pieces: list[str | int] = []
    for index, piece in enumerate(_HOLE.split(text)):
        if index % 2:
            pieces.append(int(piece))
        elif piece:
            pieces.append(piece)
    return [
        piece.rstrip() if isinstance(piece, str) and isinstance(following, int) else piece
        for piece, following in zip(pieces, [*pieces[1:], ""], strict=True)
    ]
