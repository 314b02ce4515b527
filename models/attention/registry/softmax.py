"""Softmax attention's backends, both torch's: scaled_dot_product_attention, and varlen_attn for packed rows on a GPU.

Shape legend: B rows, S and T positions of queries and keys, P positions of all rows one after another, H query heads, G
key-value heads, D head dimension of queries and keys, E of values, N segments.
"""

import importlib.util
import inspect
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from triptych.kernels.flash_sigmoid.problem import Band, Segments
from triptych.models.attention.registry.layout import SegmentLayout, SegmentSide
from triptych.models.attention.registry.registry import Backend
from triptych.models.attention.registry.request import AttentionCall, AttentionRequest

_VARLEN = "torch.nn.attention.varlen"
_MAX_HEAD_DIM = 256
_MIN_CAPABILITY = (8, 0)


def softmax_backends() -> Iterator[Backend]:
    """torch's own attention, which picks among kernels of its own; packed rows by their lengths where it can."""
    yield Backend(name="varlen", function="softmax", refusal=varlen_reason, attend=varlen)
    yield Backend(name="sdpa", function="softmax", refusal=sdpa_reason, attend=sdpa)


def _function_reason(request: AttentionRequest) -> str | None:
    """What neither does."""
    if request.dropout and request.training:
        return f"dropout of weights ({request.dropout:g}) is not built"
    if request.softcap:
        return f"softcap ({request.softcap:g}) is not part of torch's attention"
    if request.additive_bias or request.arbitrary_mask:
        return "a matrix added to the scores, or a mask of single pairs, is not part of a call"
    return None


def sdpa_reason(request: AttentionRequest) -> str | None:
    """Why torch's attention, as `sdpa` calls it, cannot do it, or None."""
    return _function_reason(request) or _reason_of_process(request)


def _reason_of_process(request: AttentionRequest) -> str | None:
    """What neither does in this process, or among these ranks."""
    if request.context_parallel_size > 1:
        return "it sees one shard of the sequence alone, and a row's sum needs all; set context parallel size to 1"
    adds = request.device == "cuda" and request.training and not torch.are_deterministic_algorithms_enabled()
    if request.deterministic and adds:
        return "its backward pass on CUDA adds in any order; call torch.use_deterministic_algorithms(True)"
    return None


def varlen_reason(request: AttentionRequest) -> str | None:
    """Why torch's attention of packed sequences, as `varlen` calls it, cannot do it, or None."""
    reason = _function_reason(request)
    if reason is not None:
        return reason
    if request.device != "cuda":
        return f"it runs on CUDA, and the tensors are on {request.device}"
    if not request.packed:
        return "it is for rows that hold several sequences, and these hold one"
    if request.capability is not None and request.capability < _MIN_CAPABILITY:
        return f"FlashAttention needs compute capability 8.0, this GPU has {'.'.join(map(str, request.capability))}"
    if request.dtype not in (torch.float16, torch.bfloat16):
        return f"FlashAttention takes fp16 and bf16, and the tensors are {request.dtype}"
    keys, values = request.head_dims
    if keys != values or keys % 8 or keys > _MAX_HEAD_DIM:
        return (
            f"FlashAttention takes one head dimension, a multiple of 8 up to {_MAX_HEAD_DIM}, not {keys} and {values}"
        )
    if not request.band.is_full or request.alibi:
        return "causal masks, windows and ALiBi over packed rows are not handed on to it"
    if importlib.util.find_spec(_VARLEN) is None:
        return f"this torch has no {_VARLEN}; take torch 2.11 or later"
    return _reason_of_process(request)


def sdpa(query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, call: AttentionCall) -> Tensor:
    """softmax(scale Q K^T - slopes |i - j|) V over the visible keys: [B, S, H, E]. Memory is linear in the length
    without a mask, with the square causal one, and for segments on a CPU that have no other mask; else a mask is laid
    out in full.
    """
    if call.segments is None and call.slopes is None and _is_simple(call.band, query_BSHD.shape[1], key_BTGD.shape[1]):
        causal = not call.band.is_full
        return _attend(query_BSHD, key_BTGD, value_BTGE, call.scale, is_causal=causal)
    layout = _layout(query_BSHD, key_BTGD, call)
    if query_BSHD.device.type == "cpu" and call.slopes is None and call.band.is_full:
        return _by_length(query_BSHD, key_BTGD, value_BTGE, call.scale, layout)
    (of_query_BS, i_BS), (of_key_BT, j_BT) = layout.queries.places, layout.keys.places
    i, j = i_BS[:, None, :, None], j_BT[:, None, None, :]
    visible = layout.visible
    if call.band.left >= 0:
        visible = visible & (j >= i - call.band.left)
    if call.band.right >= 0:
        visible = visible & (j <= i + call.band.right)
    seeing_B1S1 = visible.any(-1, keepdim=True)
    # A row that sees nothing would be 0 / 0; it sees all, and its output is dropped. Padding may hold NaN: 0 instead.
    mask = torch.where(visible | ~seeing_B1S1, 0.0, -torch.inf)
    if call.slopes is not None:
        slopes_NH = call.slopes.broadcast_to(layout.segments.table_N6.shape[0], query_BSHD.shape[2])
        mask = mask - slopes_NH[of_query_BS.clamp(min=0)].transpose(1, 2)[..., None] * (i - j).abs()
    query = query_BSHD.masked_fill((of_query_BS < 0)[..., None, None], 0)
    key, value = (x.masked_fill((of_key_BT < 0)[..., None, None], 0) for x in (key_BTGD, value_BTGE))
    out = _attend(query, key, value, call.scale, attn_mask=mask.to(query.dtype))
    return out.masked_fill(~seeing_B1S1.transpose(1, 2), 0)


