"""Sums of squares of a batch's gradient and of the difference between its halves: what the noise scale is made of.

Legend: b rows of a batch on this rank, h and b - h of them in its halves; R data-parallel ranks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from triptych.models.sharding import sharding_of
from triptych.trainer.parallel.groups import Groups

Gradient = tuple[str, nn.Parameter, Tensor]
"""A parameter's name in the whole model, the parameter, and what has been accumulated for it on this rank, before any
reduction: fp32, of the parameter's size in any shape.
"""


@dataclass(kw_only=True, slots=True, frozen=True)
class Squares:
    """Of one set of parameters. whole: |G|^2 of the mean gradient of all ranks' rows. difference: |g1 - g2|^2 of the
    mean gradients of a rank's two halves, averaged over data-parallel ranks.
    """

    whole: float
    difference: float


class GradientHalves:
    """Looks at the gradients twice, after the first `num_first` micro-batches and after the last; changes nothing.

    rows: (h, b - h), the same on every data-parallel rank. parts: name to the prefix of the parameters' names. The
    first half's gradient is kept in the host's memory, four bytes for each of this rank's parameters. Two sums of
    squares, of the first half and of all, would need no copy; but they take |g2|^2 to be |g1|^2, and their estimate of
    |G|^2 spreads many times as wide (trainer/scaling/results/noise_scale.md).
    """

    def __init__(self, parts: Mapping[str, str], *, rows: tuple[int, int], num_first: int, groups: Groups) -> None:
        assert min(*rows, num_first) > 0
        self.num_first = num_first
        self.rows = rows
        self.num_data_ranks = groups.num_data_ranks
        self._parts = dict(parts)
        self._groups = groups
        self._first: dict[str, Tensor] | None = None
        self.squares: dict[str, Squares] | None = None

    @torch.no_grad()
    def look(self, gradients: Sequence[Gradient]) -> None:
        """Called after either half; after the second by all ranks together, and `squares` is then known."""
        if self._first is None:
            self._first = {name: gradient.to("cpu", copy=True) for name, _, gradient in gradients}
            return
        sums = torch.zeros(len(self._parts), 2, dtype=torch.float64, device=self._groups.device)
        for name, parameter, gradient in gradients:
            members = [index for index, prefix in enumerate(self._parts.values()) if name.startswith(prefix)]
            # What all tensor-parallel ranks hold alike counts on rank 0, as in the norm.
            if members and (self._groups.tensor_rank == 0 or sharding_of(parameter).dim is not None):
                first = self._first.get(name)
                first = torch.zeros_like(gradient) if first is None else first.to(gradient.device)
                sums[members] += self._squares(gradient, first)
        self._first = None
        if self._groups.collection.mp.size() > 1:
            dist.all_reduce(sums, group=self._groups.collection.mp)
        means = self._groups.sum_over_data(sums) / self.num_data_ranks
        if self._groups.placement.world_size > 1:
            # An automatic batch goes by these: a last bit that differs between two groups' sums would part the ranks.
            dist.broadcast(means, 0)
        self.squares = {
            name: Squares(whole=whole, difference=difference)
            for name, (whole, difference) in zip(self._parts, means.tolist(), strict=True)
        }

    def _squares(self, gradient: Tensor, first: Tensor) -> Tensor:
        """float64 [2]: of the mean over ranks, of the difference of the halves.

        Every loss is divided by one number for the whole batch, so what has been accumulated is h/b of the mean
        gradient of the first half's rows, and then the mean gradient of all b.
        """
        in_first, in_second = self.rows
        total = in_first + in_second
        difference = first.mul_(total / in_first + total / in_second).sub_(gradient, alpha=total / in_second)
        whole = gradient
        if self.num_data_ranks > 1:
            whole = self._groups.sum_over_data(gradient.clone()).div_(self.num_data_ranks)
        norms = [torch.linalg.vector_norm(tensor, dtype=torch.float64) for tensor in (whole, difference)]
        return torch.stack(norms).square()
