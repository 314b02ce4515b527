"""Sigmoid attention over a sequence that is split over ranks.

Weights of a row need no sum over the row, so that a rank is done once it has seen all keys: keys and values are
gathered, each chunk of the rank's queries attends from its position in the whole, and their gradients are summed over
the ranks on the way back. Partial outputs over parts of the keys would simply add up.

Shape legend: R ranks, B rows, S positions of a rank, T = R * S of the whole, C of a chunk, H query heads, G key-value
heads, D head dimension of queries and keys, E of values.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from triptych.kernels.flash_sigmoid.attention import sigmoid_attention
from triptych.kernels.flash_sigmoid.operator import Kernel
from triptych.kernels.flash_sigmoid.problem import Band, Segments, Sigmoid, minus_log

Order = Literal["contiguous", "dual_chunk_swap"]
"""Which chunks of the sequence a rank holds: the r-th of R; or, so that causal attention is as much work on all, the
r-th and the (2 R - 1 - r)-th of 2 R, in this order (Transformer Engine's, and megatron-core's, for every mask).
"""


def context_parallel_attention(
    query_BSHD: Tensor,
    key_BSGD: Tensor,
    value_BSGE: Tensor,
    group: ProcessGroup,
    *,
    order: Order = "dual_chunk_swap",
    bias: float | Tensor | Literal["-log n"] = "-log n",
    scale: float | None = None,
    band: Band | None = None,
    slopes: Tensor | None = None,
    sigmoid: Sigmoid = "accurate",
    kernel: Kernel | None = None,
) -> Tensor:
    """This rank's part of sigmoid self-attention over the whole sequence: [B, S, H, E].

    Every rank of `group` calls it, with as many positions. Arguments are `sigmoid_attention`'s; "-log n" takes the n of
    the whole. Gradients of keys and values are summed over the ranks in fp32; that of a tensor bias is this rank's
    share, to be summed over the group with those of the model's other parameters.

    The gathered keys and values are kept for the backward pass, unless the call is made under activation checkpointing,
    which gathers them again. Packed sequences are not taken: each would be split over the ranks by itself.

    ValueError where the order is unknown, the positions do not fill the chunks, or queries and keys differ in number.
    """
    band = band or Band()
    num_positions, num_ranks = query_BSHD.shape[1], group.size()
    chunks = chunks_of(order, num_ranks)
    per_rank = len(chunks) // num_ranks
    if key_BSGD.shape[1] != num_positions:
        raise ValueError(
            f"this rank has {num_positions} queries and {key_BSGD.shape[1]} keys; context parallelism is for "
            "self-attention, so give it as many of either"
        )
    if num_positions % per_rank:
        raise ValueError(
            f"{num_positions} positions of a rank do not divide into {per_rank} chunks; pad the sequence to a multiple "
            f"of {len(chunks)}, or take order=contiguous"
        )
    size, total = num_positions // per_rank, num_positions * num_ranks
    bias = _of_the_whole(bias, total)
    mine = chunks[group.rank() * per_rank : (group.rank() + 1) * per_rank]
    spans = [_visible_span(chunk * size, size, total, band) for chunk in mine]
    keys, values = (_GatheredSpans.apply(x, group, chunks, spans) for x in (key_BSGD, value_BSGE))
    outputs = [
        sigmoid_attention(
            query_BCHD,
            key,
            value,
            bias=bias,
            scale=scale,
            band=band,
            segments=Segments.shifted(
                chunk * size - first,
                num_rows=query_BCHD.shape[0],
                num_queries=size,
                num_keys=key.shape[1],
                device=query_BCHD.device,
            ),
            slopes=slopes,
            sigmoid=sigmoid,
            kernel=kernel,
        )
        for query_BCHD, key, value, chunk, (first, _) in zip(
            query_BSHD.split(size, 1), keys, values, mine, spans, strict=True
        )
    ]
    return torch.cat(outputs, 1)


def chunks_of(order: Order, num_ranks: int) -> list[int]:
    """Numbers of the chunks of the whole, in the order in which the ranks hold them, rank after rank."""
    match order:
        case "contiguous":
            return list(range(num_ranks))
        case "dual_chunk_swap":
            return [chunk for rank in range(num_ranks) for chunk in (rank, 2 * num_ranks - 1 - rank)]
    raise ValueError(f"order is {order!r}; take one of {', '.join(get_args(Order))}")


def part_of_rank(whole: Tensor, rank: int, num_ranks: int, *, order: Order, dim: int) -> Tensor:
    """What a rank holds of a whole sequence along `dim`: how inputs are cut, and outputs compared."""
    chunks = chunks_of(order, num_ranks)
    per_rank = len(chunks) // num_ranks
    pieces = whole.chunk(len(chunks), dim)
    return torch.cat([pieces[chunk] for chunk in chunks[rank * per_rank : (rank + 1) * per_rank]], dim)


def _of_the_whole(bias: float | Tensor | str, num_keys: int) -> float | Tensor:
    """-log n resolved here: a rank's call sees a part of the keys."""
    if not isinstance(bias, str):
        return bias
    if bias != "-log n":
        raise ValueError(f'bias is {bias!r}; give a number, a tensor or "-log n" under context parallelism')
    return minus_log(num_keys)


def _visible_span(first_query: int, num_queries: int, total: int, band: Band) -> tuple[int, int]:
    """The keys, [first, last), that some query of a chunk sees."""
    first = 0 if band.left < 0 else max(0, first_query - band.left)
    last = total if band.right < 0 else min(total, first_query + num_queries + band.right)
    return first, last


class _GatheredSpans(torch.autograd.Function):
    """Spans of the whole sequence, gathered from the ranks' parts; they may overlap. Backward: their gradients, summed
    over spans and ranks in fp32, and scattered.
    """

    @staticmethod
    def forward(
        ctx: Any, x_BSGD: Tensor, group: ProcessGroup, chunks: list[int], spans: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, ...]:
        ctx.group, ctx.chunks, ctx.spans, ctx.dtype = group, chunks, spans, x_BSGD.dtype
        own_SBGD = x_BSGD.transpose(0, 1).contiguous()
        gathered = own_SBGD.new_empty(group.size() * own_SBGD.shape[0], *own_SBGD.shape[1:])
        dist.all_gather_into_tensor(gathered, own_SBGD, group=group)
        whole_TBGD = _ordered(gathered, _places(chunks))
        ctx.shape = whole_TBGD.shape
        return tuple(whole_TBGD[first:last].transpose(0, 1) for first, last in spans)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        total_TBGD = grads[0].new_zeros(ctx.shape, dtype=torch.float32)
        for grad_BTGD, (first, last) in zip(grads, ctx.spans, strict=True):
            total_TBGD[first:last] += grad_BTGD.transpose(0, 1)
        by_rank = _ordered(total_TBGD, ctx.chunks)
        own_SBGD = by_rank.new_empty(ctx.shape[0] // ctx.group.size(), *ctx.shape[1:])
        dist.reduce_scatter_tensor(own_SBGD, by_rank, group=ctx.group)
        return own_SBGD.to(ctx.dtype).transpose(0, 1), None, None, None


def _ordered(x: Tensor, places: list[int]) -> Tensor:
    """Chunks of the first dimension in another order: the i-th is taken from `places[i]`."""
    if places == list(range(len(places))):
        return x
    pieces = x.chunk(len(places))
    return torch.cat([pieces[place] for place in places])


def _places(chunks: list[int]) -> list[int]:
    """Where each chunk of the whole stands among the ranks' parts: the inverse of the order."""
    return sorted(range(len(chunks)), key=chunks.__getitem__)
