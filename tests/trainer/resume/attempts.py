"""One attempt at a run: real ranks that train, write checkpoints on a slow disk, and tell what they saw in files."""

import json
import logging
import os
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import alongside  # noqa: F401 - before what it makes importable
import layout_run
import tiny_run
import torch
from forked_ranks import Ranks
from layout_run import Cell
from torch import distributed

from triptych.launch.signals import stop_requests
from triptych.trainer.checkpoint.config import CheckpointConfig
from triptych.trainer.checkpoint.disk import folders, storage
from triptych.trainer.fit import fit
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

TOTAL_TOKENS = 4000
"""About 20 steps."""
EVERY_TOKENS = 500


@dataclass(kw_only=True, slots=True, frozen=True)
class Attempt:
    """What the ranks do. number: of the attempt, from 0. operation_seconds: a box or a flush takes so much longer.
    full_disk_of: a rank whose disk has no space for its second checkpoint, or None.
    """

    run: Path
    cell: Cell
    number: int = 0
    resume: bool = False
    total_tokens: int = TOTAL_TOKENS
    every_tokens: int = EVERY_TOKENS
    operation_seconds: float = 0.0
    full_disk_of: int | None = None

    @property
    def checkpoints(self):
        return self.run / "checkpoints"

    @property
    def folder(self):
        """Where the ranks leave what they saw."""
        return self.run / f"attempt{self.number}"

    @property
    def curve(self):
        """One dict per step that rank 0 has told of, in order."""
        path = self.folder / "curve.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    @property
    def warnings(self):
        """The lines that rank 0's user was warned with."""
        return (self.folder / "warnings").read_text().splitlines()

    def error(self, rank):
        """What ended a rank: the exception's type and its text."""
        kind, _, text = (self.folder / f"rank{rank}.error").read_text().partition(": ")
        return kind, text.strip()

    def start(self):
        self.folder.mkdir(parents=True)
        return Ranks(rank_main, self.cell.num_processes, self)

    def finish(self, timeout_seconds=120):
        """Run to the end undisturbed; the exit codes are then all 0."""
        with self.start() as ranks:
            assert ranks.wait(timeout_seconds), f"{self} had not ended after {timeout_seconds} s"
        assert not any(ranks.codes), self.tracebacks()

    def tracebacks(self):
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("rank*.traceback")))


def rank_main(rank, attempt):
    """A rank's life. What goes wrong is left in files, and the process ends at once: groups whose peers are gone may
    wait for them for ever.
    """
    torch.set_num_threads(1)
    with (attempt.folder / f"rank{rank}.out").open("w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    num_processes = attempt.cell.num_processes
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(num_processes))
    handler = logging.FileHandler(attempt.folder / ("warnings" if rank == 0 else f"warnings{rank}"))
    logging.getLogger("triptych").addHandler(handler)
    store = distributed.FileStore(str(attempt.folder / "store"), num_processes)
    placement = Placement(rank=rank, world_size=num_processes, local_rank=rank)
    with process_groups(placement, attempt.cell.layout, store=store) as groups:
        try:
            _train(attempt, groups)
        except BaseException as error:  # noqa: BLE001 - told in a file
            (attempt.folder / f"rank{rank}.error").write_text(f"{type(error).__name__}: {error}")
            (attempt.folder / f"rank{rank}.traceback").write_text(traceback.format_exc())
            os._exit(1)


def _train(attempt, groups):
    if attempt.operation_seconds:
        _slow_disk(attempt.operation_seconds)
    if attempt.full_disk_of == groups.placement.rank:
        _full_disk()
    config = replace(
        layout_run.settings(attempt.cell),
        total_tokens=attempt.total_tokens,
        checkpoint=CheckpointConfig(every_tokens=attempt.every_tokens),
    )
    with (attempt.folder / f"curve{groups.placement.rank or ''}.jsonl").open("w") as curve, stop_requests() as asked:

        def report(record):
            values = {"step": record.step, "tokens": record.tokens, "norm": record.gradient_norm, **record.metrics}
            curve.write(json.dumps(values) + "\n")  # JSON keeps every bit of a float
            curve.flush()

        fit(
            config,
            chunks=layout_run.build_chunks(groups, attempt.cell),
            objective=MaskedDiffusion(MaskedDiffusionConfig(), tiny_run.VOCABULARY, groups.collection.tp),
            data=layout_run.mixture(),
            groups=groups,
            checkpoints=attempt.checkpoints,
            identity=tiny_run.IDENTITY,
            resume=attempt.resume,
            reporters=[report],
            stop_requested=asked,
        )


def _slow_disk(seconds):
    """Every box that is written, flush, rename and deletion takes so much longer, so that kills meet them."""

    def slow(operation):
        def slowed(*arguments, **options):
            time.sleep(seconds)
            return operation(*arguments, **options)

        return slowed

    def slow_write(path, shapes, tensors):
        return files_written(path, shapes, (slow(lambda tensor: tensor)(tensor) for tensor in tensors))

    files_written = storage.write_tensors
    storage.write_tensors = slow_write
    folders.shutil.rmtree = slow(folders.shutil.rmtree)
    os.fsync, os.rename = slow(os.fsync), slow(os.rename)


def _full_disk():
    """The second checkpoint's moments go to a device that is always full: the kernel itself refuses."""
    opened = []
    path_open = Path.open

    def open_full(path, mode="r", *arguments, **options):
        if mode == "xb" and path.name.startswith("exp_avg-"):
            opened.append(path)
            if len(opened) == 2:
                return path_open(Path("/dev/full"), "wb")
        return path_open(path, mode, *arguments, **options)

    Path.open = open_full
