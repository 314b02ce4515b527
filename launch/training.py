"""One run from its settings to its last checkpoint."""

import hashlib
import json
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from triptych.configs.token_data import Tokenizers, build_mixture, load_tokenizers, require_vocabulary
from triptych.configs.tree import to_mapping, to_yaml
from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.tokenizers.protocol import fingerprints_of
from triptych.launch.run_directory import RunDirectory, commit
from triptych.launch.signals import stop_requests
from triptych.launch.watching.alone import end_alone, last_words, told
from triptych.launch.watching.gauges import device_name, memory_gauge, resident_bytes, utilization_gauge
from triptych.launch.watching.samples import TrainingSamples, why_not
from triptych.launch.watching.weights_and_biases import WeightsAndBiases, require_wandb
from triptych.trainer.fit import Reporter, fit
from triptych.trainer.loader.stream_data import StreamData
from triptych.trainer.logs import JsonLines, TensorBoard
from triptych.trainer.parallel.agreement.agreement import require_same
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.parallel.watch.heart import Heart

TENSORBOARD_POINTS = 500


@dataclass(kw_only=True, slots=True, frozen=True)
class TrainOutcome:
    """Where the run stands. stopped: by a signal, before its last token."""

    tokens: int
    stopped: bool


def train(
    run: TrimodalRun,
    directory: RunDirectory,
    groups: Groups,
    *,
    command: str,
    resume: bool = False,
    reporters: Sequence[Reporter] = (),
    log_to: Callable[[Path], None] = lambda path: None,
) -> TrainOutcome:
    """Train a run into its directory, or go on with it. Everything is read and checked before anything is written.

    log_to: told this rank's log once it may be written. ValueError for shards, tokenizers or a checkpoint that do not
    belong to the run, and for a directory that holds another run.
    """
    tokenizers = load_tokenizers(run.data_folder)
    require_wandb(run.watch)
    data = training_data(run, tokenizers)
    chunks = run.build_chunks(groups)
    if groups.placement.world_size > 1:
        require_same({"the commit": commit(), "the digest of its settings": _digest(to_yaml(run))}, groups)
    log = directory.log(groups.placement.rank)
    with ExitStack() as stack:
        if groups.is_first and not resume:
            directory.start(run, command)
        groups.barrier()
        log_to(log)
        stop_requested = stack.enter_context(stop_requests())
        heart = stack.enter_context(_heart(run, directory, groups))
        if groups.placement.world_size == 1:
            stack.enter_context(last_words(log, lambda: heart.has_begun or not resume))
        lines = stack.enter_context(JsonLines(log))
        reporters, after_step = [heart.note, lines, *reporters], []
        if groups.is_first:
            boards = [stack.enter_context(board) for board in _boards(run, directory, groups)]
            reporters += boards
            if run.watch.samples_every_tokens and why_not(groups) is None:
                after_step.append(TrainingSamples(run, tokenizers, groups.device, boards, stop_requested))
            elif run.watch.samples_every_tokens:
                print(f"triptych: warning: {why_not(groups)}", file=sys.stderr)
        state = fit(
            run.fit,
            chunks=chunks,
            objective=run.build_objective(groups=groups),
            data=data,
            groups=groups,
            facts=run.facts,
            checkpoints=directory.checkpoints,
            identity=run.identity(tokenizers),
            resume=resume,
            after_step=after_step,
            reporters=reporters,
            note=told(lines.note, speaks=groups.is_first),
            stop_requested=stop_requested,
        )
        outcome = TrainOutcome(tokens=state.tokens, stopped=state.tokens < run.fit.total_tokens)
        heart.leave("stopped" if outcome.stopped else "finished")
    return outcome


def _heart(run: TrimodalRun, directory: RunDirectory, groups: Groups) -> Heart:
    """This rank's heartbeat; alone, it also ends a run that hangs, as the ranks of many do for each other."""
    rank, world_size = groups.placement.rank, groups.placement.world_size
    return Heart(
        run.fit.watch,
        directory.heartbeats,
        directory.dumps,
        rank=rank,
        world_size=world_size,
        host=socket.gethostname(),
        resident_bytes=resident_bytes,
        end=partial(end_alone, directory.log(rank)) if world_size == 1 else None,
    )


def _boards(run: TrimodalRun, directory: RunDirectory, groups: Groups) -> list[TensorBoard | WeightsAndBiases]:
    """Where the first rank shows the run."""
    every = run.fit.total_tokens // TENSORBOARD_POINTS
    gauges = [memory_gauge(groups.device), utilization_gauge(run, groups)]
    boards: list[TensorBoard | WeightsAndBiases] = [
        TensorBoard(directory.tensorboard, every, gauges, expected(run, directory, groups))
    ]
    if run.watch.wandb != "off":
        settings = to_mapping(run)
        boards.append(WeightsAndBiases(run.watch, directory.folder, run.name, settings, every, gauges))
    return boards


def expected(run: TrimodalRun, directory: RunDirectory, groups: Groups) -> Mapping[str, float]:
    """What the run's directory says was expected of it, or else what the planner does; by the names of the scalars."""
    return predictions(directory.predictions) or planned(run, groups.placement.world_size, device_name(groups))


def planned(run: TrimodalRun, world_size: int, device: str) -> Mapping[str, float]:
    """What the planner expects, where the loop measures the same; nothing of a device that it does not know. Its MFU
    counts operations as they are run, the loop's as the model needs them, so the two are not set side by side.
    """
    from triptych.launch.planning.runs import predictions as planners

    shown = {"tokens_per_second": "tokens_per_second", "peak_bytes": "memory/peak_allocated_bytes"}
    found = planners(run, world_size, device)
    return {scalar: found[name] for name, scalar in shown.items() if name in found}


def predictions(path: Path) -> dict[str, float]:
    """What was expected of a run, by the names of its scalars; nothing if nobody said. ValueError if it is damaged."""
    if not path.exists():
        return {}
    try:
        return {name: float(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no JSON of names and numbers ({error}); mend or remove it") from None


def training_data(run: TrimodalRun, tokenizers: Tokenizers) -> StreamData:
    """The run's training split. Worker processes are sent the tokenizers' fingerprints, by which they know the shards.

    ValueError as `TrimodalRun.build_mixture`.
    """
    require_vocabulary(run.model.vocabulary, tokenizers)
    copies = run.facts.rows_together
    build = partial(
        build_mixture,
        run.data,
        run.layout,
        fingerprints_of(tokenizers),
        split="train",
        seed=run.fit.seed,
        copies=copies,
    )
    return StreamData(build, copies)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
