"""Softmax attention's backend: torch's scaled_dot_product_attention.

Shape legend: B rows, S and T positions of queries and keys, H query heads, G key-value heads, D head dimension of
queries and keys, E of values, N segments.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from triptych.kernels.flash_sigmoid.problem import Band, Segments
from triptych.models.attention.registry.registry import Backend
from triptych.models.attention.registry.request import AttentionCall, AttentionRequest


def softmax_backends() -> Iterator[Backend]:
    """torch's own attention, which picks among kernels of its own."""
    yield Backend(name="sdpa", function="softmax", refusal=sdpa_reason, attend=sdpa)


def sdpa_reason(request: AttentionRequest) -> str | None:
    """Why torch's attention, as `sdpa` calls it, cannot do it, or None."""
    if request.dropout and request.training:
        return f"dropout of weights ({request.dropout:g}) is not built"
    if request.softcap:
        return f"softcap ({request.softcap:g}) is not part of torch's attention"
    if request.additive_bias or request.arbitrary_mask:
        return "a matrix added to the scores, or a mask of single pairs, is not part of a call"
    if request.context_parallel_size > 1:
        return "it sees one shard of the sequence alone, and a row's sum needs all; set context parallel size to 1"
    adds = request.device == "cuda" and request.training and not torch.are_deterministic_algorithms_enabled()
    if request.deterministic and adds:
        return "its backward pass on CUDA adds in any order; call torch.use_deterministic_algorithms(True)"
    return None


def sdpa(query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, call: AttentionCall) -> Tensor:
    """softmax(scale Q K^T - slopes |i - j|) V over the visible keys: [B, S, H, E]. Memory is linear in the length
    without a mask or with the square causal one; another mask is laid out in full.
    """
    groups = query_BSHD.shape[2] != key_BTGD.shape[2]
    query, key, value = (x.transpose(1, 2) for x in (query_BSHD, key_BTGD, value_BTGE))
    if call.segments is None and call.slopes is None and _is_simple(call.band, query.shape[2], key.shape[2]):
        causal = not call.band.is_full
        out = functional.scaled_dot_product_attention(
            query, key, value, is_causal=causal, scale=call.scale, enable_gqa=groups
        )
        return out.transpose(1, 2)
    segments = call.segments or _whole_rows(query_BSHD, key_BTGD, call.band)
    of_query_BS, i_BS = _positions(segments, query_BSHD.shape[:2], first=1, shift=5)
    of_key_BT, j_BT = _positions(segments, key_BTGD.shape[:2], first=3)
    i, j = i_BS[:, None, :, None], j_BT[:, None, None, :]
    visible = (of_query_BS[:, None, :, None] == of_key_BT[:, None, None, :]) & (of_key_BT >= 0)[:, None, None, :]
    if call.band.left >= 0:
        visible = visible & (j >= i - call.band.left)
    if call.band.right >= 0:
        visible = visible & (j <= i + call.band.right)
    seeing_B1S1 = visible.any(-1, keepdim=True)
    # A row that sees nothing would be 0 / 0; it sees all, and its output is dropped. Padding may hold NaN: 0 instead.
    mask = torch.where(visible | ~seeing_B1S1, 0.0, -torch.inf)
    if call.slopes is not None:
        slopes_NH = call.slopes.broadcast_to(segments.table_N6.shape[0], query.shape[1])
        mask = mask - slopes_NH[of_query_BS.clamp(min=0)].transpose(1, 2)[..., None] * (i - j).abs()
    query = query.masked_fill((of_query_BS < 0)[:, None, :, None], 0)
    key, value = (x.masked_fill((of_key_BT < 0)[:, None, :, None], 0) for x in (key, value))
    out = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask.to(query.dtype), scale=call.scale, enable_gqa=groups
    )
    return out.masked_fill(~seeing_B1S1, 0).transpose(1, 2)


def _is_simple(band: Band, num_queries: int, num_keys: int) -> bool:
    """Whether torch needs no mask laid out: none at all, or causal where both alignments are one."""
    return band.is_full or ((band.left, band.right) == (-1, 0) and num_queries == num_keys)


def _whole_rows(query_BSHD: Tensor, key_BTGD: Tensor, band: Band) -> Segments:
    rows, num_queries, num_keys = query_BSHD.shape[0], query_BSHD.shape[1], key_BTGD.shape[1]
    lengths = torch.ones(rows, dtype=torch.int32, device=query_BSHD.device)
    return Segments.of_lengths(
        lengths * num_queries,
        lengths * num_keys,
        max_query_length=num_queries,
        max_key_length=num_keys,
        alignment=band.alignment,
    )


def _positions(segments: Segments, shape: torch.Size, *, first: int, shift: int | None = None) -> tuple[Tensor, Tensor]:
    """For each place of a [B, S] the segment that it belongs to, -1 for none, and its position within, from `shift` on.
    first: column of the table that holds the first place; the next one holds the number.
    """
    table = segments.table_N6.long()
    place = torch.arange(shape[1], device=table.device)
    inside_NS = (place >= table[:, first, None]) & (place < (table[:, first] + table[:, first + 1])[:, None])
    inside_BNS = inside_NS & (table[:, 0] == torch.arange(shape[0], device=table.device)[:, None])[..., None]
    if not table.shape[0]:
        return place.new_full(shape, -1), place.expand(shape)
    segment_BS = torch.where(inside_BNS.any(1), inside_BNS.int().argmax(1), -1)
    start_N = table[:, first] - (0 if shift is None else table[:, shift])
    return segment_BS, place - start_N[segment_BS.clamp(min=0)]
