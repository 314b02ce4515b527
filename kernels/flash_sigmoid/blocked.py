"""Sigmoid attention in blocks, in PyTorch's own operations: memory linear in the sequence length, on any device.

The path of the CPU, and of whatever the kernels do not do. Products accumulate in fp32 whatever the inputs are.

Shape legend: X heads of all rows, X = B * H; S, T positions of queries and keys; M, J those of a block; D, E head
dimensions of keys and values; G key-value heads; N segments.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from triptych.kernels.flash_sigmoid.problem import Problem, output_like

_SCORES_PER_BLOCK = 1 << 19
"""Our choice, measured: 2 MiB of fp32 scores stay in a core's cache between the products."""
_KEYS_PER_BLOCK = 512


@dataclass(slots=True, frozen=True)
class _Segment:
    """Rows, queries and keys that belong together, and their bias and slopes, [heads of those rows, 1, 1] or a number."""

    rows: slice
    queries: slice
    keys: slice
    shift: int
    bias: Tensor | float
    slopes_X11: Tensor | None


@dataclass(slots=True, frozen=True)
class _Block:
    """Positions of a block within its segment. partial: some of its pairs are not visible."""

    queries: slice
    keys: slice
    partial: bool


def forward(query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, problem: Problem) -> Tensor:
    """O [B, S, H, E] in the dtype of the queries."""
    out_BSHE = output_like(query_BSHD, value_BTGE.shape[3]).zero_()
    num_heads = query_BSHD.shape[2]
    for segment in _segments(query_BSHD, key_BTGD, problem):
        query_XSD = _by_head(query_BSHD[segment.rows, segment.queries], num_heads)
        key_XTD = _by_head(key_BTGD[segment.rows, segment.keys], num_heads)
        value_XTE = _by_head(value_BTGE[segment.rows, segment.keys], num_heads)
        out_XSE = query_XSD.new_zeros(*query_XSD.shape[:2], value_XTE.shape[2])
        for heads, block in _blocks(query_XSD, key_XTD, segment.shift, problem):
            weights_XMJ = _weights(
                query_XSD[heads, block.queries], key_XTD[heads, block.keys], segment, heads, block, problem
            )
            out_XSE[heads, block.queries].baddbmm_(weights_XMJ, value_XTE[heads, block.keys])
        out_BSHE[segment.rows, segment.queries] = _by_position(out_XSE, num_heads)
    return out_BSHE


