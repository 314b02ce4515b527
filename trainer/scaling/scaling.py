"""A run's scaling: how large each step's batch is, and the hyper-parameters for it."""

import math
from dataclasses import dataclass

from triptych.trainer.fit_config import FitConfig
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.parallel.plan import batch_unit
from triptych.trainer.scaling.config import RunFacts
from triptych.trainer.scaling.hyper_parameters import HyperParameters
from triptych.trainer.scaling.noise import Measurement, NoiseScale, why_not
from triptych.trainer.scaling.physical import BatchLimits, BatchSchedule, BatchSizes
from triptych.trainer.scaling.rules import Finding, guards, most_for_beta
from triptych.trainer.seams import Rows


@dataclass(kw_only=True, slots=True, frozen=True)
class Scaling:
    """What `scaling_of` makes of a run's settings. noise: the estimate of the gradient's, where it is measured."""

    values: HyperParameters
    sizes: BatchSizes
    noise: NoiseScale | None
    rows_together: int

    def cut(self, rows: Rows, micro_batch: int, groups: Groups, *, tokens: int) -> Measurement | None:
        """The rows of a step at which the noise is measured; None at every other."""
        if self.noise is None:
            return None
        return self.noise.cut(rows, micro_batch, groups, tokens=tokens, together=self.rows_together)

    def unmeasured(self, rows: int, layout: ParallelLayout) -> str | None:
        """Why the noise that is to be measured cannot be, with so many rows on each rank; None if it can, or is not to
        be.
        """
        if self.noise is None:
            return None
        return why_not(rows, self.rows_together, pipeline=layout.pipeline, virtual=layout.virtual)


def scaling_of(config: FitConfig, facts: RunFacts, layout: ParallelLayout, data_ranks: int) -> Scaling:
    """The scaling of a run in a layout."""
    values = hyper_parameters(config, facts)
    unit = batch_unit(layout, data_ranks, config.micro_batch_per_dp_rank, facts.rows_together)
    whole = math.lcm(unit, data_ranks * config.micro_batch_per_dp_rank)
    if why_not(whole // data_ranks, facts.rows_together, pipeline=layout.pipeline, virtual=layout.virtual) is not None:
        whole *= 2  # an automatic batch that cannot be measured would stay where it is for ever
    limits = BatchLimits(
        unit=unit,
        whole_micro_batches=whole,
        most=largest_batch(config, facts, values),
    )
    noise = None if config.noise_scale is None else NoiseScale(config.noise_scale, facts.gradient_parts)
    sizes = BatchSizes(
        config.physical_batch,
        limits,
        logical=values.logical_batch,
        critical=(lambda: None) if noise is None else noise.critical_batch,
    )
    return Scaling(values=values, sizes=sizes, noise=noise, rows_together=facts.rows_together)


def hyper_parameters(config: FitConfig, facts: RunFacts) -> HyperParameters:
    """The run's values for any batch."""
    return HyperParameters(
        config.optimizer,
        config.scaling,
        base_batch=config.logical_batch,
        total_tokens=config.total_tokens,
        shape=facts.shape,
    )


def largest_batch(config: FitConfig, facts: RunFacts, values: HyperParameters) -> float:
    """Sequences up to which no guard has anything to say of moments and steps; infinite where none can."""
    limits = [math.inf]
    if config.scaling.rule == "sde":
        limits += [values.logical_batch * most_for_beta(beta, config.scaling.betas) for beta in config.optimizer.betas]
    if config.scaling.minimum_steps is not None and facts.tokens_per_row is not None:
        limits.append(config.total_tokens / facts.tokens_per_row / config.scaling.minimum_steps)
    return min(limits)


def planned_batches(config: FitConfig, scaling: Scaling) -> list[tuple[int, int]]:
    """Tokens and batch at the start, and at every change that is known beforehand."""
    choice = config.physical_batch
    starts = choice.tokens if isinstance(choice, BatchSchedule) else (0,)
    return [(tokens, scaling.sizes.at(tokens, None)) for tokens in starts if tokens < config.total_tokens]


def findings(config: FitConfig, facts: RunFacts, batch: int) -> list[Finding]:
    """What the guards say of a batch of so many sequences; nothing without a rule."""
    if config.scaling.rule == "none":
        return []
    values = hyper_parameters(config, facts)
    steps, decays = math.inf, []
    if facts.tokens_per_row is not None:
        steps = config.total_tokens / facts.tokens_per_row / batch
        logical_tokens = values.logical_batch * facts.tokens_per_row
        decays = [decay for average in config.averages if (decay := average.logical_decay(logical_tokens)) is not None]
    return guards(
        config.optimizer.values,
        values.kappa(batch),
        form=config.scaling.betas,
        steps=steps,
        minimum_steps=config.scaling.minimum_steps,
        ema_decays=tuple(decays),
    )


def require_sound_batches(config: FitConfig, facts: RunFacts, layout: ParallelLayout, data_ranks: int) -> list[str]:
    """Of every planned batch: ValueError if the rule cannot take it; else what to warn of, a line each."""
    scaling = scaling_of(config, facts, layout, data_ranks)
    warnings = []
    for batch in dict.fromkeys(batch for _, batch in planned_batches(config, scaling)):
        for finding in findings(config, facts, batch):
            if finding.severity == "error":
                raise ValueError(f"a batch of {batch}: {finding.text}")
            warnings.append(f"a batch of {batch}: {finding.text}")
        unmeasured = scaling.unmeasured(batch // data_ranks, layout)
        if unmeasured is not None:
            warnings.append(f"gradient noise is not measured: {unmeasured}")
    return warnings
