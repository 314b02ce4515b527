"""One run from its settings to its last checkpoint."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from triptych.configs.token_data import Tokenizers, build_mixture, load_tokenizers, require_vocabulary
from triptych.configs.tree import to_yaml
from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.tokenizers.protocol import fingerprints_of
from triptych.launch.run_directory import RunDirectory, commit
from triptych.launch.signals import stop_requests
from triptych.trainer.fit import Reporter, fit
from triptych.trainer.loader.stream_data import StreamData
from triptych.trainer.logs import JsonLines, TensorBoard
from triptych.trainer.parallel.agreement.agreement import require_same
from triptych.trainer.parallel.groups import Groups

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
    data = training_data(run, tokenizers)
    chunks = run.build_chunks(groups)
    if groups.placement.world_size > 1:
        require_same({"the commit": commit(), "the digest of its settings": _digest(to_yaml(run))}, groups)
    with ExitStack() as stack:
        if groups.is_first and not resume:
            directory.start(run, command)
        groups.barrier()
        log = directory.log(groups.placement.rank)
        log_to(log)
        lines = stack.enter_context(JsonLines(log))
        reporters = [lines, *reporters]
        if groups.is_first:
            every = run.fit.total_tokens // TENSORBOARD_POINTS
            reporters.append(stack.enter_context(TensorBoard(directory.tensorboard, every)))
        stop_requested = stack.enter_context(stop_requests())
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
            reporters=reporters,
            note=lines.note,
            stop_requested=stop_requested,
        )
    return TrainOutcome(tokens=state.tokens, stopped=state.tokens < run.fit.total_tokens)


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
