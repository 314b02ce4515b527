"""Training steps of a run on made-up data, timed: the real model, objective, engine and step."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.batch import Batch
from triptych.data_pipelines.stream.mixture import Mixture
from triptych.data_pipelines.vocabulary import MODALITIES, Modality
from triptych.kernels.philox import Stream
from triptych.launch.benchmark.synthetic import synthetic_mixture
from triptych.models.diffusion.inputs import DiffusionInputs
from triptych.models.parameterization import ParameterKind
from triptych.models.sharding import sharding_of, whole_shape
from triptych.models.trimodal.flops import Flops, forward_flops, recomputed_flops, training_flops, with_dense_head
from triptych.trainer.engine.engine import Engine
from triptych.trainer.engine.halves import GradientHalves
from triptych.trainer.objectives.masked_diffusion import NO_LABEL, DiffusionTargets, MaskedDiffusion
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.scaling.rules import AdamWValues
from triptych.trainer.scaling.scaling import scaling_of
from triptych.trainer.seams import LossTerms, Objective, Rows
from triptych.trainer.state import TrainState
from triptych.trainer.step import train_step

PARTS: tuple[str, ...] = ("data", "forward_backward", "step")


@dataclass(kw_only=True, slots=True, frozen=True)
class Operations:
    """Floating-point operations of the timed steps over all devices, by three counts.

    as_run: positions that are not padding, attention within documents, heads on masked rows; three forward passes.
    dense_head: the same with one head over the whole vocabulary at every such position. computed: all that runs through
    matrices, padding, the rows that fill a head's capacity and recomputation among it; of attention what kernels that
    go by documents compute, which is less than a mask's all pairs.
    """

    as_run: float
    dense_head: float
    computed: float


@dataclass(kw_only=True, slots=True, frozen=True)
class Measurement:
    """What the timed steps came to. batch: rows per step. seconds: of each step, on the first process.
    part_seconds: mean over the steps. tokens: positions that are not padding, over all of them. losses: of every step,
    also those that warmed up. peak_bytes: the most that was allocated on one device, reserved included what the
    allocator kept; None on CPU.
    """

    batch: int
    seconds: list[float]
    part_seconds: dict[str, float]
    tokens: int
    positions: int
    rows: dict[str, int]
    operations: Operations
    losses: list[float]
    build_seconds: float
    peak_bytes: int | None
    peak_reserved_bytes: int | None


@dataclass(slots=True)
class Counts:
    """What this rank's batches hold: lengths of documents; attended, those within which attention is computed, and the
    positions of all rows, padding too; rows that the heads project, and those of them that are masked.
    """

    lengths: list[int] = field(default_factory=list)
    attended: list[int] = field(default_factory=list)
    positions: int = 0
    projected: dict[Modality, int] = field(default_factory=dict)
    masked: dict[Modality, Tensor] = field(default_factory=dict)


class Clock:
    """Seconds per part, the device's work included."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._device = device

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.wait()
        self.seconds[name] += time.perf_counter() - started


class Bench:
    """A run that has been built, to be stepped. Its parts stand on the loop's seams and look on."""

    def __init__(self, run: TrimodalRun, groups: Groups) -> None:
        started = time.perf_counter()
        self.run = run
        self.groups = groups
        self.clock = Clock(groups.device)
        self.counts = Counts()
        chunks = run.build_chunks(groups)
        self.num_parameters = _num_parameters(chunks, groups)
        self._scaling = scaling_of(run.fit, run.facts, groups.layout, groups.num_data_ranks)
        engine = Engine(chunks, run.fit.engine, groups, self._scaling.values.kind_groups)
        timed: Any = _TimedEngine(engine, self)  # the two methods that a step calls
        self._state = TrainState(engine=timed)
        self.batch = self._scaling.sizes.at(0, None)
        self._data = _TimedData(synthetic_mixture(run), self)
        self._objective = _CountingObjective(run.build_objective(groups=groups), self)
        self._stream = Stream(seed=run.fit.seed)
        self.clock.wait()
        self.build_seconds = time.perf_counter() - started

    def step(self) -> float:
        """One training step; returns its loss."""
        record = train_step(
            self._state,
            self.run.fit,
            scaling=self._scaling,
            data=self._data,
            objective=self._objective,
            stream=self._stream,
            groups=self.groups,
        )
        self.clock.wait()
        return record.metrics["loss"]

    def restart_counts(self) -> None:
        """Forget what was counted and timed so far."""
        self.counts = Counts()
        self.clock.seconds = dict.fromkeys(PARTS, 0.0)
        if self.groups.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.groups.device)


