"""One benchmark from its settings to its JSON."""

import dataclasses
import json
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from triptych.configs.registry import named_run
from triptych.configs.tree import with_settings
from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.shards.atomic import replace_file
from triptych.launch.benchmark.measure import Bench, Clock, measure
from triptych.launch.benchmark.record import document, summary
from triptych.launch.benchmark.trace import Breakdown, profiled
from triptych.launch.run_directory import commit
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.parallel.refusal import require_layout

_MATRIX_SIZES = {"cuda": 8192, "cpu": 512}
_NUM_PRODUCTS = 20


def benchmark(
    name: str,
    settings: Sequence[str],
    *,
    placement: Placement,
    num_micro_batches: int | None,
    num_warmup: int,
    num_steps: int,
    trace: bool,
    folder: Path,
    code: str | None,
    command: str,
) -> Path:
    """Measure a named run and write what came out; returns the JSON's path. ValueError as `triptych train`, and for a
    number of steps or micro-batches that makes no sense, before anything is built.
    """
    if num_steps < 1 or num_warmup < 0 or (num_micro_batches or 1) < 1:
        raise ValueError("--steps and --micro-batches are 1 or more and --warmup 0 or more; give such numbers")
    run = _sized(with_settings(named_run(name), settings), placement.world_size, num_micro_batches)
    require_layout(run.plan(placement.world_size))
    folder.mkdir(parents=True, exist_ok=True)
    with process_groups(placement, run.fit.parallel) as groups:
        say = print if groups.is_first else _ignore
        matmul = matmul_tflops(groups.device, run.fit.engine.dtype)
        bench = Bench(run, groups)
        say(f"built in {bench.build_seconds:.1f} s")
        measured = measure(bench, num_warmup=num_warmup, num_steps=num_steps, report=say)
        device = torch.cuda.get_device_name(groups.device) if groups.device.type == "cuda" else "cpu"
        path = folder / f"{name}-{_slug(device)}-{placement.world_size}-{time.strftime('%Y%m%d-%H%M%S')}.json"
        found = document(
            run,
            groups,
            measured,
            command=command,
            commit=code or commit(),
            num_parameters=bench.num_parameters,
            matmul_tflops=matmul,
            # All processes take the step, for they take it together.
            breakdown=_profile(bench, path.with_suffix(f".rank{placement.rank}.trace.json.gz")) if trace else None,
        )
        if groups.is_first:
            replace_file(path, (json.dumps(found, indent=2) + "\n").encode())
            say("\n".join([*summary(found), str(path)]))
    return path


def matmul_tflops(device: torch.device, dtype: torch.dtype) -> float:
    """What the multiplication of two large square matrices of random numbers reaches, median of 20 after two that warm
    up: the ceiling of this device as it is today, which the data sheet's peak is not.
    """
    size = _MATRIX_SIZES[device.type]
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    clock = Clock(device)
    seconds = []
    for _ in range(_NUM_PRODUCTS + 2):
        clock.wait()
        started = time.perf_counter()
        torch.matmul(left, right)
        clock.wait()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds[2:]) / 1e12


def _sized(run: TrimodalRun, world_size: int, num_micro_batches: int | None) -> TrimodalRun:
    """With a batch of so many micro-batches on each data-parallel rank; as it is for None."""
    if num_micro_batches is None:
        return run
    data_ranks = world_size // run.fit.parallel.model_ranks
    batch = num_micro_batches * run.fit.micro_batch_per_dp_rank * max(1, data_ranks)
    return dataclasses.replace(run, fit=dataclasses.replace(run.fit, physical_batch=batch))


def _profile(bench: Bench, path: Path) -> Breakdown:
    return profiled(bench.step, bench.clock.wait, path)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _ignore(line: str) -> None:
    """What other processes than the first have to say."""
