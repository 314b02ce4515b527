"""Cross-entropy of logits whose vocabulary is split over tensor-parallel ranks.

Each rank holds the logits of its own slice of the ids; only three numbers per row travel: the largest logit, the sum of
exponentials, the label's logit (Shoeybi et al. 2019, arXiv 1909.08053, section 3). What is kept for the backward pass
is the logits as they came and one number per row; megatron-core's version keeps the softmax in float32.

Shape legend: R rows, V ids on this rank (padding included).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

ROWS_AT_ONCE = 2048
"""Of which float32 copies are alive: 0.8 GB of 100,000 ids, where all rows of a micro-batch would be several."""


def vocabulary_parallel_cross_entropy(
    logits_RV: Tensor, labels_R: Tensor, group: ProcessGroup | None, num_ids: int
) -> tuple[Tensor, Tensor]:
    """Cross-entropy per row, float32 [R], differentiable; and whether the label has the largest logit, bool [R].

    Rank r of the group holds ids r*V to (r+1)*V, or this one all of them where there is no group; ids of num_ids and on
    are padding, and out of the softmax. labels_R: int64 ids counted over the whole vocabulary; a label that no rank
    holds gives an arbitrary finite loss, to be weighted by 0. Between equal logits the lowest id is the largest.
    """
    size = logits_RV.shape[1]
    start = 0 if group is None else group.rank() * size
    real = max(0, min(size, num_ids - start))
    losses_R, best_R = _CrossEntropy.apply(logits_RV, labels_R - start, group, real)  # type: ignore[misc]
    return losses_R, best_R


class _CrossEntropy(torch.autograd.Function):
    """labels_R here are counted from this rank's first id; `real` columns are not padding."""

    @staticmethod
    def forward(
        context: Any, logits_RV: Tensor, labels_R: Tensor, group: ProcessGroup | None, real: int
    ) -> tuple[Tensor, Tensor]:
        highest_R, first_R = _each(logits_RV, real, _highest)
        top_R = _reduce(highest_R.clone(), dist.ReduceOp.MAX, group)
        # The sum over ranks of [exponentials, the label's logit] in one message.
        sums_2R = torch.stack(_each(logits_RV, real, _sums, top_R, labels_R))
        exponentials_R, label_logits_R = _reduce(sums_2R, dist.ReduceOp.SUM, group)
        log_sum_R = exponentials_R.log()
        best_R = _is_first_of_highest(first_R, highest_R == top_R, labels_R, logits_RV.shape[1], group)
        context.save_for_backward(logits_RV, labels_R, top_R + log_sum_R)
        context.real = real
        context.mark_non_differentiable(best_R)
        return log_sum_R - label_logits_R, best_R

    @staticmethod
    def backward(context: Any, gradient_R: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        logits_RV, labels_R, normaliser_R = context.saved_tensors
        gradient_RV = torch.zeros_like(logits_RV)
        for start in range(0, len(logits_RV), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            softmax = torch.exp(logits_RV[rows, : context.real].float() - normaliser_R[rows, None])
            if context.real:
                mine_R, column_R = _columns(labels_R[rows], context.real)
                softmax.scatter_add_(1, column_R[:, None], -mine_R.float()[:, None])
            gradient_RV[rows, : context.real] = softmax.mul_(gradient_R[rows, None])
        return gradient_RV, None, None, None


def _each(
    logits_RV: Tensor, real: int, function: Callable[..., tuple[Tensor, Tensor]], *by_row: Tensor
) -> tuple[Tensor, Tensor]:
    """`function` of some rows at a time: the logits that are not padding, in float32, and the same rows of `by_row`."""
    chunks = [each.split(ROWS_AT_ONCE) for each in (logits_RV[:, :real], *by_row)]
    first, second = zip(*(function(rows.float(), *more) for rows, *more in zip(*chunks, strict=True)), strict=True)
    return torch.cat(first), torch.cat(second)


def _highest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The largest logit of each row, and its first column; minus infinity where this rank has no column."""
    if not logits.shape[1]:
        return logits.new_full((len(logits),), -torch.inf), torch.zeros(len(logits), dtype=torch.int64).to(
            logits.device
        )
    highest_R, first_R = logits.max(1)
    return highest_R, first_R


def _sums(logits: Tensor, top_R: Tensor, labels_R: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the exponentials, and the label's logit where this rank holds it, else 0; both counted from the top."""
    logits = logits - top_R[:, None]
    if not logits.shape[1]:
        return torch.zeros_like(top_R), torch.zeros_like(top_R)
    mine_R, column_R = _columns(labels_R, logits.shape[1])
    label_logits_R = logits.gather(1, column_R[:, None])[:, 0].where(mine_R, 0)
    return logits.exp_().sum(1), label_logits_R


def _columns(labels_R: Tensor, real: int) -> tuple[Tensor, Tensor]:
    """Whether this rank holds the label's column, and which it is; 0 where not."""
    mine_R = (labels_R >= 0) & (labels_R < real)
    return mine_R, labels_R.where(mine_R, 0)


def _is_first_of_highest(
    first_R: Tensor, has_highest_R: Tensor, labels_R: Tensor, size: int, group: ProcessGroup | None
) -> Tensor:
    """Whether the label is the lowest of the ids with the largest logit."""
    start = 0 if group is None else group.rank() * size
    lowest_R = torch.where(has_highest_R, first_R + start, torch.iinfo(torch.int64).max)
    return _reduce(lowest_R, dist.ReduceOp.MIN, group) == labels_R + start


def _reduce(values: Tensor, operation: Any, group: ProcessGroup | None) -> Tensor:
    if group is not None and group.size() > 1:
        dist.all_reduce(values, operation, group=group)
    return values
