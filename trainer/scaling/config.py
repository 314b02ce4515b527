"""What a run says about scaling: where its hyper-parameters were found, and how they follow it from there."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from triptych.models.parameterization import ShapeRatio
from triptych.trainer.scaling.rules import PAPER_GAMMA, BetaForm


@dataclass(kw_only=True, slots=True, frozen=True)
class ScalingConfig:
    """How hyper-parameters that are stated at `fit.logical_batch` follow the physical batch and the horizon.

    rule: "sde" scales them; "none" leaves them alone whatever the batch, for comparison. base_tokens: the horizon they
    were found at; None is the run's own. gamma: exponent of the horizon (0.44 in arXiv 2602.21472, 1 in Complete(d)P);
    fit it to your schedule and data. betas: beta^kappa, or 1 - kappa (1 - beta); where the batch changes mid-run,
    Adam's bias correction is exact for the first form alone.

    second_moment: what becomes of Adam's when the batch changes mid-run: "rescale" to the new batch's noise, or "keep".
    clipping: the limit on the gradient's norm follows the noise, limit / sqrt(kappa), as epsilon does ("scaled"), or
    not ("fixed"); the papers are silent. minimum_steps: S_crit, below which the loss is known to rise; its value in the
    paper is not known to us. ValueError for amounts that are none.
    """

    rule: Literal["sde", "none"] = "sde"
    base_tokens: int | None = None
    gamma: float = PAPER_GAMMA
    betas: BetaForm = "power"
    second_moment: Literal["rescale", "keep"] = "rescale"
    clipping: Literal["scaled", "fixed"] = "scaled"
    minimum_steps: int | None = None

    def __post_init__(self) -> None:
        if self.base_tokens is not None and self.base_tokens < 1:
            raise ValueError(
                f"scaling.base_tokens is {self.base_tokens}; set it to the tokens of the base run, or null"
            )
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"scaling.gamma is {self.gamma}; set it to 0 or more, 0.44 in the paper")
        if self.minimum_steps is not None and self.minimum_steps < 1:
            raise ValueError(f"scaling.minimum_steps is {self.minimum_steps}; set it to 1 or more, or null")


@dataclass(kw_only=True, slots=True, frozen=True)
class NoiseScaleConfig:
    """every_tokens: from the end of one measured step to the next one. half_life_tokens: of the averages; where a batch
    is far under the noise scale a single |G|^2 is off by several times its size, so hundreds of measurements belong
    into one. ValueError unless both are positive and the half-life holds a measurement.
    """

    every_tokens: int
    half_life_tokens: int

    def __post_init__(self) -> None:
        if not 0 < self.every_tokens <= self.half_life_tokens:
            raise ValueError(
                f"noise scale: every_tokens {self.every_tokens} must be above 0 and at most half_life_tokens "
                f"{self.half_life_tokens}; a hundredth of it is usual"
            )


@dataclass(kw_only=True, slots=True, frozen=True)
class RunFacts:
    """What scaling must know of a run besides its settings. shape: the model against its base. tokens_per_row: the
    mean, None where nobody knows. rows_together: sequences in a row that must come to one rank. gradient_parts: sets of
    parameters whose gradient noise is told apart, name to prefix of the parameters' names; "all" is needed.
    """

    shape: ShapeRatio = field(default_factory=ShapeRatio)
    tokens_per_row: float | None = None
    rows_together: int = 1
    gradient_parts: Mapping[str, str] = field(default_factory=lambda: {"all": ""})
