"""What an attention call computes, apart from its tensors: who sees whom, and with which bias.

Shape legend: N segments, S positions of a row, T positions of all rows, B rows.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

UNBOUNDED = -1
Alignment = Literal["top_left", "bottom_right"]
Sigmoid = Literal["accurate", "tanh"]
"""How a kernel computes sigma: with a relative error near fp32's, or by the hardware's tanh, whose error is absolute
and drowns the weights that -log n makes small.
"""


@dataclass(kw_only=True, slots=True, frozen=True)
class Band:
    """Keys that a query sees: those at most `left` before it and at most `right` after it, itself included; -1 is
    unbounded. Causal is `right=0`.

    alignment: where a row's first query stands among its keys: at the first ("top_left"), or so that the last query
    stands at the last key ("bottom_right", flash-attention's). They differ only where there are more keys than queries,
    or fewer. ALiBi measures its distances from there too. Segments bring their own alignment and do not ask for this.
    """

    left: int = UNBOUNDED
    right: int = UNBOUNDED
    alignment: Alignment = "bottom_right"

    def __post_init__(self) -> None:
        for name in ("left", "right"):
            if getattr(self, name) < UNBOUNDED:
                raise ValueError(f"band.{name} is {getattr(self, name)}; give a number of keys, or -1 for unbounded")

    @property
    def is_full(self) -> bool:
        return self.left == UNBOUNDED and self.right == UNBOUNDED


CAUSAL = Band(right=0)


@dataclass(kw_only=True, slots=True, frozen=True)
class Segments:
    """Stretches of rows whose queries see the keys of the same stretch alone: packed documents, or rows with padding.

    table_N6, int32, on the device of the tensors: row, first query, number of queries, first key, number of keys, and
    the position of the first query among the keys. What no segment covers is padding: it is never read, its output and
    gradients are 0. Segments may not overlap, neither in queries nor in keys. max_query_length, max_key_length: upper
    bounds, known on the host, so that nothing waits for the device.

    ValueError for a table or a bound of another kind. What the table says is checked where that costs nothing: on the
    CPU's path, when the attention is computed.
    """

    table_N6: Tensor
    max_query_length: int
    max_key_length: int

    def __post_init__(self) -> None:
        table = self.table_N6
        if table.ndim != 2 or table.shape[1] != 6 or table.dtype != torch.int32:
            raise ValueError(f"segments.table_N6 is {table.dtype} {list(table.shape)}; give int32 [segments, 6]")
        for name in ("max_query_length", "max_key_length"):
            if not isinstance(getattr(self, name), int | torch.SymInt) or getattr(self, name) < 0:
                raise ValueError(f"segments.{name} is {getattr(self, name)!r}; give a number of positions")

    @classmethod
    def packed(
        cls,
        cu_seqlens_query: Tensor,
        cu_seqlens_key: Tensor,
        *,
        max_query_length: int,
        max_key_length: int,
        padded_query: Tensor | None = None,
        padded_key: Tensor | None = None,
        alignment: Alignment = "bottom_right",
    ) -> "Segments":
        """Sequences one after another in one row (thd). cu_seqlens: int32 [N + 1], running sums of lengths; padded_*:
        the same of lengths with the gaps between, where there are gaps.
        """
        if cu_seqlens_query.shape != cu_seqlens_key.shape or cu_seqlens_query.ndim != 1:
            raise ValueError(
                f"cu_seqlens of queries {list(cu_seqlens_query.shape)} and keys {list(cu_seqlens_key.shape)} differ; "
                "give [sequences + 1] for both"
            )
        queries = cu_seqlens_query.diff()
        keys = cu_seqlens_key.diff()
        first_query = (cu_seqlens_query if padded_query is None else padded_query)[:-1]
        first_key = (cu_seqlens_key if padded_key is None else padded_key)[:-1]
        return cls(
            table_N6=_table(torch.zeros_like(queries), first_query, queries, first_key, keys, alignment),
            max_query_length=max_query_length,
            max_key_length=max_key_length,
        )

    @classmethod
    def of_lengths(
        cls,
        query_lengths_B: Tensor,
        key_lengths_B: Tensor,
        *,
        max_query_length: int,
        max_key_length: int,
        alignment: Alignment = "bottom_right",
    ) -> "Segments":
        """Rows that are filled up behind their first `length` positions: the padding begins there."""
        if query_lengths_B.shape != key_lengths_B.shape or query_lengths_B.ndim != 1:
            raise ValueError(
                f"lengths of queries {list(query_lengths_B.shape)} and keys {list(key_lengths_B.shape)} differ; "
                "give [rows] for both"
            )
        rows = torch.arange(len(query_lengths_B), device=query_lengths_B.device)
        zeros = torch.zeros_like(rows)
        return cls(
            table_N6=_table(rows, zeros, query_lengths_B, zeros, key_lengths_B, alignment),
            max_query_length=max_query_length,
            max_key_length=max_key_length,
        )

    @classmethod
    def shifted(
        cls, first_position: int, *, num_rows: int, num_queries: int, num_keys: int, device: torch.device | str
    ) -> "Segments":
        """Whole rows whose queries begin at `first_position` among the keys: a stretch of queries against the keys of
        the whole sequence, as a context-parallel rank holds them. Nothing waits for the device.
        """
        rows = torch.arange(num_rows, device=device, dtype=torch.int32)
        numbers = (0, num_queries, 0, num_keys, first_position)
        columns = [torch.full_like(rows, number) for number in numbers]
        return cls(table_N6=torch.stack([rows, *columns], dim=1), max_query_length=num_queries, max_key_length=num_keys)

    @property
    def key_lengths(self) -> Tensor:
        """Keys of each segment, int32 [N]."""
        return self.table_N6[:, 4]


def _table(
    rows: Tensor, first_query: Tensor, queries: Tensor, first_key: Tensor, keys: Tensor, alignment: Alignment
) -> Tensor:
    shift = keys - queries if alignment == "bottom_right" else torch.zeros_like(keys)
    return torch.stack([rows, first_query, queries, first_key, keys, shift], dim=1).to(torch.int32)


def minus_log(length: int) -> float:
    """-log n, the bias at which the weights of a row add up to about 1 (arXiv 2409.04431). n is at least 1."""
    return -math.log(max(length, 1))


def minus_log_of_each(segments: Segments) -> Tensor:
    """-log n with n the keys of each segment, fp32 [N, 1], computed where the segments are: packed rows then equal rows
    by themselves, to the bit. The paper keeps n fixed.
    """
    return -segments.key_lengths.clamp(min=1).double().log().float()[:, None]  # rounded as `minus_log` is


@dataclass(kw_only=True, slots=True, frozen=True)
class Problem:
    """One call as the kernels take it, resolved on the host: numbers, and small tensors that lie beside the large ones.

    bias_value and bias_NH, fp32, add up; None is 0. slopes_NH: ALiBi's, fp32, or None. left, right: as in `Band`.
    Without a table every row is one segment, and `shift` is the position of its first query among its keys.
    """

    scale: float
    bias_value: float
    left: int
    right: int
    shift: int
    max_query_length: int
    max_key_length: int
    sigmoid: Sigmoid
    bias_NH: Tensor | None = None
    slopes_NH: Tensor | None = None
    table_N6: Tensor | None = None


def output_like(query_BSHD: Tensor, size: int) -> Tensor:
    """An unfilled [B, S, H, size] that lies in memory as the queries do: rows first, or positions first."""
    rows, positions, heads, _ = query_BSHD.shape
    if query_BSHD.stride(0) < query_BSHD.stride(1):
        return query_BSHD.new_empty(positions, rows, heads, size).transpose(0, 1)
    return query_BSHD.new_empty(rows, positions, heads, size)
