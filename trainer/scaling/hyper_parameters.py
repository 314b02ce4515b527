"""A run's hyper-parameters at any batch: always from the base, never from those of the step before."""

import math
from dataclasses import replace

from triptych.models.parameterization import KINDS, ParameterKind, ShapeRatio
from triptych.trainer.optimizer import AdamWConfig, KindFactors, KindGroups, alike
from triptych.trainer.scaling.config import ScalingConfig
from triptych.trainer.scaling.rules import (
    AdamWValues,
    completed_p,
    coupled_decay,
    kappa,
    logical_batch,
    scale_adamw,
)


class HyperParameters:
    """What AdamW is given for each kind of parameter: base, times the shape's and the kind's factors (which are those
    of the logical batch), at the batch of the step.

    base_batch: sequences, `fit.logical_batch`. total_tokens: the run's horizon.
    """

    def __init__(
        self,
        optimizer: AdamWConfig,
        scaling: ScalingConfig,
        *,
        base_batch: int,
        total_tokens: int,
        shape: ShapeRatio,
    ) -> None:
        self._optimizer = optimizer
        self._scaling = scaling
        self._base_batch = base_batch
        self._total_tokens = total_tokens
        self._at_logical_batch = {kind: self._of_kind(kind, shape) for kind in KINDS}

    @property
    def logical_batch(self) -> float:
        """Sequences, not rounded: the batch at which the stated values hold at this run's horizon."""
        scaling = self._scaling
        if scaling.base_tokens is None or scaling.rule == "none":
            return float(self._base_batch)
        return logical_batch(
            base_batch=self._base_batch,
            tokens=self._total_tokens,
            base_tokens=scaling.base_tokens,
            gamma=scaling.gamma,
        )

    def kappa(self, batch: int) -> float:
        """How many updates at the logical batch one of this batch stands for; 1 without a rule."""
        if self._scaling.rule == "none":
            return 1.0
        return kappa(
            batch=batch,
            base_batch=self._base_batch,
            tokens=self._total_tokens,
            base_tokens=self._scaling.base_tokens or self._total_tokens,
            gamma=self._scaling.gamma,
        )

    @property
    def kind_groups(self) -> KindGroups:
        """Kinds that are given the same values at every batch."""
        return alike(self._at_logical_batch)

    def learning_rate(self, batch: int, schedule: float) -> float:
        """Before any factor of a kind, at a point of the schedule (its factor, 0 .. 1)."""
        return self._optimizer.peak_learning_rate * math.sqrt(self.kappa(batch)) * schedule

    def at_logical_batch(self, kind: ParameterKind) -> AdamWValues:
        """The peak values of a kind where kappa is 1; decay in the form in which it is stated."""
        return self._at_logical_batch[kind]

    def at_batch(self, kind: ParameterKind, batch: int) -> AdamWValues:
        """The peak values of a kind at a batch; decay in the form in which it is stated."""
        values, decay = self._at_logical_batch[kind], self._optimizer.decay
        return scale_adamw(values, self.kappa(batch), betas=self._scaling.betas, decay=decay)

    def step_values(self, batch: int, schedule: float) -> dict[ParameterKind, AdamWValues]:
        """What the optimizer is given for a step, at a point of the schedule; decay as PyTorch has it."""
        return {kind: self._given(self.at_batch(kind, batch), schedule) for kind in KINDS}

    def clipping(self, limit: float, batch: int) -> float:
        """The limit on the gradient's norm at a batch; 0 is none."""
        return limit / math.sqrt(self.kappa(batch)) if self._scaling.clipping == "scaled" else limit

    def second_moment_factor(self, before: int, batch: int) -> float:
        """What Adam's second moment is multiplied by when the batch changes from `before`: where noise dominates, it is
        the noise of one batch, one over its size.
        """
        if self._scaling.rule == "none" or self._scaling.second_moment == "keep":
            return 1.0
        return before / batch

    def _given(self, values: AdamWValues, schedule: float) -> AdamWValues:
        return replace(
            values,
            learning_rate=values.learning_rate * schedule,
            weight_decay=coupled_decay(values.weight_decay, values.learning_rate, self._optimizer.decay),
        )

    def _of_kind(self, kind: ParameterKind, shape: ShapeRatio) -> AdamWValues:
        values = completed_p(kind, shape).applied(self._optimizer.values, self._optimizer.decay)
        own = self._optimizer.kinds.get(kind, KindFactors())
        return replace(
            values,
            learning_rate=values.learning_rate * own.learning_rate,
            epsilon=values.epsilon * own.epsilon,
            weight_decay=values.weight_decay * own.weight_decay,
        )
