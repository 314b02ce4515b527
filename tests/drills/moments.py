"""Moments of a run at which a fault can strike: a rank waits there, and says so, until the fault has struck."""

import functools
import importlib
import json
import os
import time
from dataclasses import dataclass

POLL_SECONDS = 0.005

PLACES = {
    "start-up": ("triptych.launch.training", "load_tokenizers"),
    "set-up": ("triptych.configs.trimodal", "TrimodalRun.build_objective"),
    "data wait": ("triptych.trainer.loader.stream_data", "StreamData.batch"),
    "forward": ("triptych.models.trimodal.model", "TrimodalTransformer.forward"),
    "step": ("triptych.trainer.health.policy", "HealthPolicy.judge"),
    "checkpoint": ("triptych.trainer.checkpoint.disk.storage", "write_tensors"),
    "samples": ("triptych.trainer.generation", "Generator.targets"),
    "between": ("triptych.trainer.logs", "JsonLines.__call__"),
}
"""What is called then, and is held up."""

BEFORE_LOGS = ("start-up",)
BEFORE_STEPS = ("start-up", "set-up")


@dataclass(kw_only=True, slots=True, frozen=True)
class Moment:
    """phase: a name of PLACES. step: of the run, counted from 1, in which it comes; where the phase comes seldom, the
    first time from there on. rank: that waits. hold_seconds: at most; the run then goes on. is_released: whether it
    goes on as soon as the fault has struck, or holds on (a disk that does not answer).
    """

    phase: str
    step: int
    rank: int
    hold_seconds: float = 60.0
    is_released: bool = True


def plant(moment, rank, folder):
    """Hold this process up at the moment, if it is the rank that waits. Every rank counts its steps."""
    steps = _counted_steps()
    workers = _remembered_workers()
    if rank != moment.rank:
        return
    held = []

    def hold():
        if held or (moment.phase not in BEFORE_STEPS and steps() + 1 < moment.step):
            return
        held.append(True)
        announced = {"pid": os.getpid(), "steps_done": steps(), "workers": [p for w in workers for p in w.pids]}
        (folder / ".reached").write_text(json.dumps(announced | {"time": time.time()}))
        (folder / ".reached").rename(folder / "reached")
        end = time.monotonic() + moment.hold_seconds
        while time.monotonic() < end and not (moment.is_released and (folder / "struck").exists()):
            time.sleep(POLL_SECONDS)

    _wrap(*PLACES[moment.phase], before=hold)


def _counted_steps():
    """Steps that this process has logged, or that a run which goes on had."""
    last = [0]

    def note(lines, record):
        last[0] = record.step

    _wrap(*PLACES["between"], after=note)
    return lambda: last[0]


def _remembered_workers():
    found = []
    _wrap("triptych.trainer.loader.workers", "Workers.__enter__", after=found.append)
    return found


def _wrap(module, path, *, before=lambda: None, after=lambda *given: None):
    """Call `before()` and `after(*its arguments)` around a function or method of the product."""
    owner = importlib.import_module(module)
    *outer, name = path.split(".")
    for each in outer:
        owner = getattr(owner, each)
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def wrapped(*given, **options):
        before()
        result = inner(*given, **options)
        after(*given)
        return result

    setattr(owner, name, wrapped)