def measure(bench: Bench, *, num_warmup: int, num_steps: int, report: Callable[[str], None]) -> Measurement:
    """Steps that warm up, then steps that count."""
    losses = [bench.step() for _ in range(num_warmup)]
    report(f"warmed up: {num_warmup} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}" if losses else "not warmed up")
    bench.restart_counts()
    seconds = []
    for _ in range(num_steps):
        started = time.perf_counter()
        losses.append(bench.step())
        seconds.append(time.perf_counter() - started)
    tokens, positions = _over_data_ranks(bench, [sum(bench.counts.lengths), bench.counts.positions])
    cuda = bench.groups.device.type == "cuda"
    return Measurement(
        batch=bench.batch,
        seconds=seconds,
        part_seconds={part: total / num_steps for part, total in bench.clock.seconds.items()},
        tokens=int(tokens),
        positions=int(positions),
        rows=_rows(bench),
        operations=_operations(bench),
        losses=losses,
        build_seconds=bench.build_seconds,
        peak_bytes=_largest(bench, torch.cuda.max_memory_allocated(bench.groups.device)) if cuda else None,
        peak_reserved_bytes=_largest(bench, torch.cuda.max_memory_reserved(bench.groups.device)) if cuda else None,
    )


def _operations(bench: Bench) -> Operations:
    model, counts = bench.run.model, bench.counts
    masked: dict[Modality, int] = {modality: int(number) for modality, number in counts.masked.items()}
    asked = forward_flops(model, counts.lengths, masked)
    dense = with_dense_head(model, asked, sum(counts.lengths))
    done = forward_flops(model, counts.attended, counts.projected, num_positions=counts.positions)
    computed = training_flops(done) + recomputed_flops(done, bench.run.fit.recompute)
    totals: Sequence[Flops] = (training_flops(asked), training_flops(dense), computed)
    as_run, dense_head, all_computed = _over_data_ranks(bench, [flops.total for flops in totals])
    return Operations(as_run=as_run, dense_head=dense_head, computed=all_computed)


def _rows(bench: Bench) -> dict[str, int]:
    """masked and projected rows of each modality, over all data-parallel ranks."""
    counts = bench.counts
    named = {f"masked/{modality}": float(counts.masked[modality]) for modality in MODALITIES}
    named |= {f"projected/{modality}": float(counts.projected[modality]) for modality in MODALITIES}
    return dict(zip(named, map(int, _over_data_ranks(bench, list(named.values()))), strict=True))


def _over_data_ranks(bench: Bench, values: Sequence[float]) -> list[float]:
    return bench.groups.sum_over_data(torch.tensor(values, dtype=torch.float64, device=bench.groups.device)).tolist()


def _num_parameters(chunks: Iterable[nn.Module], groups: Groups) -> int:
    """Of one whole model."""
    num_ranks = groups.layout.tensor
    parameters = [parameter for chunk in chunks for parameter in chunk.parameters()]
    sizes = [math.prod(whole_shape(tuple(p.shape), sharding_of(p), num_ranks)) for p in parameters]
    total = torch.tensor(sum(sizes), device=groups.device)
    if groups.layout.pipeline > 1:
        dist.all_reduce(total, group=groups.collection.pp)
    return int(total)


def _largest(bench: Bench, value: int) -> int:
    """Over all processes."""
    if bench.groups.placement.world_size == 1:
        return value
    values = torch.tensor(value, device=bench.groups.device)
    dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return int(values)


class _TimedEngine:
    def __init__(self, engine: Engine, bench: Bench) -> None:
        self._engine = engine
        self._bench = bench

    def forward_backward(
        self,
        micro_batches: Sequence[Rows],
        objective: Objective,
        stream: Stream,
        halves: GradientHalves | None = None,
    ) -> dict[str, float]:
        with self._bench.clock.part("forward_backward"):
            return self._engine.forward_backward(micro_batches, objective, stream, halves)

    def step(self, values: Mapping[ParameterKind, AdamWValues], *, clipping: float, num_updates: float) -> float:
        with self._bench.clock.part("step"):
            return self._engine.step(values, clipping=clipping, num_updates=num_updates)


class _TimedData:
    def __init__(self, data: Mixture, bench: Bench) -> None:
        self._data = data
        self._bench = bench

    def batch(self, cursor: Mapping[str, int], size: int, rank: int, num_ranks: int) -> tuple[Batch, dict[str, int]]:
        with self._bench.clock.part("data"):
            batch, after = self._data.batch(cursor, size, rank, num_ranks)
        counts = self._bench.counts
        lengths = batch.lengths_BD[batch.lengths_BD > 0].tolist()
        num_rows, row_length = batch.tokens_BS.shape
        counts.lengths += lengths
        # Where every row is one document, padding is masked but computed.
        counts.attended += lengths if batch.lengths_BD.shape[1] > 1 else [row_length] * num_rows
        counts.positions += num_rows * row_length
        return batch, after


class _CountingObjective:
    def __init__(self, objective: MaskedDiffusion, bench: Bench) -> None:
        self._objective = objective
        self._bench = bench

    def prepare(self, batch: Batch, stream: Stream) -> tuple[DiffusionInputs, DiffusionTargets]:
        inputs, targets = self._objective.prepare(batch, stream)
        counts = self._bench.counts
        for modality, labels_R in targets.labels.items():
            counts.projected[modality] = counts.projected.get(modality, 0) + len(labels_R)
            # Stays on the device: the step must not wait for the count.
            counts.masked[modality] = counts.masked.get(modality, 0) + (labels_R != NO_LABEL).sum()
        return inputs, targets

    def loss(self, outputs: Mapping[Modality, Tensor], targets: DiffusionTargets) -> LossTerms:
        return self._objective.loss(outputs, targets)
