"""Sigmoid attention in blocks, in PyTorch's own operations: memory linear in the sequence length, on any device.

The path of the CPU, and of whatever the kernels do not do. Products accumulate in fp32 whatever the inputs are. The
query heads that share a key-value head are rows of one matrix, so keys and values are never repeated, and their
gradients are summed by the products.

Shape legend: B rows, H query heads, G key-value heads, R = H / G; X = B * G; S, T positions of queries and keys,
L = S * R lines (position, head within the group); M, J positions of a block, K = M * R its lines; D, E head dimensions
of keys and values; N segments.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from triptych.kernels.flash_sigmoid.problem import Problem, output_like

_KEYS_PER_BLOCK = 512
_LINES_PER_BLOCK = 256
"""Measured on one core of an EPYC of 2024 with 1 MiB of L2 cache, fp32, both passes, D = 64, 2048 positions: full
attention is within 5 % of the best from 256 x 256 to 1024 x 512, and 10 % slower at 128 x 512; causal attention is 12 %
slower with 512 lines and 45 % with 1024, which see more of what is hidden. Nine tenths are products. Compiling the body
to C++ (torch.compile) took 9 to 32 % longer forward and -10 to 15 % longer backward than these operations in turn,
in one run beside other work.
"""
_SCORES_PER_BLOCK = 1 << 18
"""1 MiB of fp32: one block of long rows, or several heads of short ones. Four times as much was 30 % slower."""


@dataclass(kw_only=True, slots=True, frozen=True)
class _Segment:
    """Rows, queries and keys that belong together. numbers: the rows of bias_NH and slopes_NH that are theirs."""

    rows: slice
    queries: slice
    keys: slice
    numbers: slice
    shift: int
    per_group: int

    def fits(self, num_rows: int, num_queries: int, num_keys: int) -> bool:
        bounds = ((self.rows, num_rows), (self.queries, num_queries), (self.keys, num_keys))
        return all(0 <= part.start <= part.stop <= size for part, size in bounds)

    def per_head(self, values_NH: Tensor) -> Tensor:
        """[X, R]."""
        return values_NH[self.numbers].reshape(-1, self.per_group)


@dataclass(slots=True, frozen=True)
class _Block:
    """A part of a segment: some of X, positions of queries and keys. partial: some of its pairs are not visible."""

    groups: slice
    queries: slice
    keys: slice
    partial: bool

    def places(self, per_group: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Where it lies in what has lines, and in what has keys."""
        lines = slice(self.queries.start * per_group, self.queries.stop * per_group)
        return (self.groups, lines), (self.groups, self.keys)


def forward(query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, problem: Problem) -> Tensor:
    """O [B, S, H, E] in the dtype of the queries."""
    num_groups = key_BTGD.shape[2]
    out_BSHE = output_like(query_BSHD, value_BTGE.shape[3])
    if not _covers_all(query_BSHD, key_BTGD, problem):
        out_BSHE.zero_()
    for segment in _segments(query_BSHD, key_BTGD, problem):
        query_XLD = _by_group(query_BSHD[segment.rows, segment.queries], num_groups)
        key_XTD = _by_group(key_BTGD[segment.rows, segment.keys], num_groups)
        value_XTE = _by_group(value_BTGE[segment.rows, segment.keys], num_groups)
        blocks, beta = _blocks(query_XLD, key_XTD, segment, problem)
        out_XLE = _target(query_XLD, value_XTE.shape[2], beta)
        for block in blocks:
            lines, keys = block.places(segment.per_group)
            weights_XKJ = _weights(query_XLD[lines], key_XTD[keys], segment, block, problem)
            out_XLE[lines].baddbmm_(weights_XKJ, value_XTE[keys], beta=beta)
        _put(out_BSHE[segment.rows, segment.queries], out_XLE, num_groups)
    return out_BSHE


