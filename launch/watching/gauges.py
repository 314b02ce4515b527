"""Numbers beside a step's own: memory, and how much of the hardware's peak is used."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from triptych.configs.layouts import predicted_shares, tokens_per_row
from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.vocabulary import MODALITIES, Modality
from triptych.models.trimodal.flops import forward_flops, training_flops
from triptych.trainer.logs import Gauge
from triptych.trainer.metrics import StepRecord
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.throughput import Throughput, peak_tflops

MASKED_SHARE = 0.5
"""Of the positions to be predicted, those that are masked on average: the schedules' mean is a half."""


def memory_gauge(device: torch.device) -> Gauge:
    """In bytes: what torch has allocated and reserved on a GPU, most of each so far; what the process holds in RAM."""

    def measure(record: StepRecord) -> Mapping[str, float]:
        found = {"memory/resident_bytes": float(resident_bytes())}
        if device.type == "cuda":
            found |= {
                "memory/allocated_bytes": float(torch.cuda.memory_allocated(device)),
                "memory/reserved_bytes": float(torch.cuda.memory_reserved(device)),
                "memory/peak_allocated_bytes": float(torch.cuda.max_memory_allocated(device)),
            }
        return found

    return measure


def resident_bytes() -> int:
    """RAM that this process holds; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(kw_only=True, slots=True, frozen=True)
class Utilization:
    """Achieved operations of one device, and their share of its peak (MFU), by the model's own operations: forward and
    backward pass over real tokens, every pair of positions of a document, heads on masked rows, nothing recomputed.

    flops_per_token: of training. peak: TFLOP/s of one device; None where it is not known, and then there is no MFU.
    """

    flops_per_token: float
    num_devices: int
    peak: float | None

    def __call__(self, record: StepRecord) -> Mapping[str, float]:
        """A `Gauge`."""
        throughput = Throughput(tokens=record.batch_tokens, seconds=record.seconds, num_devices=self.num_devices)
        operations = self.flops_per_token * record.batch_tokens
        share = throughput.utilization(operations, self.peak)
        found = {"hardware/tflops_per_device": throughput.tflops_per_device(operations)}
        return found if share is None else found | {"hardware/mfu": share}


def utilization_gauge(run: TrimodalRun, groups: Groups) -> Utilization:
    """Of a run on the devices of these groups."""
    return Utilization(
        flops_per_token=training_flops_per_token(run),
        num_devices=groups.placement.world_size,
        peak=peak_tflops(device_name(groups), run.fit.engine.precision),
    )


def device_name(groups: Groups) -> str:
    """As the driver says it, or "CPU"."""
    return torch.cuda.get_device_name(groups.device) if groups.device.type == "cuda" else "CPU"


def training_flops_per_token(run: TrimodalRun) -> float:
    """As predicted from the run's layout: documents of the mean length that rows are made for, all of one source's
    kind. Exact counts are `triptych profile`'s.
    """
    row_tokens = round(tokens_per_row(run.layout, run.data))
    shares = predicted_shares(run.layout, run.data)
    rows: dict[Modality, int] = {m: round(MASKED_SHARE * shares[m] * run.row_length) for m in MODALITIES}
    document = min(run.model.sequence_length, row_tokens)
    lengths = [document] * (row_tokens // document) + [row_tokens % document]
    return training_flops(forward_flops(run.model, lengths, rows)).total / row_tokens
