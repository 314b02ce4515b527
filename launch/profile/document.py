"""From what was measured to a record, and from a record to a few lines for the terminal."""

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from triptych.configs.tree import to_mapping
from triptych.configs.trimodal import TrimodalRun
from triptych.kernels.provenance import processor, versions
from triptych.launch.commands.training.attention import request_of
from triptych.launch.profile.measure.counts import per_step
from triptych.launch.profile.measure.memory import machine_memory_bytes
from triptych.launch.profile.measure.steady import quartiles
from triptych.launch.profile.measure.trace import kind_of
from triptych.launch.profile.measuring import Measured, trace_path
from triptych.launch.profile.predicted import predicted_parts
from triptych.launch.profile.record import PARTS, ProfileRecord
from triptych.launch.report.numbers import short
from triptych.models.attention.registry.backends import REGISTRY
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.throughput import Throughput, peak_tflops

_PACKAGES = ("torch", "triton", "deepspeed", "megatron-core", "numpy", "transformer-engine", "flash-attn")
_GIB = 2**30

CONVENTION = (
    "MFU is a share of the maker's dense peak. as_run counts the matrix multiplications asked for: positions that are "
    "not padding, attention within documents in both directions, heads on masked rows, the backward pass twice the "
    "forward pass. dense_head: one head over the whole vocabulary everywhere, other people's 6 N + 12 L H S. computed: "
    "all of them, padding and recomputation too."
)


def record_of(
    run: TrimodalRun,
    groups: Groups,
    measured: Measured,
    *,
    base: Path,
    options: Sequence[str],
    data: str,
    command: str,
    commit: str,
) -> ProfileRecord:
    """What the first process writes down."""
    return ProfileRecord(
        run=run.name,
        options=list(options),
        data=data,
        settings=to_mapping(run),
        measured=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        command=command,
        commit=commit,
        load=measured.load,
        parameters=measured.num_parameters,
        batch=measured.batch,
        build_seconds=measured.build_seconds,
        matmul_tflops=measured.matmul_tflops,
        losses=measured.losses,
        page=f"{base.name}.html",
        **_hardware(groups),
        **_layout(run, groups, measured.batch),
        **_times(measured),
        **_work(run, groups, measured),
        **_memory(run, groups, measured),
        **_traced(measured, trace_path(base, groups.placement.rank).name),
    )


def _hardware(groups: Groups) -> dict[str, Any]:
    return {
        "device": device_name(groups.device),
        "num_devices": groups.placement.world_size,
        "device_memory_bytes": device_memory_bytes(groups.device),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "versions": versions(_PACKAGES),
    }


