"""What a benchmark writes down: numbers with the hardware, versions, shapes and commit that they belong to."""

import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch

from triptych.configs.tree import to_mapping
from triptych.configs.trimodal import TrimodalRun
from triptych.kernels.provenance import processor, versions
from triptych.launch.benchmark.measure import Measurement
from triptych.launch.benchmark.trace import Breakdown
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.throughput import Throughput, peak_tflops

_PACKAGES = ("torch", "triton", "deepspeed", "megatron-core", "numpy", "transformer-engine", "flash-attn")
_GIB = 2**30


def document(
    run: TrimodalRun,
    groups: Groups,
    measured: Measurement,
    *,
    command: str,
    commit: str,
    num_parameters: int,
    matmul_tflops: float,
    breakdown: Breakdown | None,
) -> dict[str, Any]:
    """All of it, ready for JSON. matmul_tflops: what large matrices reached on the device in the same process."""
    micro = run.fit.micro_batch_per_dp_rank
    found: dict[str, Any] = {
        "run": run.name,
        "measured": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": command,
        "commit": commit,
        "hardware": hardware(groups),
        "versions": versions(_PACKAGES),
        "layout": {**to_mapping(run.fit.parallel), "data": groups.num_data_ranks, "zero": run.fit.engine.zero_stage},
        "shapes": {
            "parameters": num_parameters,
            "row_length": run.row_length,
            "sequence_length": run.model.sequence_length,
            "micro_batch": micro,
            "micro_batches_per_step": -(-measured.batch // groups.num_data_ranks // micro),
            "batch": measured.batch,
        },
        "results": results(run, groups, measured, matmul_tflops),
        "settings": to_mapping(run),
    }
    if breakdown is not None:
        found["profile"] = {
            "seconds": breakdown.seconds,
            "launches": breakdown.launches,
            "shares": breakdown.shares,
            "top": [{"name": name, "seconds": seconds, "calls": calls} for name, seconds, calls in breakdown.top],
        }
    return found


def results(run: TrimodalRun, groups: Groups, measured: Measurement, matmul_tflops: float) -> dict[str, Any]:
    """Throughput and utilization over all timed steps; trainer/results/README.md says what each counts."""
    num_steps, world_size = len(measured.seconds), groups.placement.world_size
    whole = Throughput(tokens=measured.tokens, seconds=sum(measured.seconds), num_devices=world_size)
    peak = peak_tflops(_device_name(groups.device), run.fit.engine.precision)
    counts = {
        "as_run": measured.operations.as_run,
        "dense_head": measured.operations.dense_head,
        "computed": measured.operations.computed,
    }
    return {
        "num_steps": num_steps,
        "step_seconds": {
            "mean": statistics.fmean(measured.seconds),
            "median": statistics.median(measured.seconds),
            "min": min(measured.seconds),
            "max": max(measured.seconds),
        },
        "part_seconds": measured.part_seconds,
        "tokens_per_second_per_device": whole.tokens_per_second_per_device,
        "tokens_per_step": measured.tokens / num_steps,
        "padding_share": 1 - measured.tokens / measured.positions,
        "rows_per_step": {name: number / num_steps for name, number in measured.rows.items()},
        "tflops_per_device": {name: whole.tflops_per_device(operations) for name, operations in counts.items()},
        "peak_tflops": peak,
        "mfu": {name: whole.utilization(operations, peak) for name, operations in counts.items()},
        "matmul_tflops": matmul_tflops,
        "as_run_over_matmul": whole.tflops_per_device(counts["as_run"]) / matmul_tflops,
        "peak_memory_gib": _gib(measured.peak_bytes),
        "peak_reserved_gib": _gib(measured.peak_reserved_bytes),
        "build_seconds": measured.build_seconds,
        "losses": measured.losses,
    }


def hardware(groups: Groups) -> dict[str, Any]:
    """The devices by name and number, and the processor."""
    cuda = groups.device.type == "cuda"
    return {
        "device": _device_name(groups.device),
        "num_devices": groups.placement.world_size,
        "memory_gib": _gib(torch.cuda.get_device_properties(groups.device).total_memory) if cuda else None,
        "processor": processor(),
        "threads": torch.get_num_threads(),
    }


def summary(found: Mapping[str, Any]) -> list[str]:
    """The document in a few lines for the terminal."""
    got, shapes = found["results"], found["shapes"]
    milliseconds = 1e3 * got["step_seconds"]["mean"]
    parts = ", ".join(f"{part} {1e3 * seconds:.1f}" for part, seconds in got["part_seconds"].items())
    achieved = ", ".join(
        f"{name} {tflops:.3g} ({_percent(got['mfu'][name])})" for name, tflops in got["tflops_per_device"].items()
    )
    peak = "unknown peak" if got["peak_tflops"] is None else f"peak {got['peak_tflops']:.1f}"
    memory = "" if got["peak_memory_gib"] is None else f"; memory {got['peak_memory_gib']:.1f} GiB at most"
    lines = [
        f"{found['run']}: {shapes['parameters'] / 1e6:.1f}M parameters, {shapes['micro_batches_per_step']} x "
        f"{shapes['micro_batch']} x {shapes['row_length']} positions a step and data rank, "
        f"{got['padding_share']:.1%} of them padding",
        f"{found['hardware']['num_devices']} x {found['hardware']['device']}, torch {found['versions']['torch']}, "
        f"commit {found['commit'][:12]}",
        f"tokens/s/device {got['tokens_per_second_per_device']:,.0f}; ms a step {milliseconds:.1f} ({parts}){memory}",
        f"TFLOP/s/device (MFU): {achieved}; {peak}, large matrices here {got['matmul_tflops']:.3g}",
    ]
    return lines + (_profile_lines(found["profile"]) if "profile" in found else [])


def _profile_lines(profile: Mapping[str, Any]) -> list[str]:
    shares = ", ".join(f"{kind} {share:.1%}" for kind, share in profile["shares"].items())
    lines = [f"profile of one step, {profile['seconds']:.3f} s, {profile['launches']} launches: {shares}"]
    for entry in profile["top"]:
        share = entry["seconds"] / profile["seconds"]
        lines.append(f"{share:7.1%} {1e3 * entry['seconds']:10.2f} ms {entry['calls']:7d}  {entry['name'][:80]}")
    return lines


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"


def _gib(size: int | None) -> float | None:
    return None if size is None else size / _GIB


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
