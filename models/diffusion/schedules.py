"""Noise schedules m(t): the probability that a token is masked at time t, rising from m(0) = 0 to m(1) = 1.

The continuous-time bound of masked diffusion (MDLM, arXiv 2406.07524, eq. 10; MD4, arXiv 2406.04329) is

    NELBO = E_{t ~ U(0,1)} [ m'(t)/m(t) * sum_{masked i} -log p(x_i | x_t) ] = integral_0^1 g(m) dm ,
    g(m) = sum_i E[ -log p(x_i | i is masked, every other token masked with probability m) ] .

The right-hand form has no schedule in it: a schedule sets the variance of the estimate, and in sampling how many
tokens are revealed when, never the value.

**The clamp.** 1/m makes the variance infinite for schedules that start like t. `epsilon` bounds it: masks are drawn
with probability m clamped to [epsilon, 1 - epsilon], and the weight is the unclamped slope m'(t) over the clamped
probability. On the two clamped ends g is thus replaced by its value at the nearest level visited, so the estimate
differs from the bound by epsilon^2/2 * (g'(0) - g'(1)) plus higher orders: second order. (m = (1-epsilon) t +
epsilon, as LLaDA has it, is off by the first order, epsilon * (mean g - g(0)).) The upper end is clamped too so that
the complement of a mask, at level 1 - m, is as tame as the mask. This form of the clamp is our choice.

Shapes: every method is elementwise; it takes a tensor of any float dtype and returns float64.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from triptych.data_pipelines.vocabulary import Modality


@dataclass(kw_only=True, slots=True, frozen=True)
class Schedule:
    """What all schedules share. A schedule gives `level`, `slope` and `inverse`.

    epsilon: mask probabilities in training stay in [epsilon, 1 - epsilon]; ValueError unless 0 <= epsilon < 0.5.
    """

    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon < 0.5:
            raise ValueError(f"schedule epsilon {self.epsilon} is outside [0, 0.5); 0.001 is usual")

    def level(self, t: Tensor) -> Tensor:
        """m(t) without the clamp: 0 at 0, 1 at 1. What samplers follow."""
        raise NotImplementedError

    def slope(self, t: Tensor) -> Tensor:
        """m'(t) without the clamp."""
        raise NotImplementedError

    def inverse(self, m: Tensor) -> Tensor:
        """The t at which level(t) = m, for m in [0, 1]."""
        raise NotImplementedError

    def mask_probability(self, t: Tensor) -> Tensor:
        """The clamped m(t), with which training draws masks."""
        return self.level(t).clamp(self.epsilon, 1 - self.epsilon)

    def weight(self, t: Tensor) -> Tensor:
        """m'(t)/m(t), the weight of a masked token's cross-entropy; the clamp acts on the denominator alone."""
        return self.slope(t) / self.mask_probability(t)

    def complement_weight(self, t: Tensor) -> Tensor:
        """m'(t)/(1 - m(t)), the weight at the complement level v = 1 - m(t).

        |dv| = m' dt, and the bound asks for g(v) |dv| = sum CE * |dv|/v: the weight 1/v of the level, times the slope.
        """
        return self.slope(t) / (1 - self.mask_probability(t))


@dataclass(kw_only=True, slots=True, frozen=True)
class Linear(Schedule):
    """m = t, weight 1/t. MDLM's log-linear noise; LLaDA."""

    kind: Literal["linear"] = "linear"

    def level(self, t: Tensor) -> Tensor:
        return t.double()

    def slope(self, t: Tensor) -> Tensor:
        return torch.ones_like(t, dtype=torch.float64)

    def inverse(self, m: Tensor) -> Tensor:
        return m.double()


@dataclass(kw_only=True, slots=True, frozen=True)
class Cosine(Schedule):
    """m = cos(pi/2 (1-t)) = sin(pi/2 t), weight pi/2 tan(pi/2 (1-t)): many tokens masked.

    MaskGIT (arXiv 2202.04200, section 3.3).
    """

    kind: Literal["cosine"] = "cosine"

    def level(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi / 2 * t.double())

    def slope(self, t: Tensor) -> Tensor:
        return math.pi / 2 * torch.cos(math.pi / 2 * t.double())

    def inverse(self, m: Tensor) -> Tensor:
        return 2 / math.pi * torch.asin(m.double())


