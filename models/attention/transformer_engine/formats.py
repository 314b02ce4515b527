"""Transformer Engine's tensor formats as rows of positions, and back; sequences of different lengths as segments.

Shape legend: B rows, S and T positions of queries and keys, H heads, G key-value heads, D head dimension, E that of
values, N sequences.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from triptych.kernels.flash_sigmoid.problem import Alignment, Segments
from triptych.models.attention.transformer_engine.masks import stretches_of

FORMATS = ("sbhd", "bshd", "thd")
Layers = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Queries, keys and values, as far as they are given."""


def canonical_format(name: str) -> str:
    """One of `FORMATS`. ValueError, naming qkv_format, for another."""
    if name not in FORMATS:
        raise ValueError(f"qkv_format is {name!r}; give one of {', '.join(FORMATS)}")
    return name


def separate(
    layers: Layers, qkv_layer: Tensor | None, kv_layer: Tensor | None, interleave_dim: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, as views, of whichever way they came: each by itself, or keys and values, or all three,
    in one tensor at dimension -3 (before the heads) or -2 (behind them).
    """
    query, key, value = layers
    if qkv_layer is not None:
        if kv_layer is not None or any(layer is not None for layer in layers):
            raise ValueError("qkv_layer holds queries, keys and values; leave the other layers out")
        query, key, value = _parts("qkv_layer", qkv_layer, 3, interleave_dim)
    elif kv_layer is not None:
        if key is not None or value is not None:
            raise ValueError("kv_layer holds keys and values; leave key_layer and value_layer out")
        key, value = _parts("kv_layer", kv_layer, 2, interleave_dim)
    if query is None or key is None or value is None:
        raise ValueError("query_layer, key_layer or value_layer is missing; give all three, or a packed tensor")
    return query, key, value


def _parts(name: str, packed: Tensor, num_parts: int, dim: int) -> tuple[Tensor, ...]:
    if dim not in (-3, -2):
        raise ValueError(f"qkv_interleave_dim is {dim}; give -3 or -2")
    if packed.ndim < 3 or packed.shape[dim] != num_parts:
        raise ValueError(
            f"{name} {list(packed.shape)} has not {num_parts} parts at dimension {dim}; check qkv_interleave_dim"
        )
    return packed.unbind(dim)


def to_rows(name: str, layer: Tensor, qkv_format: str) -> Tensor:
    """[B, S, H, D], a view; the sequences of thd are one row. Copied only where the last dimension is strided."""
    if hasattr(layer, "_quantizer"):
        raise ValueError(f"{name} is quantized, and sigmoid attention has no fp8; leave attention in bf16")
    expected = 3 if qkv_format == "thd" else 4
    if layer.ndim != expected:
        raise ValueError(f"{name} has {layer.ndim} dimensions; {qkv_format} has {expected}")
    layer = layer if layer.stride(-1) == 1 else layer.contiguous()
    if qkv_format == "thd":
        return layer[None]
    return layer.transpose(0, 1) if qkv_format == "sbhd" else layer


def from_rows(out_BSHE: Tensor, qkv_format: str) -> Tensor:
    """[S, B, H * E], [B, S, H * E] or [T, H * E]."""
    if qkv_format == "thd":
        return out_BSHE[0].flatten(1)
    return (out_BSHE.transpose(0, 1) if qkv_format == "sbhd" else out_BSHE).flatten(2)


@dataclass(kw_only=True, slots=True, frozen=True)
class Lengths:
    """How long the sequences are, in the words of a call."""

    attention_mask: Tensor | tuple[Tensor, Tensor] | None
    cu_seqlens_q: Tensor | None
    cu_seqlens_kv: Tensor | None
    cu_seqlens_q_padded: Tensor | None
    cu_seqlens_kv_padded: Tensor | None
    max_seqlen_q: int | None
    max_seqlen_kv: int | None
    pad_between_seqs: bool | None

    def packed(self, alignment: Alignment) -> Segments:
        """Sequences of thd. Waits for the device where max_seqlen_q or max_seqlen_kv is not given."""
        queries, keys = self.cu_seqlens_q, self.cu_seqlens_kv
        if queries is None or keys is None:
            raise ValueError("qkv_format is thd without cu_seqlens_q and cu_seqlens_kv; give both")
        if self.pad_between_seqs and (self.cu_seqlens_q_padded is None or self.cu_seqlens_kv_padded is None):
            raise ValueError("pad_between_seqs is set; give cu_seqlens_q_padded and cu_seqlens_kv_padded too")
        for name in ("cu_seqlens_q", "cu_seqlens_kv", "cu_seqlens_q_padded", "cu_seqlens_kv_padded"):
            given = getattr(self, name)
            if given is not None and (given.dtype != torch.int32 or given.shape != queries.shape):
                raise ValueError(
                    f"{name} is {given.dtype} {list(given.shape)}; give int32 [sequences + 1], as many for all"
                )
        return Segments.packed(
            queries,
            keys,
            max_query_length=_longest(queries) if self.max_seqlen_q is None else self.max_seqlen_q,
            max_key_length=_longest(keys) if self.max_seqlen_kv is None else self.max_seqlen_kv,
            padded_query=self.cu_seqlens_q_padded,
            padded_key=self.cu_seqlens_kv_padded,
            alignment=alignment,
        )

    def padded(self, num_rows: int, num_queries: int, num_keys: int, alignment: Alignment) -> Segments:
        """Rows of sbhd or bshd that are filled up. Running sums of lengths come before masks."""
        mask = self.attention_mask
        query_mask, key_mask = mask if isinstance(mask, tuple | list) else (mask, mask)
        first_query, queries = _stretches("q", self.cu_seqlens_q, query_mask, num_rows, num_queries)
        first_key, keys = _stretches("kv", self.cu_seqlens_kv, key_mask, num_rows, num_keys)
        shift = keys - queries if alignment == "bottom_right" else torch.zeros_like(keys)
        rows = torch.arange(num_rows, device=queries.device)
        table_N6 = torch.stack([rows, first_query, queries, first_key, keys, shift], dim=1).to(torch.int32)
        return Segments(table_N6=table_N6, max_query_length=num_queries, max_key_length=num_keys)


def _stretches(
    side: str, cu_seqlens: Tensor | None, mask: Tensor | None, num_rows: int, num_positions: int
) -> tuple[Tensor, Tensor]:
    """First position and number of positions of each row, [B]."""
    if cu_seqlens is not None:
        if cu_seqlens.dtype != torch.int32 or list(cu_seqlens.shape) != [num_rows + 1]:
            raise ValueError(
                f"cu_seqlens_{side} is {cu_seqlens.dtype} {list(cu_seqlens.shape)}; give int32 [{num_rows + 1}]"
            )
        lengths = cu_seqlens.diff()
        return torch.zeros_like(lengths), lengths
    if mask is None:
        raise ValueError(
            f"attn_mask_type has padding, but neither attention_mask nor cu_seqlens_{side} is given; give one"
        )
    return stretches_of("attention_mask", mask, num_rows, num_positions)


def _longest(cu_seqlens: Tensor) -> int:
    return int(cu_seqlens.diff().max()) if len(cu_seqlens) > 1 else 0
