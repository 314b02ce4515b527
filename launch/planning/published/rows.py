"""Published throughput as workloads: `results/figures.csv` with one row each, and how its source counts."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from triptych.launch.planning.hardware.devices import Device, named_device
from triptych.launch.planning.model.assumptions import Assumptions, default_assumptions
from triptych.launch.planning.model.operations import step_operations
from triptych.launch.planning.model.step import StepTime, step_time
from triptych.launch.planning.model.workload import Head, Layout, Rows, Shape, Workload

Source = Literal["llm-foundry", "megatron-2021", "megatron-2022", "megatron-core", "torchtitan"]

SOURCES: dict[Source, str] = {
    "llm-foundry": "github.com/mosaicml/llm-foundry, scripts/train/benchmarking/README.md: all rows of bf16,"
    " tokens/s per GPU",
    "megatron-2021": "Narayanan et al. 2021, arXiv 2104.04473, table 1, also images/cases_april2021.png of "
    "github.com/NVIDIA/Megatron-LM: TFLOP/s per GPU by its equation 3, recomputation counted; micro-batches and chunks "
    "from examples/sc21/run_table_1.sh there",
    "megatron-2022": "Korthikanti et al. 2022, arXiv 2205.05198, tables 3 and 5; the utilisation also in the README of "
    "github.com/NVIDIA/Megatron-LM at 2e90a34: seconds per iteration",
    "megatron-core": "README and images/model_table.png of github.com/NVIDIA/Megatron-LM at 937571c (Megatron-Core "
    "0.8): TFLOP/s per GPU",
    "torchtitan": "github.com/pytorch/torchtitan: docs/performance.md (A100), and of benchmarks/ "
    "llama3_h100_202412_torchtitan.md and asyncTP_llama3_h100_2025-06_torchtitan.md (H100): tokens/s per GPU",
}

TORCHTITAN_H100 = Device(
    name="h100-500w",
    architecture="hopper",
    peak_tflops=(835.5 + 989.5) / 2,
    peak_fp8_tflops=835.5 + 989.5,
    memory_gib=96e9 / 2**30,
    memory_gb_per_second=2400,
    link_gb_per_second=450,
    network_gb_per_second=50,
    per_node=8,
    source="as torchtitan describes its own: 96 GB, 2.4 TB/s, 500 W, 400 Gb/s for each; the peak, 'between SXM and "
    "NVL' there, is the mean of both (NVIDIA H100 data sheet)",
)


@dataclass(kw_only=True, slots=True, frozen=True)
class Published:
    """One published figure. fitted: whether the default efficiencies were fitted to it. measured: tokens/s of one GPU,
    whatever the source states. changes: what is assumed of this row besides the defaults, by the assumption's name.
    """

    source: Source
    name: str
    device: Device
    work: Workload
    measured: float
    fitted: bool
    changes: dict[str, float]

    def predicted(self, assumptions: Assumptions | None = None) -> StepTime:
        """assumptions: other ones in place of the device's defaults; the row's own changes are made to them, too."""
        base = default_assumptions(self.device) if assumptions is None else assumptions
        return step_time(self.work, self.device, replace(base, **self.changes))

    def ratio(self, assumptions: Assumptions | None = None) -> float:
        """Predicted tokens/s over measured."""
        return self.predicted(assumptions).tokens_per_second / self.work.layout.num_devices / self.measured


def published() -> list[Published]:
    """All of them, in the order of the file."""
    text = (Path(__file__).parents[1] / "results" / "figures.csv").read_text(encoding="utf-8")
    return [_row(entry) for entry in csv.DictReader(text.splitlines())]


def _row(entry: dict[str, Any]) -> Published:
    changes = dict(change.split("=") for change in entry["assumed"].split(";") if change)
    work = _workload(entry, overlapped=changes.pop("overlapped", "1") == "1")
    device = TORCHTITAN_H100 if entry["device"] == TORCHTITAN_H100.name else named_device(entry["device"])
    return Published(
        source=entry["source"],
        name=entry["name"],
        device=device,
        work=work,
        measured=_tokens_per_second(work, entry["unit"], float(entry["measured"])),
        fitted=entry["fitted"] == "1",
        changes={name: float(value) for name, value in changes.items()},
    )


def _workload(entry: dict[str, Any], *, overlapped: bool) -> Workload:
    number = {name: int(value) for name, value in entry.items() if value.isdigit()}
    shape = Shape(
        num_layers=number["layers"],
        hidden_size=number["hidden"],
        num_heads=number["heads"],
        num_groups=number["groups"],
        ffn_hidden_size=number["ffn"],
        gated=bool(number["gated"]),
        embedding_rows=number["vocabulary"],
        heads=(Head(columns=number["vocabulary"]),),
        tied=bool(number["tied"]),
        rotary=bool(number["rotary"]),
        dropout=bool(number["dropout"]),
    )
    zero: Any = number["zero"]
    layout = Layout(
        tensor=number["tensor"],
        pipeline=number["pipeline"],
        virtual=number["virtual"],
        data=number["gpus"] // number["tensor"] // number["pipeline"],
        sequence=bool(number["sequence"]),
        zero_stage=zero,
    )
    return Workload(
        shape=shape,
        rows=Rows.of_one(number["length"]),
        layout=layout,
        batch=number["batch"],
        micro_batch=number["micro_batch"],
        recompute=entry["recompute"],
        attention=entry["attention"],
        precision=entry["precision"],
        gradient_bytes=number["gradient_bytes"],
        overlapped=overlapped,
    )


def _tokens_per_second(work: Workload, unit: str, value: float) -> float:
    """Of one device."""
    match unit:
        case "tokens/s/gpu":
            return value
        case "seconds":
            return work.tokens / value / work.layout.num_devices
        case "TFLOP/s/gpu":
            return value * 1e12 * work.tokens / step_operations(work)
        case "TFLOP/s/gpu, recomputation counted":
            return value * 1e12 * work.tokens / _narayanan_operations(work)
    raise AssertionError(unit)


def _narayanan_operations(work: Workload) -> float:
    """Equation 3 of arXiv 2104.04473: 96 B s l h^2 (1 + s/6h + V/16lh), the recomputed forward pass among it."""
    shape, length = work.shape, work.rows.length
    layers, hidden = shape.num_layers, shape.hidden_size
    extra = length / (6 * hidden) + shape.embedding_rows / (16 * layers * hidden)
    return 96 * work.batch * length * layers * hidden**2 * (1 + extra)
