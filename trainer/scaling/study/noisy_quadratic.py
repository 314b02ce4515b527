"""A quadratic whose gradient comes with noise, trained by torch's AdamW at any batch.

The loss is sum h (theta - target)^2 / sum h, in expectation 1 at the start, theta = 0. One logical batch's gradient is
h (theta - target) + sigma e. A batch kappa times as large takes 1/kappa of the steps, and its noise is the mean of
that of the kappa logical batches in it: runs of one seed see the same samples, so what they differ by is the batch, not
luck. Amounts of data are counted in logical batches.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from triptych.trainer.scaling.rules import AdamWValues
from triptych.trainer.schedules import LearningRateSchedule


@dataclass(kw_only=True, slots=True, frozen=True)
class QuadraticConfig:
    """curvatures: least and greatest h, geometric in between. noise: sigma at the start and from the middle of the run
    on, geometric in between. values: AdamW at kappa 1. num_batches: logical batches in the run; a cosine ends with it.
    """

    values: AdamWValues
    num_batches: int
    curvatures: tuple[float, float] = (0.01, 1.0)
    noise: tuple[float, float]
    num_coordinates: int = 4000

    def noise_at(self, batches: float) -> float:
        """sigma once so many logical batches have been seen."""
        start, end = self.noise
        return end * (start / end) ** max(0.0, 1 - 2 * batches / self.num_batches)


class NoisyQuadratic:
    """One run, to be advanced piece by piece; the optimizer is open to what a study does to it in between."""

    def __init__(self, config: QuadraticConfig, seed: int) -> None:
        self.config = config
        self.num_batches_seen = 0
        self._seed = seed
        low, high = (math.log10(h) for h in config.curvatures)
        self.curvatures = torch.logspace(low, high, config.num_coordinates)
        self._generator = torch.Generator().manual_seed(seed)
        self._target = torch.randn(config.num_coordinates, generator=self._generator)
        self._parameter = torch.nn.Parameter(torch.zeros(config.num_coordinates))
        self._schedule = LearningRateSchedule(warmup_tokens=0)
        # fused: the same update in one pass, 4 times as fast here.
        self.optimizer = torch.optim.AdamW([self._parameter], fused=True)

    @property
    def state(self) -> dict[str, Tensor]:
        """Adam's of the parameter: exp_avg, exp_avg_sq, step."""
        return self.optimizer.state[self._parameter]

    def advance(self, values: AdamWValues, kappa: float, num_batches: int) -> None:
        """Train on so many logical batches, kappa per step; kappa or 1/kappa is a whole number. The learning rate of a
        step is the schedule's at the middle of its samples.
        """
        (group,) = self.optimizer.param_groups
        group.update(betas=values.betas, eps=values.epsilon, weight_decay=values.weight_decay)
        end = self.num_batches_seen + num_batches
        while self.num_batches_seen < end:
            for part, noise in enumerate(self._noise(kappa)):
                middle = self.num_batches_seen + (part + 0.5) * kappa
                group["lr"] = values.learning_rate * self._schedule.factor(middle, self.config.num_batches)
                gradient = self.mean_gradient()
                self._parameter.grad = gradient.add_(noise, alpha=self.config.noise_at(middle) / math.sqrt(kappa))
                self.optimizer.step()
            self.num_batches_seen += max(1, round(kappa))

    def _noise(self, kappa: float) -> Tensor:
        """Unit noise [steps, coordinates] of the next logical batch or batches: one step's, or of 1/kappa steps."""
        size, num_coordinates = max(1, round(kappa)), self.config.num_coordinates
        # Row by row: what torch draws depends on how much it draws at once.
        rows = [torch.randn(num_coordinates, generator=self._generator) for _ in range(size)]
        whole = torch.stack(rows).sum(0, keepdim=True) / math.sqrt(size)
        if kappa >= 1:
            return whole
        # Parts of one logical batch: independent of each other, and with its noise as their scaled sum.
        num_parts = round(1 / kappa)
        own = torch.Generator().manual_seed(self._seed * self.config.num_batches + self.num_batches_seen)
        parts = torch.randn(num_parts, num_coordinates, generator=own)
        return parts - parts.mean(0) + whole / math.sqrt(num_parts)

    def mean_gradient(self) -> Tensor:
        """Without noise."""
        return (self._parameter.detach() - self._target).mul_(self.curvatures)

    def noise_scale(self) -> float:
        """Variance of the gradient of one logical batch over the square of its mean, both summed: McCandlish et al.
        2018, arXiv 1812.06162.
        """
        variance = self.config.num_coordinates * self.config.noise_at(self.num_batches_seen) ** 2
        return variance / float(self.mean_gradient().square().sum())

    def loss(self) -> float:
        """Without noise; in expectation 1 at theta 0."""
        squares = (self._parameter.detach() - self._target).square_()
        return float(squares @ self.curvatures / self.curvatures.sum())