def backward(
    grad_BSHE: Tensor, query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, problem: Problem
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of queries, keys and values, and of bias_NH where there is one. The weights are computed again; neither
    the output nor a statistic of a row is needed.
    """
    num_groups = key_BTGD.shape[2]
    empty_like = torch.empty_like if _covers_all(query_BSHD, key_BTGD, problem) else torch.zeros_like
    dq_BSHD, dk_BTGD, dv_BTGE = (empty_like(x) for x in (query_BSHD, key_BTGD, value_BTGE))
    db_NH = None if problem.bias_NH is None else torch.zeros(problem.bias_NH.shape, device=query_BSHD.device)
    for segment in _segments(query_BSHD, key_BTGD, problem):
        at_queries, at_keys = (segment.rows, segment.queries), (segment.rows, segment.keys)
        dq_XLD, dk_XTD, dv_XTE, db_XR = _gradients_of_segment(
            _by_group(grad_BSHE[at_queries], num_groups),
            _by_group(query_BSHD[at_queries], num_groups),
            _by_group(key_BTGD[at_keys], num_groups),
            _by_group(value_BTGE[at_keys], num_groups),
            segment,
            problem,
        )
        _put(dq_BSHD[at_queries], dq_XLD, num_groups)
        _put(dk_BTGD[at_keys], dk_XTD, num_groups)
        _put(dv_BTGE[at_keys], dv_XTE, num_groups)
        if db_NH is not None and db_XR is not None:
            db_NH[segment.numbers] = db_XR.view(-1, db_NH.shape[1])
    return dq_BSHD, dk_BTGD, dv_BTGE, db_NH


def _gradients_of_segment(
    grad_XLE: Tensor, query_XLD: Tensor, key_XTD: Tensor, value_XTE: Tensor, segment: _Segment, problem: Problem
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Of queries, keys and values, and of the bias [X, R] where there is a tensor of it."""
    blocks, beta = _blocks(query_XLD, key_XTD, segment, problem)
    dq_XLD = _target(query_XLD, query_XLD.shape[2], beta)
    dk_XTD, dv_XTE = (_target(key_XTD, x.shape[2], beta) for x in (key_XTD, value_XTE))
    db_XR = None if problem.bias_NH is None else query_XLD.new_zeros(query_XLD.shape[0], segment.per_group)
    for block in blocks:
        lines, keys = block.places(segment.per_group)
        weights_XKJ = _weights(query_XLD[lines], key_XTD[keys], segment, block, problem)
        dv_XTE[keys].baddbmm_(weights_XKJ.mT, grad_XLE[lines], beta=beta)
        dp_XKJ = torch.bmm(grad_XLE[lines], value_XTE[keys].mT)
        # dP P (1 - P), which is 0 where P is.
        ds_XKJ = torch.ops.aten.sigmoid_backward.grad_input(dp_XKJ, weights_XKJ, grad_input=dp_XKJ)
        dq_XLD[lines].baddbmm_(ds_XKJ, key_XTD[keys], beta=beta, alpha=problem.scale)
        dk_XTD[keys].baddbmm_(ds_XKJ.mT, query_XLD[lines], beta=beta, alpha=problem.scale)
        if db_XR is not None:
            db_XR[block.groups] += ds_XKJ.unflatten(1, (-1, segment.per_group)).sum((1, 3))
    return dq_XLD, dk_XTD, dv_XTE, db_XR


def _target(like_XLD: Tensor, size: int, beta: int) -> Tensor:
    """fp32 [X, L, size]: zeros where products add to it."""
    shape = (*like_XLD.shape[:2], size)
    return like_XLD.new_zeros(shape) if beta else like_XLD.new_empty(shape)


def _covers_all(query_BSHD: Tensor, key_BTGD: Tensor, problem: Problem) -> bool:
    """Every position is in a segment that is not skipped."""
    return problem.table_N6 is None and query_BSHD.numel() > 0 and key_BTGD.numel() > 0


def _segments(query_BSHD: Tensor, key_BTGD: Tensor, problem: Problem) -> Iterator[_Segment]:
    """All rows at once where there is no table, else one segment after another; none that has no query or no key."""
    num_rows, num_queries, num_keys = *query_BSHD.shape[:2], key_BTGD.shape[1]
    per_group = query_BSHD.shape[2] // key_BTGD.shape[2]
    if problem.table_N6 is None:
        table = [[0, 0, num_queries, 0, num_keys, problem.shift]]
    else:
        table = problem.table_N6.tolist()
    for n, (row, first_query, queries, first_key, keys, shift) in enumerate(table):
        segment = _Segment(
            rows=slice(0, num_rows) if problem.table_N6 is None else slice(row, row + 1),
            queries=slice(first_query, first_query + queries),
            keys=slice(first_key, first_key + keys),
            numbers=slice(None) if problem.table_N6 is None else slice(n, n + 1),
            shift=shift,
            per_group=per_group,
        )
        if not segment.fits(num_rows, num_queries, num_keys):
            raise ValueError(
                f"segment {n} is row {row}, {queries} queries from {first_query} and {keys} keys from {first_key}, of "
                f"{num_rows} rows, {num_queries} queries and {num_keys} keys; give lengths that fit"
            )
        if num_rows and queries and keys:
            yield segment


def _blocks(query_XLD: Tensor, key_XTD: Tensor, segment: _Segment, problem: Problem) -> tuple[list[_Block], int]:
    """Every block that has a visible pair; and how much of its target a product keeps: 0 if one block is the whole
    segment, else 1, of targets that begin at 0.
    """
    per_group, num_groups = segment.per_group, query_XLD.shape[0]
    num_queries, num_keys = query_XLD.shape[1] // per_group, key_XTD.shape[1]
    keys_at_once = min(num_keys, _KEYS_PER_BLOCK)
    queries_at_once = min(num_queries, max(_LINES_PER_BLOCK // per_group, 1))
    scores = keys_at_once * queries_at_once * per_group
    groups_at_once = min(num_groups, max(_SCORES_PER_BLOCK // scores, torch.get_num_threads()))
    blocks = [
        _Block(slice(group, min(group + groups_at_once, num_groups)), queries, keys, partial)
        for group in range(0, num_groups, groups_at_once)
        for queries in _pieces(0, num_queries, queries_at_once)
        for keys, partial in _visible_keys(queries, num_keys, keys_at_once, segment.shift, problem)
    ]
    whole = (slice(0, num_groups), slice(0, num_queries), slice(0, num_keys))
    is_whole = len(blocks) == 1 and (blocks[0].groups, blocks[0].queries, blocks[0].keys) == whole
    return blocks, 0 if is_whole else 1


def _pieces(begin: int, end: int, at_once: int) -> Iterator[slice]:
    for start in range(begin, end, at_once):
        yield slice(start, min(start + at_once, end))


def _visible_keys(
    queries: slice, num_keys: int, at_once: int, shift: int, problem: Problem
) -> Iterator[tuple[slice, bool]]:
    """Blocks of keys that some of the queries see, and whether one of them does not see all."""
    first, last = queries.start + shift, queries.stop - 1 + shift
    begin = 0 if problem.left < 0 else max(first - problem.left, 0)
    end = num_keys if problem.right < 0 else min(last + problem.right + 1, num_keys)
    for keys in _pieces(begin, end, at_once):
        beyond_left = problem.left >= 0 and keys.start < last - problem.left
        beyond_right = problem.right >= 0 and keys.stop - 1 > first + problem.right
        yield keys, beyond_left or beyond_right


def _weights(query_XKD: Tensor, key_XJD: Tensor, segment: _Segment, block: _Block, problem: Problem) -> Tensor:
    """P of one block, fp32 [X, K, J]: 0 where a pair is not visible."""
    bias = _bias(query_XKD, segment, block, problem)
    weights_XKJ = torch.baddbmm(bias, query_XKD, key_XJD.mT, alpha=problem.scale)
    if problem.slopes_NH is None and not block.partial:
        return weights_XKJ.sigmoid_()
    i = torch.arange(block.queries.start, block.queries.stop, device=query_XKD.device)[:, None, None] + segment.shift
    j = torch.arange(block.keys.start, block.keys.stop, device=query_XKD.device)
    weights_XMRJ = weights_XKJ.unflatten(1, (-1, segment.per_group))
    if problem.slopes_NH is not None:
        slopes_XR = segment.per_head(problem.slopes_NH)[block.groups]
        weights_XMRJ.addcmul_(slopes_XR[:, None, :, None], (i - j).abs().float(), value=-1)
    weights_XMRJ.sigmoid_()
    if block.partial and problem.left >= 0:
        weights_XMRJ.masked_fill_(j < i - problem.left, 0)
    if block.partial and problem.right >= 0:
        weights_XMRJ.masked_fill_(j > i + problem.right, 0)
    return weights_XKJ


def _bias(query_XKD: Tensor, segment: _Segment, block: _Block, problem: Problem) -> Tensor:
    """[X, K, 1], or broadcast to it."""
    if problem.bias_NH is None:
        return query_XKD.new_full((1, 1, 1), problem.bias_value)
    bias_XR = segment.per_head(problem.bias_NH)[block.groups] + problem.bias_value
    return bias_XR.repeat(1, query_XKD.shape[1] // segment.per_group)[:, :, None]


def _by_group(x_BSHD: Tensor, num_groups: int) -> Tensor:
    """[B, S, H, D] to [B * G, S * R, D] in fp32: a view where strides allow it."""
    rows, size = x_BSHD.shape[0], x_BSHD.shape[3]
    x_BGSRD = x_BSHD.unflatten(2, (num_groups, -1)).transpose(1, 2)
    return x_BGSRD.reshape(rows * num_groups, -1, size).float()


def _put(target_BSHD: Tensor, x_XLD: Tensor, num_groups: int) -> None:
    """The way back."""
    target_BSGRD = target_BSHD.unflatten(2, (num_groups, -1))
    target_BSGRD.transpose(1, 2).copy_(x_XLD.view(target_BSGRD.transpose(1, 2).shape))
