"""Metrics as sums: added over micro-batches and ranks, divided once."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from triptych.trainer.seams import LossTerms, MetricSums


class MetricAccumulator:
    """Adds up the loss and the metrics of one batch.

    Every rank must report the same metric names, in whatever amounts: the names are sorted and their sums travel as one
    tensor.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, terms: LossTerms) -> None:
        """Add one micro-batch."""
        self._add({"loss": (terms.sum, terms.weight), **terms.metrics})

    def _add(self, metrics: MetricSums) -> None:
        for name, (total, weight) in metrics.items():
            pair = torch.stack([total.detach().double(), weight.detach().double()])
            self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    def means(self, sum_over_data: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Name to mean over the batch, and "loss_weight" to what its loss was summed over; names without weight are
        left out.
        """
        names = sorted(self._sums)
        if not names:
            return {}
        totals = sum_over_data(torch.stack([self._sums[name] for name in names])).tolist()
        found = dict(zip(names, totals, strict=True))
        means = {name: total / weight for name, (total, weight) in found.items() if weight > 0}
        return {**means, "loss_weight": found["loss"][1]} if "loss" in found else means


@dataclass(kw_only=True, slots=True, frozen=True)
class StepRecord:
    """What one step reports. `tokens` counts from the start of the run; `seconds` is the step's wall-clock time. batch:
    sequences; kappa: updates at the logical batch that it stands for. learning_rate: before the factors of any kind of
    parameter. samples: documents of the batch, copies of a row counted once; lost_samples: those that could not be
    read. data_wait_fraction: of the step's seconds, those that this rank waited for its rows. busy_seconds: those in
    which it waited for its rows or went through the model, not for other ranks' gradients. is_updated: whether the
    optimizer stepped.
    """

    step: int
    tokens: int
    total_tokens: int
    batch_tokens: int
    batch: int
    kappa: float
    seconds: float
    learning_rate: float
    gradient_norm: float
    metrics: dict[str, float]
    samples: int = 0
    lost_samples: int = 0
    data_wait_fraction: float = 0.0
    busy_seconds: float = 0.0
    is_updated: bool = True

    @property
    def tokens_per_second(self) -> float:
        return self.batch_tokens / self.seconds
