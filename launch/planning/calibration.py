"""Assumptions fitted to profiles of runs on the device that is planned with."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from triptych.data_pipelines.vocabulary import MODALITIES
from triptych.launch.planning.hardware.devices import DEVICES, DRIVER_NAMES, Device
from triptych.launch.planning.least_squares import fit_factors
from triptych.launch.planning.model.assumptions import Assumptions
from triptych.launch.planning.model.step import StepTime, step_time
from triptych.launch.planning.model.workload import Head, Workload
from triptych.launch.planning.runs import with_counts, workload_of
from triptych.launch.profile.record import ProfileRecord, read_record

FACTORS: tuple[str, ...] = (
    "matmul_efficiency",
    "attention_efficiency",
    "elementwise_factor",
    "memory_efficiency",
    "node_efficiency",
    "network_efficiency",
    "step_seconds",
)
"""Fields of `Assumptions` that a fit may move; one that no profile tells of stays where it was."""

_SHARES = ("matmul_efficiency", "attention_efficiency", "memory_efficiency", "node_efficiency", "network_efficiency")
_COMPUTING = ("prepare", "forward", "backward")


@dataclass(kw_only=True, slots=True, frozen=True)
class Observation:
    """A profile as the model sees it. step_seconds, and of it computing_seconds and optimizer_seconds, where they were
    measured.
    """

    name: str
    work: Workload
    step_seconds: float
    computing_seconds: float | None
    optimizer_seconds: float | None

    def residuals(self, predicted: StepTime) -> list[float]:
        """Logarithms of predicted over measured; the parts count half, being slowed by the waits that measure them."""
        found = [math.log(predicted.seconds / self.step_seconds)]
        computing = predicted.matmul + predicted.attention + predicted.memory + predicted.launches
        pairs = ((computing, self.computing_seconds), (predicted.optimizer, self.optimizer_seconds))
        return found + [0.5 * math.log(mine / theirs) for mine, theirs in pairs if theirs and mine > 0]


@dataclass(kw_only=True, slots=True, frozen=True)
class Calibration:
    """What a fit changed. before, after: predicted over measured seconds of a step, by the profile's name."""

    assumptions: Assumptions
    changed: Mapping[str, tuple[float, float]]
    before: Mapping[str, float]
    after: Mapping[str, float]


def calibrated(
    paths: Sequence[Path], device: Device, assumptions: Assumptions, precision: Literal["fp32", "bf16"]
) -> Calibration:
    """Fit FACTORS to profiles. ValueError for a file that is none, or one of another device or precision: what share
    of their peak matrix units reach says nothing of what runs without them.
    """
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    seen = [observation(read_record(path), name, device) for path, name in zip(paths, names, strict=True)]
    for one in seen:
        if one.work.precision != precision:
            raise ValueError(
                f"{one.name} was measured in {one.work.precision}, and the run is in {precision}; profile it with "
                f"--set fit.engine.precision={precision}"
            )
    start = {name: max(getattr(assumptions, name), 1e-6) for name in FACTORS}

    def residuals(factors: Mapping[str, float]) -> list[float]:
        assumed = replace(assumptions, **_within(factors))
        return [each for one in seen for each in one.residuals(step_time(one.work, device, assumed))]

    found = _within(fit_factors(residuals, start))
    fitted = replace(assumptions, **found)
    return Calibration(
        assumptions=fitted,
        changed={name: (start[name], value) for name, value in found.items()},
        before=_ratios(seen, device, assumptions),
        after=_ratios(seen, device, fitted),
    )


def observation(record: ProfileRecord, name: str, device: Device) -> Observation:
    """ValueError if it was measured on another device than is planned with. A device of one's own goes by the name that
    its driver has, in its file; a CPU's is CPU.
    """
    if DRIVER_NAMES.get(record.device, record.device) != device.name:
        mend = "profile the run there, or plan for it"
        if device.name not in DEVICES:
            mend = f"profile the run there, or say `name: {record.device}` in its file if they are the same"
        raise ValueError(f"{name} was measured on {record.device}, and --gpu is {device.name}; {mend}")
    work = workload_of(record.tree, record.num_devices)
    rows = {
        modality: (record.projected_rows.get(modality, 0.0), record.masked_rows.get(modality, 0.0))
        for modality in MODALITIES
    }
    heads = tuple(
        _counted(head, *rows[modality], record.positions)
        for head, modality in zip(work.shape.heads, MODALITIES, strict=True)
    )
    micro_batch = min(record.micro_batch, max(1, record.batch // work.layout.data))
    batch = replace(work, batch=record.batch, micro_batch=micro_batch)
    counted = with_counts(
        batch,
        tokens_share=record.tokens / record.positions,
        attended=record.attended_pairs / record.positions,
        heads=heads,
    )
    parts = record.part_seconds
    if record.num_devices > 1 and "communication" not in parts:
        parts = {}  # without a trace messages are in the parts
    computing = sum(parts.get(part, 0.0) for part in _COMPUTING)
    return Observation(
        name=name,
        work=counted,
        step_seconds=record.step_seconds,
        computing_seconds=computing or None,
        optimizer_seconds=parts.get("optimizer") or None,
    )


def _counted(head: Head, projected: float, masked: float, positions: float) -> Head:
    if projected <= 0:
        return head
    return replace(head, share=projected / positions, masked=masked / projected)


def _within(factors: Mapping[str, float]) -> dict[str, float]:
    """Shares of a bandwidth or a peak are at most 1."""
    return {name: min(1.0, value) if name in _SHARES else value for name, value in factors.items()}


def _ratios(seen: Sequence[Observation], device: Device, assumptions: Assumptions) -> dict[str, float]:
    return {one.name: step_time(one.work, device, assumptions).seconds / one.step_seconds for one in seen}
