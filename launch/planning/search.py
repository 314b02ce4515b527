"""Layouts of a run on a cluster, ranked by what the model says of each."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from triptych.configs.trimodal import TrimodalRun
from triptych.launch.planning.hardware.devices import Device
from triptych.launch.planning.model.assumptions import Assumptions
from triptych.launch.planning.model.memory import GIB, RankMemory, rank_memory
from triptych.launch.planning.model.step import StepTime, step_time
from triptych.launch.planning.model.workload import Workload
from triptych.launch.planning.runs import step_batch, workload_of
from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.parallel.refusal import is_legal

_RECOMPUTE = ("none", "full")  # "selective" saves one number per row where attention is fused, so nothing to choose
_MAX_CHUNKS_PER_STAGE = 8


@dataclass(kw_only=True, slots=True, frozen=True)
class Candidate:
    """A legal layout of the run, and what the model says. states_layers: whether the run that was asked about states
    the layers of its stages, which are of no other layout.
    """

    run: TrimodalRun
    work: Workload
    time: StepTime
    memory: RankMemory
    states_layers: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """By their paths after `--set`."""
        fit = self.run.fit
        layers = {"fit.parallel.stage_layers": list(fit.parallel.stage_layers)} if self.states_layers else {}
        return {
            "fit.parallel.tensor": fit.parallel.tensor,
            "fit.parallel.sequence": fit.parallel.sequence,
            "fit.parallel.pipeline": fit.parallel.pipeline,
            "fit.parallel.virtual": fit.parallel.virtual,
            **layers,
            "fit.engine.zero_stage": fit.engine.zero_stage,
            "fit.recompute": fit.recompute,
            "fit.micro_batch_per_dp_rank": fit.micro_batch_per_dp_rank,
        }


@dataclass(kw_only=True, slots=True, frozen=True)
class Ranking:
    """given: the run's own layout, None where it is not legal on so many devices. best: fastest that fit, one for each
    split over tensor, pipeline and data, fastest first. too_large: the fastest of those that do not fit and would be
    faster than all that do; where none does, the one that holds least. num_legal, num_fitting: how many were looked at.
    """

    given: Candidate | None
    best: tuple[Candidate, ...]
    too_large: Candidate | None
    num_legal: int
    num_fitting: int


def ranking(run: TrimodalRun, num_devices: int, device: Device, assumptions: Assumptions, *, most: int = 6) -> Ranking:
    """The layouts of `legal_runs`, and the run's own, judged. ValueError if there is none."""
    states_layers = bool(run.fit.parallel.stage_layers)

    def judged(each: TrimodalRun) -> Candidate:
        return judge(each, num_devices, device, assumptions, states_layers=states_layers)

    candidates = [judged(each) for each in legal_runs(run, num_devices, device)]
    given = judged(run) if is_legal(run.plan(num_devices)) else None
    if not candidates and given is None:
        raise ValueError(
            f"no layout of {run.name} is legal on {num_devices} devices with its batch of "
            f"{run.plan(num_devices).batch} sequences; change --gpus, or fit.physical_batch"
        )
    if given is not None:
        candidates.append(given)
    fitting = sorted((each for each in candidates if each.memory.fits), key=_order)
    fastest: dict[tuple[int, int, int], Candidate] = {}
    for each in fitting:
        layout = each.work.layout
        fastest.setdefault((layout.tensor, layout.pipeline, layout.data), each)
    larger = sorted((each for each in candidates if not each.memory.fits), key=_order)
    too_large = larger[0] if larger and fitting and _order(larger[0])[0] < _order(fitting[0])[0] else None
    if not fitting:
        too_large = min(larger, key=lambda each: each.memory.total)
    return Ranking(
        given=given,
        best=tuple(fastest.values())[:most],
        too_large=too_large,
        num_legal=len(candidates),
        num_fitting=len(fitting),
    )


