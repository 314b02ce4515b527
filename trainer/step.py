"""One step of training."""

import time
from collections.abc import Sequence

from triptych.kernels.philox import Stream
from triptych.trainer.fit_config import FitConfig
from triptych.trainer.metrics import StepRecord
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.seams import Data, Objective, Rows
from triptych.trainer.state import TrainState


def train_step(
    state: TrainState, config: FitConfig, *, data: Data, objective: Objective, stream: Stream, groups: Groups
) -> StepRecord:
    """Take the next logical batch, its gradient and an optimizer step; advances `state` in place."""
    started = time.perf_counter()
    batch, cursor = data.batch(state.cursor, config.logical_batch, groups.data_rank, groups.num_data_ranks)
    batch = batch.to(groups.device)
    metrics = state.engine.forward_backward(micro_batches(batch, config.micro_batch_per_dp_rank), objective, stream)
    batch_tokens = int(groups.sum_over_data(batch.num_tokens.clone()))
    tokens = state.tokens + batch_tokens
    learning_rate = config.optimizer.peak_learning_rate * config.learning_rate.factor(tokens, config.total_tokens)
    gradient_norm = state.engine.step(learning_rate)
    state.tokens, state.step, state.cursor = tokens, state.step + 1, cursor
    return StepRecord(
        step=state.step,
        tokens=tokens,
        total_tokens=config.total_tokens,
        batch_tokens=batch_tokens,
        seconds=time.perf_counter() - started,
        learning_rate=learning_rate,
        gradient_norm=gradient_norm,
        metrics=metrics,
    )


def micro_batches(batch: Rows, size: int) -> Sequence[Rows]:
    """Cut this rank's rows into micro-batches of at most `size` rows."""
    return [batch.rows(start, min(start + size, len(batch))) for start in range(0, len(batch), size)]
