"""Boxes of a whole parameter that a flat range of one rank's part of it covers.

ZeRO keeps a rank's optimizer state as ranges of flattened parameters, tensor parallelism keeps a part of every
parameter: together a rank holds [start, stop) of its local part, flattened row by row. Here that becomes rectangles.
"""

import math
from collections.abc import Iterator, Sequence

from torch import Tensor

from triptych.models.sharding import Sharding
from triptych.trainer.checkpoint.shards import Box


def boxes_of_range(
    flat: Tensor, *, start: int, local_shape: Sequence[int], sharding: Sharding, rank: int, num_ranks: int
) -> tuple[Box, ...]:
    """The boxes that `flat` holds, in the coordinates of the whole parameter, in the order of memory.

    flat: [numel], elements [start, start + numel) of the local part of shape `local_shape`, flattened row-major.
    sharding: how the whole is split over `num_ranks` tensor-parallel ranks, of which this is `rank`. A box's tensor is
    a view of `flat`, contiguous unless the parameter is cut into stride blocks along another dimension than the first.
    """
    assert flat.dim() == 1 and 0 <= start and start + flat.numel() <= math.prod(local_shape)
    boxes = []
    for first, offsets, sizes in _rectangles(start, start + flat.numel(), tuple(local_shape)):
        view = flat[first - start : first - start + math.prod(sizes)].view(sizes)
        boxes += _placed(view, offsets, local_shape, sharding, rank, num_ranks)
    return tuple(boxes)


def _rectangles(
    start: int, stop: int, shape: tuple[int, ...]
) -> Iterator[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    """Cut the flat range [start, stop) of an array into (first element, offsets, sizes): the rest of a row, whole rows,
    the beginning of a row, each partial row cut in the same way.
    """
    if start >= stop:
        return
    if len(shape) <= 1:
        yield start, (start,)[: len(shape)], (stop - start,)[: len(shape)]
        return
    row = math.prod(shape[1:])
    first_whole, end_whole = -(-start // row), stop // row
    if first_whole > end_whole:  # inside one row
        yield from _within_row(start, stop, end_whole, row, shape)
        return
    yield from _within_row(start, first_whole * row, first_whole - 1, row, shape)
    if first_whole < end_whole:
        rest = shape[1:]
        yield first_whole * row, (first_whole, *(0 for _ in rest)), (end_whole - first_whole, *rest)
    yield from _within_row(end_whole * row, stop, end_whole, row, shape)


def _within_row(
    start: int, stop: int, index: int, row: int, shape: tuple[int, ...]
) -> Iterator[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    """As `_rectangles`, for a range that lies inside row `index`."""
    for first, offsets, sizes in _rectangles(start - index * row, stop - index * row, shape[1:]):
        yield first + index * row, (index, *offsets), (1, *sizes)


def _placed(
    view: Tensor, offsets: tuple[int, ...], local_shape: Sequence[int], sharding: Sharding, rank: int, num_ranks: int
) -> Iterator[Box]:
    """The boxes of the whole that a box of the local part is, one per stride block that it touches."""
    dim = sharding.dim
    if dim is None or num_ranks == 1:
        yield Box(offsets=offsets, sizes=tuple(view.shape), tensor=view)
        return
    block = local_shape[dim] // sharding.stride
    begin, end = offsets[dim], offsets[dim] + view.shape[dim]
    while begin < end:
        number, within = divmod(begin, block)
        length = min(end - begin, block - within)
        piece = view.narrow(dim, begin - offsets[dim], length)
        at = (number * num_ranks + rank) * block + within
        yield Box(offsets=(*offsets[:dim], at, *offsets[dim + 1 :]), sizes=tuple(piece.shape), tensor=piece)
        begin += length