def varlen(query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, call: AttentionCall) -> Tensor:
    """softmax(scale Q K^T) V within each segment: [B, S, H, E], 0 in no segment; memory linear in the length. The
    segments must be in the order of their places, as those of packed rows are.

    What is in no segment is handed on as segments of their own. Where one is longer than the bounds of the segments,
    the kernel leaves its rest undefined, and so would be gradients: both are set to 0. Has not run on a GPU; checked
    are values and gradients with a stand-in of the same contract, and the real operator's shapes.
    """
    from torch.nn.attention.varlen import varlen_attn

    assert call.segments is not None
    layout = _layout(query_BSHD, key_BTGD, call)
    queries, keys = layout.queries, layout.keys
    query = _inside(query_BSHD, queries)
    key, value = _inside(key_BTGD, keys), _inside(value_BTGE, keys)
    options: dict[str, Any] = {"scale": call.scale}
    if query.shape[1] != key.shape[1]:
        if "enable_gqa" in inspect.signature(varlen_attn).parameters:  # from torch 2.12 on
            options["enable_gqa"] = True
        else:
            key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    bounds = (call.segments.max_query_length, call.segments.max_key_length)
    out_PHE: Any = varlen_attn(query, key, value, queries.edges, keys.edges, *bounds, **options)
    return out_PHE.masked_fill(queries.outside[:, None, None], 0).unflatten(0, query_BSHD.shape[:2])


def _inside(x_BSHD: Tensor, side: SegmentSide) -> Tensor:
    """[P, H, D]: 0 in no segment, and so are its gradients, whatever they are."""
    return x_BSHD.flatten(0, 1).masked_fill(side.outside[:, None, None], 0)


def _by_length(
    query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, scale: float | None, layout: SegmentLayout
) -> Tensor:
    """Segments of one length at a time. On one core of a CPU this took 0.02 to 0.8 of the time of one call with a mask,
    at all shapes that were tried (models/attention/results/packed_rows.md). What is in no segment is not read.
    """
    sizes, numbers = layout.queries.cuts
    key_sizes, key_numbers = layout.keys.cuts
    outs = list(query_BSHD.new_zeros(()).expand(sum(sizes), query_BSHD.shape[2], value_BTGE.shape[3]).split(sizes))
    queries = query_BSHD.flatten(0, 1).split(sizes)[1::2]
    keys, values = (x.flatten(0, 1).split(key_sizes)[1::2] for x in (key_BTGD, value_BTGE))
    place_of_key = {n: place for place, n in enumerate(key_numbers)}
    alike: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for place, n in enumerate(numbers):
        at = place_of_key[n]
        if len(queries[place]) and len(keys[at]):
            alike[len(queries[place]), len(keys[at])].append((place, at))
    for pairs in alike.values():
        query = torch.stack([queries[place] for place, _ in pairs])
        key, value = (torch.stack([x[at] for _, at in pairs]) for x in (keys, values))
        for (place, _), out in zip(pairs, _attend(query, key, value, scale), strict=True):
            outs[2 * place + 1] = out
    return torch.cat(outs).unflatten(0, query_BSHD.shape[:2])


def _attend(
    query_BSHD: Tensor,
    key_BTGD: Tensor,
    value_BTGE: Tensor,
    scale: float | None,
    *,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    """torch's function, whose heads come before positions."""
    query, key, value = (x.transpose(1, 2) for x in (query_BSHD, key_BTGD, value_BTGE))
    groups = query.shape[1] != key.shape[1]
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attn_mask, is_causal=is_causal, scale=scale, enable_gqa=groups
    ).transpose(1, 2)


def _layout(query_BSHD: Tensor, key_BTGD: Tensor, call: AttentionCall) -> SegmentLayout:
    """What the call brings, or its own."""
    if call.layout is not None:
        return call.layout
    segments = call.segments or _whole_rows(query_BSHD, key_BTGD, call.band)
    queries, keys = ((x.shape[0], x.shape[1]) for x in (query_BSHD, key_BTGD))
    return SegmentLayout(segments, queries, keys)


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