def _layout(run: TrimodalRun, groups: Groups, batch: int) -> dict[str, Any]:
    layout, micro = groups.layout, run.fit.micro_batch_per_dp_rank
    return {
        "tensor": layout.tensor,
        "pipeline": layout.pipeline,
        "virtual": layout.virtual,
        "sequence": layout.sequence,
        "data_ranks": groups.num_data_ranks,
        "zero_stage": run.fit.engine.zero_stage,
        "precision": run.fit.engine.precision,
        "recompute": run.fit.recompute,
        "attention": _attention_backend(run),
        "row_length": run.row_length,
        "sequence_length": run.model.sequence_length,
        "micro_batch": micro,
        "micro_batches_per_step": -(-batch // groups.num_data_ranks // micro),
    }


def _times(measured: Measured) -> dict[str, Any]:
    found, saving = measured.communication, measured.saving
    return {
        "warmup_steps": measured.warmup_steps,
        "steady": measured.steady,
        "num_steps": len(measured.seconds),
        "step_seconds": statistics.median(measured.seconds),
        "step_seconds_quartiles": quartiles(measured.seconds),
        "synchronised_step_seconds": statistics.median(sum(step.values()) for step in measured.parts),
        "part_seconds": part_medians(measured.parts, found.exposed_in if found else None),
        "part_quartiles": {part: quartiles([step[part] for step in measured.parts]) for part in measured.parts[0]},
        "communication_seconds": found.total if found else None,
        "communication_exposed_seconds": found.exposed if found else None,
        "communication_kinds": found.kinds if found else {},
        "checkpoint_blocking_seconds": saving.blocking_seconds if saving else None,
        "checkpoint_background_seconds": saving.background_seconds if saving else None,
        "checkpoint_bytes": saving.num_bytes if saving else None,
    }


def _work(run: TrimodalRun, groups: Groups, measured: Measured) -> dict[str, Any]:
    num_steps, done, world_size = len(measured.seconds), measured.work, groups.placement.world_size
    whole = Throughput(tokens=done.tokens, seconds=sum(measured.seconds), num_devices=world_size)
    peak = peak_tflops(device_name(groups.device), run.fit.engine.precision)
    return {
        "tokens": done.tokens / num_steps,
        "positions": done.positions / num_steps,
        "attended_pairs": done.attended_pairs / num_steps,
        "projected_rows": per_step(done.projected, num_steps),
        "masked_rows": per_step(done.masked, num_steps),
        "tokens_per_second": whole.tokens_per_second_per_device * world_size,
        "tokens_per_second_per_device": whole.tokens_per_second_per_device,
        "flops": per_step(done.flops, num_steps),
        "flops_dense": done.computed.dense / num_steps,
        "flops_attention": done.computed.attention / num_steps,
        "flops_heads": done.computed.heads / num_steps,
        "tflops_per_device": {name: whole.tflops_per_device(operations) for name, operations in done.flops.items()},
        "mfu": {name: whole.utilization(operations, peak) for name, operations in done.flops.items()},
        "peak_tflops": peak,
    }


def _memory(run: TrimodalRun, groups: Groups, measured: Measured) -> dict[str, Any]:
    form = "cuda" if groups.device.type == "cuda" else "cpu"
    held, world_size = measured.held, groups.placement.world_size
    return {
        "memory_predicted": predicted_parts(run, world_size, held.group_sizes, stage=held.stage, form=form),
        "memory_measured": held.parts,
        "peak_bytes": held.peak,
        "peak_reserved_bytes": measured.peak_reserved_bytes,
    }


def _traced(measured: Measured, name: str) -> dict[str, Any]:
    found = measured.breakdown
    if found is None:
        return {"kernel_shares": {}, "kernels": [], "trace": None}
    kernels = [
        {"name": kernel, "kind": kind_of(kernel), "seconds": seconds, "calls": calls}
        for kernel, seconds, calls in found.top
    ]
    return {"kernel_shares": found.shares, "kernels": kernels, "trace": name}


def part_medians(parts: Sequence[Mapping[str, float]], exposed_in: Mapping[str, float] | None) -> dict[str, float]:
    """Median seconds of each part; exposed communication, a share of each, is taken out and is a part of its own. None:
    it was not measured, and is missing.
    """
    medians = {part: statistics.median(step[part] for step in parts) for part in parts[0] if part != "communication"}
    if exposed_in is None:
        return medians
    exposed = {part: medians[part] * exposed_in.get(part, 0.0) for part in medians}
    found = {part: seconds - exposed[part] for part, seconds in medians.items()} | {
        "communication": sum(exposed.values())
    }
    return {part: found[part] for part in PARTS}


def device_name(device: torch.device) -> str:
    """As its driver calls it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def device_memory_bytes(device: torch.device) -> int:
    """Of one device; of a CPU the machine's."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else machine_memory_bytes()


def summary(record: ProfileRecord) -> list[str]:
    """The record in a few lines."""
    parts = ", ".join(f"{part} {1e3 * seconds:.1f}" for part, seconds in record.part_seconds.items())
    low, high = record.step_seconds_quartiles
    achieved = ", ".join(
        f"{name} {tflops:.3g} ({_percent(record.mfu[name])})" for name, tflops in record.tflops_per_device.items()
    )
    peak = "unknown peak" if record.peak_tflops is None else f"peak {record.peak_tflops:.1f}"
    lines = [
        f"{record.run}: {record.parameters / 1e6:.1f}M parameters, {record.micro_batches_per_step} x "
        f"{record.micro_batch} x {record.row_length} positions a step and data rank, "
        f"{1 - record.tokens / record.positions:.1%} of them padding",
        f"{record.num_devices} x {record.device}, torch {record.versions['torch']}, commit {record.commit[:12]}, "
        f"load {record.load[0]:.1f} to {record.load[1]:.1f}",
        f"tokens/s {record.tokens_per_second:,.0f}, of one device {record.tokens_per_second_per_device:,.0f}; ms a "
        f"step {1e3 * record.step_seconds:.1f} (quartiles {1e3 * low:.1f} to {1e3 * high:.1f})"
        f"{'' if record.steady else '; the steps had not settled'}",
        f"ms by part, waited for after each: {parts}",
        f"TFLOP/s of one device (MFU): {achieved}; {peak}, large matrices here {record.matmul_tflops:.3g}",
        _memory_line(record),
    ]
    if record.communication_seconds:
        kinds = ", ".join(f"{name} {1e3 * seconds:.1f}" for name, seconds in record.communication_kinds.items())
        lines.append(
            f"communication in a traced step: {1e3 * record.communication_seconds:.1f} ms, of which "
            f"{1e3 * (record.communication_exposed_seconds or 0):.1f} exposed ({kinds})"
        )
    if record.checkpoint_bytes is not None:
        lines.append(
            f"a checkpoint of {short(record.checkpoint_bytes)}B: training waits "
            f"{record.checkpoint_blocking_seconds:.3f} s, then {record.checkpoint_background_seconds:.3f} s in the "
            "background"
        )
    return [*lines, *_kernel_lines(record), CONVENTION]


def _memory_line(record: ProfileRecord) -> str:
    parts = []
    for part, size in record.memory_measured.items():
        predicted = record.memory_predicted.get(part)
        if part == "gradients" and predicted is not None:
            predicted += record.memory_predicted.get("buffers", 0)
        expected = "" if predicted is None else f" ({predicted / _GIB:.3g} predicted)"
        parts.append(f"{part} {size / _GIB:.3g}{expected}")
    reserved = "" if record.peak_reserved_bytes is None else f", {record.peak_reserved_bytes / _GIB:.3g} reserved"
    return f"GiB at most {record.peak_bytes / _GIB:.3g}{reserved}: {', '.join(parts)}"


def _kernel_lines(record: ProfileRecord) -> list[str]:
    if not record.kernels:
        return []
    shares = ", ".join(f"{kind} {share:.1%}" for kind, share in record.kernel_shares.items())
    lines = [f"a traced step: {shares}"]
    return lines + [
        f"{1e3 * entry['seconds']:10.2f} ms {entry['calls']:7d}  {entry['name'][:80]}" for entry in record.kernels[:8]
    ]


def _attention_backend(run: TrimodalRun) -> str:
    wanted = run.model.attention.kernel if run.model.attention.function == "sigmoid" else "auto"
    return REGISTRY.choose(request_of(run), wanted).backend.name


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"
