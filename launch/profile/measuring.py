"""All that is measured of one run, pass by pass: at full speed, by part, in memory, under the profiler, saving."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from triptych.configs.trimodal import TrimodalRun
from triptych.launch.profile.measure.alike import Held, fullest
from triptych.launch.profile.measure.communication import Communication, communication
from triptych.launch.profile.measure.counts import Counts, Work, work
from triptych.launch.profile.measure.memory import MemoryStages, measured_parts
from triptych.launch.profile.measure.parts import timed_parts
from triptych.launch.profile.measure.rig import Rig
from triptych.launch.profile.measure.saving import SaveTimes, timed_save
from triptych.launch.profile.measure.steady import timed_steps, warm_up
from triptych.launch.profile.measure.trace import Breakdown, breakdown, traced
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.seams import Data

MOST_WARMUP_STEPS = 30
NUM_TRACES = 8  # the first processes, one node's; more files than anyone opens
_MATRIX_SIZES = {"cuda": 8192, "cpu": 512}
_NUM_PRODUCTS = 20

Report = Callable[[str], None]
"""Told what is going on, a line at a time."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Passes:
    """What to measure. num_warmup: steps at the least before the clock runs. num_steps: timed at full speed; a third as
    many, but two at the least, are timed by part. trace: a step under the profiler, and with it communication.
    checkpoint: write one.
    """

    num_warmup: int = 3
    num_steps: int = 20
    trace: bool = True
    checkpoint: bool = True

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.num_warmup < 0:
            raise ValueError("--steps is 1 or more and --warmup 0 or more; give such numbers")


@dataclass(kw_only=True, slots=True, frozen=True)
class Measured:
    """What came out, on this process; `work` is of all together, `held` of the one that held most."""

    warmup_steps: int
    steady: bool
    seconds: list[float]
    parts: list[dict[str, float]]
    work: Work
    held: Held
    peak_reserved_bytes: int | None
    breakdown: Breakdown | None
    communication: Communication | None
    saving: SaveTimes | None
    matmul_tflops: float
    batch: int
    num_parameters: int
    build_seconds: float
    losses: list[float]
    load: tuple[float, float]


def measure(run: TrimodalRun, groups: Groups, data: Data, passes: Passes, *, base: Path, report: Report) -> Measured:
    """base: of the files' names; a trace is put beside it, and a checkpoint for a while. Called by all processes."""
    load = os.getloadavg()[0]
    matmul = matmul_tflops(groups.device, run.fit.engine.dtype)
    rig = Rig(run, groups, data)
    report(f"built in {rig.build_seconds:.1f} s")
    warmup_steps, steady = warm_up(
        rig, at_least=passes.num_warmup, at_most=MOST_WARMUP_STEPS if passes.num_warmup else 0
    )
    report(f"warmed up: {warmup_steps} steps{'' if steady else ', not steady'}")
    rig.marks.counts = Counts()
    rig.memory.restart_peak()
    seconds = timed_steps(rig, passes.num_steps)
    peak, reserved = rig.memory.peak, rig.memory.peak_reserved
    done = work(rig.marks.counts, run.model, run.fit.recompute, groups)
    report(f"{passes.num_steps} steps, {1e3 * statistics.median(seconds):.1f} ms each")
    parts = timed_parts(rig, max(2, passes.num_steps // 3))
    parts_of_memory = _memory(rig, peak)
    held = fullest(groups, Held(peak=peak, parts=parts_of_memory, stage=groups.stage, group_sizes=rig.group_sizes))
    shares, collectives = _traced(rig, base, report) if passes.trace else (None, None)
    saving = timed_save(rig, base.parent) if passes.checkpoint else None
    return Measured(
        warmup_steps=warmup_steps,
        steady=steady,
        seconds=seconds,
        parts=parts,
        work=done,
        held=held,
        peak_reserved_bytes=None if reserved is None else rig.largest(reserved),
        breakdown=shares,
        communication=collectives,
        saving=saving,
        matmul_tflops=matmul,
        batch=rig.batch,
        num_parameters=rig.num_parameters,
        build_seconds=rig.build_seconds,
        losses=rig.losses,
        load=(load, os.getloadavg()[0]),
    )


def trace_path(base: Path, rank: int) -> Path:
    """Of one process's trace."""
    return base.with_name(f"{base.name}.rank{rank}.trace.json.gz")


def matmul_tflops(device: torch.device, dtype: torch.dtype) -> float:
    """What the multiplication of two large square matrices of random numbers reaches, median of 20 after two that warm
    up: the ceiling of this device as it is today, which the data sheet's peak is not.
    """
    size = _MATRIX_SIZES[device.type]
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(_NUM_PRODUCTS + 2):
        _wait(device)
        started = time.perf_counter()
        torch.matmul(left, right)
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds[2:]) / 1e12


def _memory(rig: Rig, peak: int) -> dict[str, int]:
    """By part, of one more step."""
    stages = MemoryStages(rig.memory)
    rig.listen(stages)
    rig.step()
    rig.listen(None)
    return measured_parts(
        parameters=rig.parameter_storages(), optimizer=rig.optimizer_storages(), stages=stages, peak=peak
    )


def _traced(rig: Rig, base: Path, report: Report) -> tuple[Breakdown | None, Communication | None]:
    """One more step, which all processes take and the first few of them record."""
    rank = rig.groups.placement.rank
    if rank >= NUM_TRACES:
        rig.step()
        return None, None
    step = traced(rig.step, rig.wait, trace_path(base, rank), rig.listen)
    found = breakdown(step)
    report(f"traced a step of {found.seconds:.3f} s with {found.launches} launches")
    return found, communication(step)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
