"""What is to be done about which trouble."""

from dataclasses import dataclass
from typing import Literal

Remedy = Literal["note", "skip", "roll_back", "stop"]
"""What is done about a step: it is written down; its update is left out; the run goes back to a checkpoint; it ends."""


@dataclass(kw_only=True, slots=True, frozen=True)
class HealthConfig:
    """What is done about a step whose loss or gradient norm is not finite, and about one whose loss or norm before
    clipping is a spike.

    A spike is above the median of the trailing `window_steps` healthy steps by more than `spike_deviations` robust
    standard deviations (1.4826 times the median distance from the median, and at least a hundredth of the median); a
    quarter of the window must be there to judge. A value that was only noted enters the window, one whose update was
    left out does not.

    skip: weights, moments and averages stay as they are, bit for bit; tokens, data and schedule go on; the batch's
    samples are written to the logs. The run ends at the `max_skips_in_a_row` + 1st step in a row to be skipped.
    roll_back: to the checkpoint that is `rollback_checkpoints` back, 1 the newest; later ones are dropped. Then the
    data that led from it to here is passed over, or gone through again. The run ends when it would go back for the
    `max_rollbacks` + 1st time.

    What is not finite is skipped as a rule: data come in a fixed order, so a run that stops at a bad batch stops there
    again when it is resumed, and a skipped step harms nothing; three in a row are no bad batch. Spikes are only noted:
    clipping bounds what they do, and to leave out large gradients is another optimizer. All our choice. ValueError for
    settings out of range.
    """

    not_finite: Literal["skip", "roll_back", "stop"] = "skip"
    loss_spike: Remedy = "note"
    gradient_spike: Remedy = "note"
    spike_deviations: float = 20.0
    window_steps: int = 128
    max_skips_in_a_row: int = 3
    rollback_checkpoints: int = 1
    after_rollback: Literal["pass_over", "repeat"] = "pass_over"
    max_rollbacks: int = 3

    def __post_init__(self) -> None:
        if not self.spike_deviations > 0:
            raise ValueError(f"fit.health.spike_deviations is {self.spike_deviations}; set it above 0")
        least = {"window_steps": 8, "max_skips_in_a_row": 0, "rollback_checkpoints": 1, "max_rollbacks": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"fit.health.{name} is {getattr(self, name)}; set it to {bound} or more")

    @property
    def rolls_back(self) -> bool:
        """Whether anything does."""
        return "roll_back" in (self.not_finite, self.loss_spike, self.gradient_spike)
