"""The one loop."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from triptych.kernels.philox import Stream
from triptych.trainer.averages.averages import ModelAverages
from triptych.trainer.checkpoint.store import CheckpointStore
from triptych.trainer.engine.engine import Engine
from triptych.trainer.fit_config import FitConfig
from triptych.trainer.health.config import HealthConfig
from triptych.trainer.health.judge import StepJudge
from triptych.trainer.health.policy import HealthPolicy, Unhealthy
from triptych.trainer.loader.loader import Loader, Note
from triptych.trainer.loader.losses import LossBudget
from triptych.trainer.metrics import StepRecord
from triptych.trainer.parallel.agreement.agreement import Agreement
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.parallel.watch.stragglers import Stragglers
from triptych.trainer.scaling.config import RunFacts
from triptych.trainer.scaling.scaling import Scaling, scaling_of
from triptych.trainer.seams import AfterStep, Data, Objective
from triptych.trainer.state import TrainState
from triptych.trainer.step import train_step

_LOG = logging.getLogger(__name__)

Reporter = Callable[[StepRecord], None]
"""Where a step's numbers go: a file, TensorBoard, the terminal."""


def fit(
    config: FitConfig,
    *,
    chunks: Sequence[nn.Module],
    objective: Objective,
    data: Data,
    groups: Groups,
    facts: RunFacts | None = None,
    checkpoints: Path | None,
    identity: Mapping[str, Any],
    resume: bool = False,
    after_step: Sequence[AfterStep] = (),
    reporters: Sequence[Reporter] = (),
    note: Note = lambda event, facts: None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> TrainState:
    """Train until `total_tokens` have been seen, or a stop is requested, and return where the run stands.

    chunks: this process's pieces of the model, one unless the pipeline is interleaved. facts: what scaling must know of
    the run. checkpoints: folder for them, or None to write none. identity: what a checkpoint must agree with to be
    resumed (model, tokenizers); ValueError, before anything is written, if it does not. note: is told of events, before
    the reporters are of their step. A stop is honoured before a step begins, by all ranks together, whether or not its
    data has come, and leaves a checkpoint of the last whole step. Diverged, on every rank and with one text, if ranks
    differ in what must be equal; ValueError likewise once more samples than `loader` allows could not be read, or
    (Unhealthy) where `health` stops.
    """
    scaling = scaling_of(config, facts or RunFacts(), groups.layout, groups.num_data_ranks)
    state, averages = _start(config, chunks, groups, scaling)
    budget, health = LossBudget(config.loader), HealthPolicy(config.health)
    state.carried |= {"lost_samples": budget, "health": health}

    def note_here(event: str, facts: Mapping[str, Any]) -> None:
        note(event, {"step": state.step + 1, **facts})

    def warn(line: str) -> None:
        _LOG.warning(line)
        note_here("checkpoint", {"cause": line})

    with ExitStack() as stack:
        loader = stack.enter_context(Loader(data, config.loader, groups, note_here))
        store = None
        if checkpoints is not None:
            store = stack.enter_context(CheckpointStore(checkpoints, config.checkpoint, groups, identity, warn))
            if resume:
                store.load_newest(state)
        agreement = Agreement(config.watch, groups)
        judge = StepJudge(health, agreement, _stragglers(config, groups), note_here, speaks=groups.is_first)
        objective = agreement.listening(objective)
        stream = Stream(seed=config.seed)
        while state.tokens < config.total_tokens:
            waiting = time.perf_counter()
            arrived = loader.wait(state.cursor, scaling.sizes.at(state.tokens, state.batch), stop_requested)
            waited_seconds = time.perf_counter() - waiting
            if groups.any_rank(stop_requested() or not arrived or _save_failed(store)):
                break
            record = train_step(
                state,
                config,
                scaling=scaling,
                data=loader,
                objective=objective,
                stream=stream,
                groups=groups,
                judge=judge,
                waited_seconds=waited_seconds,
            )
            record = replace(record, metrics=record.metrics | loader.describe(state.cursor))
            agreement.check_parameters(state)
            if record.is_updated:
                for hook in (averages, *after_step):
                    hook(state)
            for reporter in (*reporters, budget.add):
                reporter(record)
            _treat(judge, state, store, config.health, health)
            # One that is due waits while steps are left out: if the weights themselves are bad, it would be too.
            if store is not None and record.is_updated and state.tokens < config.total_tokens:
                store.save_if_due(state)
        if store is not None:
            store.save(state)
    return state


def _start(
    config: FitConfig, chunks: Sequence[nn.Module], groups: Groups, scaling: Scaling
) -> tuple[TrainState, ModelAverages]:
    """The state before the first step, and the averages of its weights."""
    state = TrainState(engine=Engine(chunks, config.engine, groups, scaling.values.kind_groups))
    averages = ModelAverages(config.averages, state)
    state.carried |= averages.carried
    state.carried["loss_divisor"] = state.engine.divisor
    if scaling.noise is not None:
        state.carried["noise_scale"] = scaling.noise
    return state, averages


def _save_failed(store: CheckpointStore | None) -> bool:
    """Then the run ends now, not at the next save: what is computed until then would be lost too."""
    return store is not None and store.has_failed


def _stragglers(config: FitConfig, groups: Groups) -> Stragglers:
    return Stragglers(config.watch.straggler_factor, config.watch.straggler_steps, groups.layout.pipeline)


def _treat(
    judge: StepJudge, state: TrainState, store: CheckpointStore | None, config: HealthConfig, health: HealthPolicy
) -> None:
    """Go back to a checkpoint if that is the remedy for the last step. Unhealthy if the run is to stop."""
    trouble = judge.trouble
    if trouble is None or trouble.remedy in ("note", "skip"):
        return
    if trouble.remedy == "stop" or store is None:
        raise Unhealthy(
            f"{trouble.text}; see the batch's samples in the logs, then lower the learning rate, or choose another "
            f"fit.health.{trouble.kind}"
        )
    cursor, rollbacks = state.cursor, health.rollbacks

    def amend() -> None:
        health.keep_rollbacks(rollbacks)
        if config.after_rollback == "pass_over":
            state.cursor = cursor

    try:
        store.go_back(state, config.rollback_checkpoints, amend)
    except ValueError as error:  # before the first checkpoint, or none is sound; the same on every rank
        raise Unhealthy(f"{trouble.text}; there is no going back: {error}") from None
