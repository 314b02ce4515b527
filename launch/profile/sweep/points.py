"""Which points a sweep may have: settings that change how a run is computed, not what, as far as they can run."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from triptych.configs.tree import parse_value, with_settings
from triptych.configs.trimodal import TrimodalRun
from triptych.launch.sweep.grid import Grid
from triptych.trainer.parallel.refusal import is_legal

MICRO_BATCH = "fit.micro_batch_per_dp_rank"
RECOMPUTE = "fit.recompute"
ZERO = "fit.engine.zero_stage"
KERNEL = "model.attention.kernel"
TENSOR, PIPELINE = "fit.parallel.tensor", "fit.parallel.pipeline"
VIRTUAL, SEQUENCE = "fit.parallel.virtual", "fit.parallel.sequence"
LAYOUT = (TENSOR, PIPELINE, VIRTUAL, SEQUENCE)

NAMES = {
    MICRO_BATCH: "micro-batch",
    RECOMPUTE: "recomputation",
    ZERO: "ZeRO stage",
    KERNEL: "attention",
    TENSOR: "tensor",
    PIPELINE: "pipeline",
    VIRTUAL: "virtual",
    SEQUENCE: "sequence",
}


@dataclass(kw_only=True, slots=True, frozen=True)
class Point:
    """One setting of everything that is swept. arm: path to value, of all but micro-batch and recomputation."""

    arm: Mapping[str, Any]
    micro_batch: int
    recompute: str

    @property
    def values(self) -> dict[str, Any]:
        """Path to value."""
        return {**self.arm, MICRO_BATCH: self.micro_batch, RECOMPUTE: self.recompute}

    @property
    def options(self) -> tuple[str, ...]:
        """As `--set` takes them."""
        return tuple(f"{path}={_text(value)}" for path, value in self.values.items())

    @property
    def name(self) -> str:
        """A folder's."""
        return ",".join(f"{path.rpartition('.')[2]}={_text(value)}" for path, value in self.values.items())


@dataclass(kw_only=True, slots=True, frozen=True)
class Axes:
    """Values of everything that is swept. others: of `--grid`, any setting by its path."""

    layouts: list[dict[str, Any]]
    zero_stages: list[int]
    kernels: list[str]
    micro_batches: list[int]
    recomputes: list[str]
    others: dict[str, list[Any]] = field(default_factory=dict)

    def arms(self) -> Iterator[dict[str, Any]]:
        """All combinations of layout, ZeRO stage, attention and others."""
        for layout, zero, kernel in itertools.product(self.layouts, self.zero_stages, self.kernels):
            of_kernel = {KERNEL: kernel} if len(self.kernels) > 1 else {}
            for values in itertools.product(*self.others.values()):
                yield {**layout, ZERO: zero, **of_kernel, **dict(zip(self.others, values, strict=True))}


def axes_of(run: TrimodalRun, world_size: int, kernels: Sequence[str], grids: Sequence[Grid]) -> Axes:
    """The run's own values and what else is worth a try; a grid takes the place of an axis, or adds one. kernels: that
    attention can be computed by, the run's own first.
    """
    given = {grid.path: [parse_value(text) for text in grid.texts] for grid in grids}
    own = run.fit.parallel
    tensors = given.pop(TENSOR, _divisors(world_size))
    pipelines = given.pop(PIPELINE, _divisors(world_size))
    virtuals = given.pop(VIRTUAL, sorted({1, own.virtual}))
    sequences = given.pop(SEQUENCE, [False, True])
    layouts: list[dict[str, Any]] = [
        dict(zip(LAYOUT, values, strict=True))
        for values in itertools.product(tensors, pipelines, virtuals, sequences)
        if world_size % (values[0] * values[1]) == 0 and (values[0] > 1 or not values[3])
    ]
    rows = run.plan(world_size).batch
    ladder = {2**power for power in range(rows.bit_length()) if 2**power <= rows}
    return Axes(
        layouts=layouts,
        zero_stages=given.pop(ZERO, [0, 1, 2]),
        kernels=given.pop(KERNEL, list(kernels)),
        micro_batches=sorted(given.pop(MICRO_BATCH, {*ladder, run.fit.micro_batch_per_dp_rank})),
        recomputes=given.pop(RECOMPUTE, [run.fit.recompute, *({"none", "selective", "full"} - {run.fit.recompute})]),
        others=given,
    )


def point_run(run: TrimodalRun, point: Point, world_size: int) -> TrimodalRun | None:
    """The run at a point; None where it cannot be run: the layout is refused, the settings do not go together, or a
    rank has fewer rows than a micro-batch.
    """
    try:
        tree = with_settings(run, point.options)
    except ValueError:
        return None
    plan = tree.plan(world_size)
    return tree if is_legal(plan) and point.micro_batch <= max(1, plan.rows_per_rank) else None


def changed_options(run: TrimodalRun, point: Point) -> list[str]:
    """`--set` of what a point has otherwise than the run."""
    return [option for option in point.options if with_settings(run, [option]) != run]


def own_point(run: TrimodalRun, arm: Mapping[str, Any]) -> Point:
    """An arm with the run's own micro-batch and recomputation."""
    return Point(arm=arm, micro_batch=run.fit.micro_batch_per_dp_rank, recompute=run.fit.recompute)


def at(point: Point, **changes: Any) -> Point:
    """The same with other values of its fields."""
    return dataclasses.replace(point, **changes)


def _divisors(number: int) -> list[int]:
    return [size for size in range(1, number + 1) if number % size == 0]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
