"""One step of training."""

import time
from collections.abc import Sequence

from triptych.kernels.philox import Stream
from triptych.trainer.fit_config import FitConfig
from triptych.trainer.loader.losses import counts
from triptych.trainer.metrics import StepRecord
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.scaling.scaling import Scaling
from triptych.trainer.seams import Data, Objective, Rows
from triptych.trainer.state import TrainState


def train_step(
    state: TrainState,
    config: FitConfig,
    *,
    scaling: Scaling,
    data: Data,
    objective: Objective,
    stream: Stream,
    groups: Groups,
    waited_seconds: float = 0.0,
) -> StepRecord:
    """Take the next sequences, as many as are due, their gradient and an optimizer step; advances `state` in place.

    waited_seconds: that have gone by in waiting for them before this call; they count as the step's.
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
    # In the middle of the batch, so that the mean of the schedule over the run does not depend on how it is cut.
    schedule = config.learning_rate.factor(state.tokens + batch_tokens / 2, config.total_tokens)
    kappa = values.kappa(size)
    state.logical_updates += kappa
    if state.batch is not None and state.batch != size:
        state.engine.scale_second_moments(values.second_moment_factor(state.batch, size))
    gradient_norm = state.engine.step(
        values.step_values(size, schedule),
        clipping=values.clipping(config.engine.gradient_clipping, size),
        num_updates=state.logical_updates / kappa,
    )
    if measurement is not None and scaling.noise is not None:
        scaling.noise.add(measurement, tokens=state.tokens + batch_tokens)
        metrics |= scaling.noise.metrics()
    state.tokens, state.step, state.cursor, state.batch = state.tokens + batch_tokens, state.step + 1, cursor, size
    seconds = time.perf_counter() - beginning + waited_seconds
    return StepRecord(
        step=state.step,
        tokens=state.tokens,
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
    )


def micro_batches(batch: Rows, size: int) -> Sequence[Rows]:
    """Cut this rank's rows into micro-batches of at most `size` rows."""
    return [batch.rows(start, min(start + size, len(batch))) for start in range(0, len(batch), size)]
