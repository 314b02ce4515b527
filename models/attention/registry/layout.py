"""What softmax's backends lay out for segments: once for a micro-batch, for all of its layers.

Shape legend: B rows, S positions of a row, P = B * S positions of all rows one after another, N segments.
"""

from functools import cached_property

import torch
from torch import Tensor

from triptych.kernels.flash_sigmoid.problem import Segments


class SegmentSide:
    """The queries of segments, or their keys. Each part is made when it is first asked for, and kept.

    first: column of the segments' table with the first position; the next one says how many there are. shift: column
    with what a segment's positions begin at; 0 if None.
    """

    def __init__(self, segments: Segments, shape: tuple[int, int], *, first: int, shift: int | None = None) -> None:
        self._table_N6 = segments.table_N6
        self._shape = shape
        self._first, self._shift = first, shift

    @cached_property
    def edges(self) -> Tensor:
        """int32 [2 N + 2], ascending: 0, where each segment begins and ends in P, and P. So what is in no segment is a
        stretch of its own, and nothing is left out. Right only for segments in the order of their places.
        """
        begins_N = self._table_N6[:, 0] * self._shape[1] + self._table_N6[:, self._first]
        ends_N = begins_N + self._table_N6[:, self._first + 1]
        inner = torch.stack([begins_N, ends_N], dim=1).flatten()
        num_rows, row_length = self._shape
        return torch.cat([inner.new_zeros(1), inner, inner.new_full((1,), num_rows * row_length)])

    @cached_property
    def outside(self) -> Tensor:
        """bool [P]: in no segment, by `edges`."""
        place_P = torch.arange(self._shape[0] * self._shape[1], device=self._table_N6.device, dtype=torch.int32)
        return torch.searchsorted(self.edges, place_P, right=True) % 2 == 1

    @cached_property
    def cuts(self) -> tuple[list[int], list[int]]:
        """On the host: lengths of what is in no segment and of a segment, by turns along P; and which segment each of
        these is. ValueError for segments that overlap, or do not fit into the rows.
        """
        num_rows, row_length = self._shape
        table = [[row[0], row[self._first], row[self._first + 1]] for row in self._table_N6.tolist()]
        sizes, end = [], 0
        numbers = sorted(range(len(table)), key=lambda n: table[n])
        for n in numbers:
            row, first, length = table[n]
            begin = row * row_length + first
            fits = 0 <= row < num_rows and first >= 0 and length >= 0 and first + length <= row_length
            if not fits or begin < end:
                raise ValueError(
                    f"segment {n} is row {row}, {length} positions from {first}, of {num_rows} rows of {row_length}, "
                    "and overlaps another or does not fit; give lengths that fit"
                )
            sizes += [begin - end, length]
            end = begin + length
        return [*sizes, num_rows * row_length - end], numbers

    @cached_property
    def places(self) -> tuple[Tensor, Tensor]:
        """int64 [B, S] each: the segment that a position belongs to, -1 for none; and its position in it, from `shift`
        on.
        """
        table = self._table_N6.long()
        num_rows, row_length = self._shape
        place = torch.arange(row_length, device=table.device)
        if not table.shape[0]:
            return place.new_full(self._shape, -1), place.expand(self._shape)
        begins_N1 = table[:, self._first, None]
        inside_NS = (place >= begins_N1) & (place < begins_N1 + table[:, self._first + 1, None])
        inside_BNS = inside_NS & (table[:, 0] == torch.arange(num_rows, device=table.device)[:, None])[..., None]
        segment_BS = torch.where(inside_BNS.any(1), inside_BNS.int().argmax(1), -1)
        start_N = table[:, self._first] - (0 if self._shift is None else table[:, self._shift])
        return segment_BS, place - start_N[segment_BS.clamp(min=0)]


class SegmentLayout:
    """Both sides of segments of queries [B, S, ...] and keys [B, T, ...]."""

    def __init__(self, segments: Segments, query_shape: tuple[int, int], key_shape: tuple[int, int]) -> None:
        self.segments = segments
        self.queries = SegmentSide(segments, query_shape, first=1, shift=5)
        self.keys = SegmentSide(segments, key_shape, first=3)

    @cached_property
    def visible(self) -> Tensor:
        """bool [B, 1, S, T]: whether query and key are of one segment."""
        of_query_BS, of_key_BT = self.queries.places[0], self.keys.places[0]
        same = of_query_BS[:, None, :, None] == of_key_BT[:, None, None, :]
        return same & (of_key_BT >= 0)[:, None, None, :]
