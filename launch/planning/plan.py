"""A plan: what a run needs, and what it costs."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from triptych.configs.trimodal import TrimodalRun
from triptych.launch.planning.calibration import Calibration, calibrated
from triptych.launch.planning.hardware.devices import Device, named_device
from triptych.launch.planning.hardware.interconnect import with_network
from triptych.launch.planning.model.assumptions import Assumptions, default_assumptions
from triptych.launch.planning.reliability import FailureConfig, Reliability, reliability
from triptych.launch.planning.search import Candidate, Ranking, ranking

BYTES_PER_CODE = 4  # on disk as in memory: a text vocabulary of more than 65,536 needs them
_CHECKPOINT_BYTES = 12  # of a parameter: weights and two moments in fp32
_AVERAGE_BYTES = 4  # of a parameter and average


@dataclass(kw_only=True, slots=True, frozen=True)
class Totals:
    """Of a whole run. days: without failures, and with them. price: None where none was given. data_bytes_per_second:
    that the storage must give, all processes together.
    """

    tokens: int
    days: float
    days_with_failures: float
    gpu_hours: float
    gpu_hours_with_failures: float
    price: float | None
    data_bytes_per_second: float
    interval_tokens: float


@dataclass(kw_only=True, slots=True, frozen=True)
class RunPlan:
    """chosen: what the totals are of: the best layout that fits, else the run's own, which then does not."""

    run: TrimodalRun
    device: Device
    num_devices: int
    assumptions: Assumptions
    failures: FailureConfig
    calibration: Calibration | None
    ranking: Ranking
    chosen: Candidate
    reliability: Reliability
    totals: Totals


def make_plan(
    run: TrimodalRun,
    *,
    num_devices: int,
    device_name: str,
    network: str | None,
    profiles: Sequence[Path],
    failures: FailureConfig,
    price_per_gpu_hour: float | None,
) -> RunPlan:
    """ValueError for a device or network that is not known, profiles of another device, and where nothing is legal."""
    if num_devices < 1:
        raise ValueError(f"--gpus {num_devices} is none; give 1 or more")
    if price_per_gpu_hour is not None and not 0 <= price_per_gpu_hour < float("inf"):
        raise ValueError(f"--price-per-gpu-hour {price_per_gpu_hour} is no price; give a number of 0 or more")
    device = named_device(device_name)
    if network is not None:
        device = with_network(device, network)
    assumptions = default_assumptions(device)
    calibration = calibrated(profiles, device, assumptions, run.fit.engine.precision) if profiles else None
    if calibration is not None:
        assumptions = calibration.assumptions
    ranked = ranking(run, num_devices, device, assumptions)
    chosen = ranked.best[0] if ranked.best else ranked.given or ranked.too_large
    assert chosen is not None, "something was legal"
    safe = _reliability(run, chosen, num_devices, failures)
    return RunPlan(
        run=run,
        device=device,
        num_devices=num_devices,
        assumptions=assumptions,
        failures=failures,
        calibration=calibration,
        ranking=ranked,
        chosen=chosen,
        reliability=safe,
        totals=_totals(run, chosen, num_devices, safe, price_per_gpu_hour),
    )


def checkpoint_bytes(run: TrimodalRun, parameters: int) -> int:
    """On disk, of all processes together: weights, moments and averages in fp32."""
    return parameters * (_CHECKPOINT_BYTES + _AVERAGE_BYTES * len(run.fit.averages))


def _reliability(run: TrimodalRun, chosen: Candidate, num_devices: int, failures: FailureConfig) -> Reliability:
    size = checkpoint_bytes(run, chosen.work.shape.parameters)
    layout = chosen.work.layout
    # Without ZeRO one copy of the model's ranks write all.
    writers = layout.tensor * layout.pipeline * (layout.data if layout.zero_stage else 1)
    return reliability(
        num_devices=num_devices,
        checkpoint_bytes=size,
        bytes_per_device=size // writers,
        background=run.fit.checkpoint.writing == "background",
        config=failures,
    )


def _totals(
    run: TrimodalRun, chosen: Candidate, num_devices: int, safe: Reliability, price_per_gpu_hour: float | None
) -> Totals:
    speed = chosen.time.tokens_per_second
    seconds = run.fit.total_tokens / speed
    # Saving is in the goodput.
    with_failures = seconds / safe.goodput if safe.goodput > 0 else float("inf")
    hours = with_failures / 3600 * num_devices
    positions = speed / chosen.work.rows.tokens
    return Totals(
        tokens=run.fit.total_tokens,
        days=seconds / 86_400,
        days_with_failures=with_failures / 86_400,
        gpu_hours=seconds / 3600 * num_devices,
        gpu_hours_with_failures=hours,
        price=None if price_per_gpu_hour is None else price_per_gpu_hour * hours,
        data_bytes_per_second=positions * BYTES_PER_CODE,
        interval_tokens=safe.interval_seconds * speed,
    )


def as_document(plan: RunPlan) -> dict[str, Any]:
    """Ready for JSON: numbers in seconds, bytes and tokens. None for what is infinite, of a job that fails before it
    gets anywhere.
    """
    totals = {
        name: value if value is None or math.isfinite(value) else None for name, value in asdict(plan.totals).items()
    }
    return {
        "run": plan.run.name,
        "device": asdict(plan.device),
        "num_devices": plan.num_devices,
        "fits": plan.chosen.memory.fits,
        "chosen": _candidate(plan.chosen),
        "own_layout": None if plan.ranking.given is None else _candidate(plan.ranking.given),
        "best": [_candidate(each) for each in plan.ranking.best],
        "too_large": None if plan.ranking.too_large is None else _candidate(plan.ranking.too_large),
        "num_legal": plan.ranking.num_legal,
        "num_fitting": plan.ranking.num_fitting,
        "totals": totals,
        "reliability": asdict(plan.reliability),
        "failures": asdict(plan.failures),
        "calibration": None if plan.calibration is None else _calibration(plan.calibration),
        "assumptions": asdict(plan.assumptions),
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    time, memory = candidate.time, candidate.memory
    return {
        "settings": candidate.settings,
        "data_ranks": candidate.work.layout.data,
        "stage_layers": list(candidate.work.layout.stage_layers),
        "micro_batches": candidate.work.num_micro_batches,
        "batch": candidate.work.batch,
        "step_seconds": time.seconds,
        "parts_seconds": time.parts,
        "tokens_per_second": time.tokens_per_second,
        "mfu": time.mfu,
        "memory_bytes": memory.total,
        "allocated_bytes": memory.allocated,
        "memory_parts_bytes": memory.parts,
        "fits": memory.fits,
    }


def _calibration(calibration: Calibration) -> dict[str, Any]:
    return {
        "changed": {name: {"before": a, "after": b} for name, (a, b) in calibration.changed.items()},
        "predicted_over_measured": {
            name: {"before": calibration.before[name], "after": after} for name, after in calibration.after.items()
        },
    }
