"""From a step's loss and gradient norm to what is done about it: a pure function of numbers that all ranks share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from triptych.trainer.checkpoint.shards import State
from triptych.trainer.health.config import HealthConfig, Remedy
from triptych.trainer.health.window import Window

NOT_FINITE, LOSS_SPIKE, GRADIENT_SPIKE = "not_finite", "loss_spike", "gradient_spike"
_SEVERITY: tuple[Remedy, ...] = ("note", "skip", "roll_back", "stop")


class Unhealthy(ValueError):
    """The run may not go on by its own policy. Raised on all ranks, with one text."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Trouble:
    """A step that is not as it should be. kind: a field of `HealthConfig`. text: what, and where if that is known."""

    kind: str
    remedy: Remedy
    text: str

    @property
    def takes_update(self) -> bool:
        """Whether the optimizer steps all the same."""
        return self.remedy == "note"


class HealthPolicy:
    """Judges steps in their order; `Carried` by a run, so that one that is resumed judges as it would have.

    Every rank must be given the same numbers, and then finds the same.
    """

    def __init__(self, config: HealthConfig) -> None:
        self._config = config
        self._windows = {kind: Window(config.window_steps) for kind in (LOSS_SPIKE, GRADIENT_SPIKE)}
        self._skips_in_a_row = self._skips = self._rollbacks = 0

    def judge(self, *, step: int, loss: float | None, gradient_norm: float, not_finite: str | None) -> Trouble | None:
        """What is wrong with a step whose gradient is known and whose update is not yet made, and what is done about
        it; None if it is healthy. not_finite: whose loss or norm is not.
        """
        values = {LOSS_SPIKE: loss, GRADIENT_SPIKE: gradient_norm}
        trouble = None
        if not_finite is not None:
            trouble = Trouble(kind=NOT_FINITE, remedy=self._config.not_finite, text=not_finite)
        else:
            spikes = [self._spike(kind, value, step) for kind, value in values.items() if value is not None]
            for spike in spikes:
                if spike is not None and (trouble is None or _severity(spike) > _severity(trouble)):
                    trouble = spike
        trouble = None if trouble is None else self._within_limits(trouble)
        if trouble is None or trouble.takes_update:
            self._skips_in_a_row = 0
            for kind, value in values.items():
                if value is not None:
                    self._windows[kind].add(value)
        return trouble

    @property
    def rollbacks(self) -> int:
        """How often the run has gone back."""
        return self._rollbacks

    def keep_rollbacks(self, number: int) -> None:
        """Going back does not make a run forget that it went back."""
        self._rollbacks = number

    def _spike(self, kind: str, value: float, step: int) -> Trouble | None:
        deviations = self._windows[kind].deviations(value)
        if deviations <= self._config.spike_deviations:
            return None
        is_loss = kind == LOSS_SPIKE
        name, remedy = "loss" if is_loss else "gradient norm", self._config.gradient_spike
        if is_loss:
            remedy = self._config.loss_spike
        text = f"the {name} of step {step}, {value:.6g}, is {deviations:.1f} robust deviations above the median"
        return Trouble(kind=kind, remedy=remedy, text=text)

    def _within_limits(self, trouble: Trouble) -> Trouble:
        """The same, or a stop where it has been done often enough; counts it."""
        config = self._config
        if trouble.remedy == "skip":
            self._skips_in_a_row += 1
            self._skips += 1
            if self._skips_in_a_row > config.max_skips_in_a_row:
                often = f"after {config.max_skips_in_a_row} skipped steps in a row (fit.health.max_skips_in_a_row)"
                return Trouble(kind=trouble.kind, remedy="stop", text=f"{trouble.text}, {often}")
        if trouble.remedy == "roll_back":
            if self._rollbacks >= config.max_rollbacks:
                often = f"after {self._rollbacks} times of going back (fit.health.max_rollbacks)"
                return Trouble(kind=trouble.kind, remedy="stop", text=f"{trouble.text}, {often}")
            self._rollbacks += 1
        return trouble

    def held(self) -> State:
        """No tensors."""
        return {}

    def document(self) -> dict[str, Any]:
        """Both windows, and the counts."""
        return {
            "windows": {kind: window.values for kind, window in self._windows.items()},
            "skips_in_a_row": self._skips_in_a_row,
            "skips": self._skips,
            "rollbacks": self._rollbacks,
        }

    def restore(self, document: Mapping[str, Any] | None) -> None:
        """Go on from a checkpoint's windows and counts; from none, anew."""
        if document is None:
            return
        for kind, values in document["windows"].items():
            self._windows[kind] = Window(self._config.window_steps, values)
        self._skips_in_a_row, self._skips = document["skips_in_a_row"], document["skips"]
        self._rollbacks = document["rollbacks"]


def _severity(trouble: Trouble) -> int:
    return _SEVERITY.index(trouble.remedy)
