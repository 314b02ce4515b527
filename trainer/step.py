"""One step of training."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from triptych.kernels.philox import Stream
from triptych.trainer.fit_config import FitConfig
from triptych.trainer.health.policy import Trouble
from triptych.trainer.loader.losses import counts
from triptych.trainer.metrics import StepRecord
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.scaling.scaling import Scaling
from triptych.trainer.seams import Data, Objective, Rows
from triptych.trainer.state import TrainState


@dataclass(kw_only=True, slots=True, frozen=True)
class Standing:
    """Where a step stands once its gradient is known, and nothing is written yet. step, tokens, cursor: after it. rows:
    this rank's. busy_seconds: for which this rank waited for them or went through the model.
    """

    step: int
    tokens: int
    cursor: Mapping[str, int]
    loss: float | None
    gradient_norm: float
    rows: Rows
    busy_seconds: float


Judge = Callable[[Standing], Trouble | None]
"""What is wrong with a step; called once in each, on all ranks, which must all find the same."""


def train_step(
    state: TrainState,
    config: FitConfig,
    *,
    scaling: Scaling,
    data: Data,
    objective: Objective,
    stream: Stream,
    groups: Groups,
    judge: Judge = lambda standing: None,
    waited_seconds: float = 0.0,
) -> StepRecord:
    """Take the next sequences, as many as are due, their gradient and an optimizer step; advances `state` in place.

    judge: may leave the optimizer step out; then nothing moves but the clock and the place in the data.
    waited_seconds: that have gone by in waiting for the data before this call; they count as the step's.
    """
    beginning = time.perf_counter()
    size, values = scaling.sizes.at(state.tokens, state.batch), scaling.values
    rows, cursor = data.batch(state.cursor, size, groups.data_rank, groups.num_data_ranks)
    rows = rows.to(groups.device)
    data_seconds = waited_seconds + time.perf_counter() - beginning
    measurement = scaling.cut(rows, config.micro_batch_per_dp_rank, groups, tokens=state.tokens)
    if measurement is None:
        metrics = state.engine.forward_backward(micro_batches(rows, config.micro_batch_per_dp_rank), objective, stream)
    else:
        parts, halves = measurement.micro_batches, measurement.halves
        metrics = state.engine.forward_backward(parts, objective, stream, halves)
    batch_tokens, samples, lost_samples = groups.sum_over_data(counts(rows)).tolist()
    tokens, step, is_updated = state.tokens + batch_tokens, state.step + 1, False

    def permit(norm: float) -> bool:
        nonlocal is_updated
        loss, busy_seconds = metrics.get("loss"), data_seconds + state.engine.busy_seconds
        standing = Standing(
            step=step, tokens=tokens, cursor=cursor, loss=loss, gradient_norm=norm, rows=rows, busy_seconds=busy_seconds
        )
        trouble = judge(standing)
        is_updated = math.isfinite(norm) and (trouble is None or trouble.takes_update)
        return is_updated

    # In the middle of the batch, so that the mean of the schedule over the run does not depend on how it is cut.
    schedule = config.learning_rate.factor(state.tokens + batch_tokens / 2, config.total_tokens)
    kappa = values.kappa(size)
    changed = state.batch is not None and state.batch != size
    gradient_norm = state.engine.step(
        values.step_values(size, schedule),
        clipping=values.clipping(config.engine.gradient_clipping, size),
        num_updates=(state.logical_updates + kappa) / kappa,
        second_moment_factor=values.second_moment_factor(state.batch or size, size) if changed else 1.0,
        permit=permit,
    )
    if is_updated:
        state.logical_updates, state.batch = state.logical_updates + kappa, size
    if measurement is not None and scaling.noise is not None:
        if is_updated:
            scaling.noise.add(measurement, tokens=tokens)
        metrics |= scaling.noise.metrics()
    state.tokens, state.step, state.cursor = tokens, step, cursor
    seconds = time.perf_counter() - beginning + waited_seconds
    return StepRecord(
        step=step,
        tokens=tokens,
        total_tokens=config.total_tokens,
        batch_tokens=batch_tokens,
        batch=size,
        kappa=kappa,
        seconds=seconds,
        learning_rate=values.learning_rate(size, schedule),
        gradient_norm=gradient_norm,
        metrics=metrics,
        samples=samples,
        lost_samples=lost_samples,
        data_wait_fraction=data_seconds / seconds,
        busy_seconds=data_seconds + state.engine.busy_seconds,
        is_updated=is_updated,
    )


def micro_batches(batch: Rows, size: int) -> Sequence[Rows]:
    """Cut this rank's rows into micro-batches of at most `size` rows."""
    return [batch.rows(start, min(start + size, len(batch))) for start in range(0, len(batch), size)]