def backward(
    grad_BSHE: Tensor, query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, problem: Problem
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of queries, keys and values, and of bias_NH where there is one. The weights are computed again; neither
    the output nor a statistic of a row is needed.
    """
    num_heads, num_groups = query_BSHD.shape[2], key_BTGD.shape[2]
    grad_query, grad_key, grad_value = (torch.zeros_like(x) for x in (query_BSHD, key_BTGD, value_BTGE))
    grad_bias = (
        None if problem.bias_NH is None else torch.zeros_like(problem.bias_NH, memory_format=torch.contiguous_format)
    )
    for n, segment in enumerate(_segments(query_BSHD, key_BTGD, problem)):
        query_XSD = _by_head(query_BSHD[segment.rows, segment.queries], num_heads)
        key_XTD = _by_head(key_BTGD[segment.rows, segment.keys], num_heads)
        value_XTE = _by_head(value_BTGE[segment.rows, segment.keys], num_heads)
        grad_XSE = _by_head(grad_BSHE[segment.rows, segment.queries], num_heads)
        dq_XSD, dk_XTD, dv_XTE = (torch.zeros_like(x) for x in (query_XSD, key_XTD, value_XTE))
        db_X = query_XSD.new_zeros(query_XSD.shape[0])
        for heads, block in _blocks(query_XSD, key_XTD, segment.shift, problem):
            m, j = (heads, block.queries), (heads, block.keys)
            weights_XMJ = _weights(query_XSD[m], key_XTD[j], segment, heads, block, problem)
            dv_XTE[j].baddbmm_(weights_XMJ.mT, grad_XSE[m])
            dp_XMJ = grad_XSE[m] @ value_XTE[j].mT
            ds_XMJ = torch.ops.aten.sigmoid_backward(dp_XMJ, weights_XMJ)  # dP P (1 - P): 0 where P is
            dq_XSD[m].baddbmm_(ds_XMJ, key_XTD[j], alpha=problem.scale)
            dk_XTD[j].baddbmm_(ds_XMJ.mT, query_XSD[m], alpha=problem.scale)
            if grad_bias is not None:
                db_X[heads] += ds_XMJ.sum((1, 2))
        grad_query[segment.rows, segment.queries] = _by_position(dq_XSD, num_heads)
        grad_key[segment.rows, segment.keys] = _by_position(dk_XTD, num_heads, num_groups)
        grad_value[segment.rows, segment.keys] = _by_position(dv_XTE, num_heads, num_groups)
        if grad_bias is not None:
            grad_bias[_bias_rows(problem, n)] = db_X.view(-1, num_heads)
    return grad_query, grad_key, grad_value, grad_bias


def _segments(query_BSHD: Tensor, key_BTGD: Tensor, problem: Problem) -> Iterator[_Segment]:
    """All rows at once where there is no table, else one segment after another."""
    whole = slice(None)
    if problem.table_N6 is None:
        yield _Segment(whole, whole, whole, problem.shift, *_biases(problem, whole))
        return
    for n, (row, first_query, queries, first_key, keys, shift) in enumerate(problem.table_N6.tolist()):
        if queries and keys:
            yield _Segment(
                slice(row, row + 1),
                slice(first_query, first_query + queries),
                slice(first_key, first_key + keys),
                shift,
                *_biases(problem, slice(n, n + 1)),
            )


def _biases(problem: Problem, rows: slice) -> tuple[Tensor | float, Tensor | None]:
    bias: Tensor | float = problem.bias_value
    if problem.bias_NH is not None:
        bias = problem.bias_NH[rows].reshape(-1, 1, 1) + problem.bias_value
    return bias, None if problem.slopes_NH is None else problem.slopes_NH[rows].reshape(-1, 1, 1)


def _blocks(query_XSD: Tensor, key_XTD: Tensor, shift: int, problem: Problem) -> Iterator[tuple[slice, _Block]]:
    """Heads and positions of every block that has a visible pair."""
    num_heads, num_queries, num_keys = query_XSD.shape[0], query_XSD.shape[1], key_XTD.shape[1]
    keys_at_once = min(num_keys, _KEYS_PER_BLOCK)
    queries_at_once = min(num_queries, max(_SCORES_PER_BLOCK // keys_at_once, 1), _KEYS_PER_BLOCK)
    heads_at_once = max(_SCORES_PER_BLOCK // (keys_at_once * queries_at_once), torch.get_num_threads())
    for head in range(0, num_heads, heads_at_once):
        for first in range(0, num_queries, queries_at_once):
            queries = slice(first, min(first + queries_at_once, num_queries))
            for keys, partial in _visible_keys(queries, num_keys, keys_at_once, shift, problem):
                yield slice(head, head + heads_at_once), _Block(queries, keys, partial)


def _visible_keys(
    queries: slice, num_keys: int, at_once: int, shift: int, problem: Problem
) -> Iterator[tuple[slice, bool]]:
    """Blocks of keys that some of the queries see, and whether one of them does not see all."""
    first, last = queries.start + shift, queries.stop - 1 + shift
    begin = 0 if problem.left < 0 else max(first - problem.left, 0)
    end = num_keys if problem.right < 0 else min(last + problem.right + 1, num_keys)
    for start in range(begin, end, at_once):
        stop = min(start + at_once, end)
        beyond_left = problem.left >= 0 and start < last - problem.left
        beyond_right = problem.right >= 0 and stop - 1 > first + problem.right
        yield slice(start, stop), beyond_left or beyond_right


def _weights(
    query_XMD: Tensor, key_XJD: Tensor, segment: _Segment, heads: slice, block: _Block, problem: Problem
) -> Tensor:
    """P of one block, fp32: 0 where a pair is not visible."""
    bias = segment.bias[heads] if isinstance(segment.bias, Tensor) else query_XMD.new_full((1, 1, 1), segment.bias)
    weights_XMJ = torch.baddbmm(bias, query_XMD, key_XJD.mT, alpha=problem.scale)
    if segment.slopes_X11 is None and not block.partial:
        return weights_XMJ.sigmoid_()
    i = torch.arange(block.queries.start, block.queries.stop, device=query_XMD.device)[:, None] + segment.shift
    j = torch.arange(block.keys.start, block.keys.stop, device=query_XMD.device)[None, :]
    if segment.slopes_X11 is not None:
        weights_XMJ.addcmul_(segment.slopes_X11[heads], (i - j).abs().float(), value=-1)
    weights_XMJ.sigmoid_()
    if block.partial and problem.left >= 0:
        weights_XMJ.masked_fill_(j < i - problem.left, 0)
    if block.partial and problem.right >= 0:
        weights_XMJ.masked_fill_(j > i + problem.right, 0)
    return weights_XMJ


def _bias_rows(problem: Problem, segment: int) -> slice:
    return slice(None) if problem.table_N6 is None else slice(segment, segment + 1)


def _by_head(x_BSGD: Tensor, num_heads: int) -> Tensor:
    """[B, S, G, D] to [B * H, S, D] in fp32, a group's keys or values once for each of its queries' heads."""
    rows, positions, groups, size = x_BSGD.shape
    x_BGRSD = x_BSGD.permute(0, 2, 1, 3)[:, :, None].expand(-1, -1, num_heads // groups, -1, -1)
    return x_BGRSD.reshape(rows * num_heads, positions, size).float()


def _by_position(x_XSD: Tensor, num_heads: int, num_groups: int | None = None) -> Tensor:
    """[B * H, S, D] to [B, S, H, D]; with num_groups, summed over the heads of a group, to [B, S, G, D]."""
    x_BHSD = x_XSD.view(-1, num_heads, *x_XSD.shape[1:])
    if num_groups is not None and num_groups != num_heads:
        x_BHSD = x_BHSD.unflatten(1, (num_groups, -1)).sum(2)
    return x_BHSD.transpose(1, 2)