@dataclass(kw_only=True, slots=True, frozen=True)
class CosineMdlm(Schedule):
    """m = 1 - cos(pi/2 t), weight pi/2 sin(pi/2 t)/(1 - cos(pi/2 t)). MDLM's `CosineNoise`: few tokens masked."""

    kind: Literal["cosine_mdlm"] = "cosine_mdlm"

    def level(self, t: Tensor) -> Tensor:
        return 2 * torch.sin(math.pi / 4 * t.double()) ** 2  # half-angle form: exact near 0

    def slope(self, t: Tensor) -> Tensor:
        return math.pi / 2 * torch.sin(math.pi / 2 * t.double())

    def inverse(self, m: Tensor) -> Tensor:
        return 4 / math.pi * torch.asin(torch.sqrt(m.double() / 2))


@dataclass(kw_only=True, slots=True, frozen=True)
class CosineSquared(Schedule):
    """m = sin^2(pi/2 t), weight pi cot(pi/2 t). MDLM's `CosineSqrNoise`."""

    kind: Literal["cosine_squared"] = "cosine_squared"

    def level(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi / 2 * t.double()) ** 2

    def slope(self, t: Tensor) -> Tensor:
        return math.pi / 2 * torch.sin(math.pi * t.double())

    def inverse(self, m: Tensor) -> Tensor:
        return 2 / math.pi * torch.asin(torch.sqrt(m.double()))


@dataclass(kw_only=True, slots=True, frozen=True)
class Polynomial(Schedule):
    """m = t^p, weight p/t. MD4 (arXiv 2406.04329).

    power: p; ValueError unless above 0.5, below which the variance is infinite even with the clamp.
    """

    power: float
    kind: Literal["polynomial"] = "polynomial"

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        if not self.power > 0.5:
            raise ValueError(f"schedule power {self.power} is not above 0.5; 1 is linear, 2 masks fewer tokens")

    def level(self, t: Tensor) -> Tensor:
        return t.double() ** self.power

    def slope(self, t: Tensor) -> Tensor:
        return self.power * t.double() ** (self.power - 1)

    def inverse(self, m: Tensor) -> Tensor:
        return m.double() ** (1 / self.power)


@dataclass(kw_only=True, slots=True, frozen=True)
class Geometric(Schedule):
    """The total noise s(t) = sigma_min^(1-t) sigma_max^t grows geometrically (MDLM's `GeometricNoise`): 1 - exp(-s)
    is masked.

    That runs from 1 - exp(-sigma_min) to 1 - exp(-sigma_max), which leaves out both ends of the bound's integral; we
    rescale it to run from 0 to 1 (our choice): m = (1 - exp(-(s - sigma_min))) / (1 - exp(-(sigma_max - sigma_min))).
    ValueError unless 0 < sigma_min < sigma_max.
    """

    sigma_min: float = 1e-3
    sigma_max: float = 8.0
    kind: Literal["geometric"] = "geometric"

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                f"schedule sigma_min {self.sigma_min}, sigma_max {self.sigma_max} are not 0 < min < max; use 0.001, 8"
            )

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    @property
    def _span(self) -> float:
        """exp(-(sigma_max - sigma_min)) - 1, below 0."""
        return math.expm1(-(self.sigma_max - self.sigma_min))

    def level(self, t: Tensor) -> Tensor:
        grown = self.sigma_min * torch.expm1(t.double() * self._log_ratio)  # s(t) - sigma_min
        return (torch.expm1(-grown) / self._span).clamp(max=1)  # rounding puts t = 1 a few 1e-16 above

    def slope(self, t: Tensor) -> Tensor:
        grown = self.sigma_min * torch.expm1(t.double() * self._log_ratio)
        return -self._log_ratio * (grown + self.sigma_min) * torch.exp(-grown) / self._span

    def inverse(self, m: Tensor) -> Tensor:
        grown = -torch.log1p(m.double() * self._span)
        return torch.log1p(grown / self.sigma_min) / self._log_ratio


NoiseSchedule = Annotated[
    Linear | Cosine | CosineMdlm | CosineSquared | Polynomial | Geometric,
    Field(discriminator="kind"),
]
"""Any schedule; in a configuration a mapping whose "kind" names it."""


@dataclass(kw_only=True, slots=True, frozen=True)
class ModalitySchedules:
    """One schedule per modality; linear unless told."""

    text: NoiseSchedule = Linear()
    image: NoiseSchedule = Linear()
    audio: NoiseSchedule = Linear()

    def of(self, modality: Modality) -> Schedule:
        return getattr(self, modality)