def judge(
    run: TrimodalRun, num_devices: int, device: Device, assumptions: Assumptions, *, states_layers: bool
) -> Candidate:
    """The run as it is set. Its layout must be legal."""
    work = workload_of(run, num_devices)
    time, memory = step_time(work, device, assumptions), rank_memory(work, device, assumptions)
    return Candidate(run=run, work=work, time=time, memory=memory, states_layers=states_layers)


def legal_runs(run: TrimodalRun, num_devices: int, device: Device) -> Iterator[TrimodalRun]:
    """The run under the legal layouts that are looked at: tensor parallelism within a node, split along the sequence
    where rows divide; chunks that divide a stage's layers; micro-batches in powers of two; no recomputation, or all.
    """
    model, fit = run.model, run.fit
    stages = [0] if fit.noise_scale is None and fit.engine.precision == "fp32" else []
    stages += [1] if fit.noise_scale is not None else [1, 2]
    for tensor in _divisors(num_devices, device.per_node):
        for pipeline in _divisors(num_devices // tensor, model.num_layers):
            for virtual in _chunks(model.num_layers, pipeline):
                sequence = tensor > 1 and run.row_length % tensor == 0
                layout = ParallelLayout(tensor=tensor, pipeline=pipeline, virtual=virtual, sequence=sequence)
                data = num_devices // layout.model_ranks
                single = replace(run, fit=replace(fit, parallel=layout, micro_batch_per_dp_rank=1))
                rows = max(1, step_batch(single, num_devices) // data)  # that one copy of the model gets
                sizes = [2**power for power in range(rows.bit_length()) if 2**power <= rows]
                for zero, recompute, micro in itertools.product(stages, _RECOMPUTE, sizes):
                    engine: Any = replace(fit.engine, zero_stage=zero)
                    changed: Any = {"recompute": recompute, "micro_batch_per_dp_rank": micro}
                    candidate = replace(run, fit=replace(fit, parallel=layout, engine=engine, **changed))
                    if is_legal(candidate.plan(num_devices)):
                        yield candidate


def why_not(candidate: Candidate, best: Candidate) -> str:
    """What a slower candidate loses by: the parts of a step, per token, that grow most."""
    scale = best.time.tokens / candidate.time.tokens
    theirs, ours = candidate.time.parts, best.time.parts
    more = {name: theirs[name] * scale - ours[name] for name in ours}
    total = candidate.time.seconds * scale - best.time.seconds
    largest = sorted(more, key=more.__getitem__, reverse=True)[:2]
    named = [f"{_WORDS[name]} {1e3 * more[name]:+.0f} ms" for name in largest if more[name] > 0.1 * total > 0]
    return ", ".join(named) or "as fast"


def too_large_by(candidate: Candidate) -> str:
    """In words."""
    memory = candidate.memory
    return f"{memory.total / GIB:.1f} GiB of {memory.capacity / GIB:.1f}"


_WORDS = {
    "matmul": "matrix products",
    "attention": "attention",
    "memory": "element-wise kernels",
    "launches": "kernel launches",
    "tensor": "tensor-parallel messages",
    "pipeline": "pipeline messages",
    "bubble": "pipeline bubble",
    "data": "data-parallel messages",
    "optimizer": "optimizer",
    "other": "the fixed part",
}


def _order(candidate: Candidate) -> tuple[float, int]:
    """Fastest first, per token; of equals the one that holds least."""
    return round(candidate.time.seconds / candidate.time.tokens, 12), candidate.memory.total


def _divisors(number: int, most: int) -> list[int]:
    return [each for each in range(1, min(number, most) + 1) if number % each == 0]


def _chunks(num_layers: int, pipeline: int) -> list[int]:
    """Chunks per stage: what divides the layers of a stage evenly, and no more than eight."""
    if pipeline == 1:
        return [1]
    per_stage = num_layers // pipeline
    return [each for each in range(1, _MAX_CHUNKS_PER_STAGE + 1) if per_stage % each == 0 or each == 1]
