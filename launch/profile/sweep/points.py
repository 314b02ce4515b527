"""Which points a sweep may have: settings that change how a run is computed, not what, as far as they can run."""

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from triptych.configs.tree import parse_value, with_settings
from triptych.configs.trimodal import TrimodalRun
from triptych.launch.sweep.grid import Grid
from triptych.trainer.parallel.refusal import is_legal, require_layout

MICRO_BATCH = "fit.micro_batch_per_dp_rank"
RECOMPUTE = "fit.recompute"
ZERO = "fit.engine.zero_stage"
KERNEL = "model.attention.kernel"
TENSOR, PIPELINE = "fit.parallel.tensor", "fit.parallel.pipeline"
VIRTUAL, SEQUENCE = "fit.parallel.virtual", "fit.parallel.sequence"
LAYOUT = (TENSOR, PIPELINE, VIRTUAL, SEQUENCE)
STAGE_LAYERS = "fit.parallel.stage_layers"
"""Of a run that states its own: they are of one number of chunks, so every other is given none."""
_NUMBERS = (TENSOR, PIPELINE, VIRTUAL, MICRO_BATCH)

NAMES = {
    MICRO_BATCH: "micro-batch",
    RECOMPUTE: "recomputation",
    ZERO: "ZeRO stage",
    KERNEL: "attention",
    TENSOR: "tensor",
    PIPELINE: "pipeline",
    VIRTUAL: "virtual",
    SEQUENCE: "sequence",
    STAGE_LAYERS: "layers of stages",
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
    attention can be computed by, the run's own first. ValueError for a grid that is given twice, and for numbers that
    are none.
    """
    given = {grid.path: [parse_value(text) for text in grid.texts] for grid in grids}
    for path, times in Counter(grid.path for grid in grids).items():
        if times > 1:
            raise ValueError(f"--grid {path} is given {times} times; give it once")
    for path in given.keys() & set(_NUMBERS):
        for value in given[path]:
            if type(value) is not int or value < 1:
                raise ValueError(f"--grid {path}={value} is no whole number of 1 or more; give such numbers")
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
    if own.stage_layers:
        for layout in layouts:
            is_own = (layout[PIPELINE], layout[VIRTUAL]) == (own.pipeline, own.virtual)
            layout[STAGE_LAYERS] = list(own.stage_layers) if is_own else []
    rows = run.plan(world_size).batch
    ladder = {2**power for power in range(rows.bit_length()) if 2**power <= rows}
    return Axes(
        layouts=layouts,
        zero_stages=given.pop(ZERO, [0, 1, 2]),
        kernels=list(kernels)[: 1 if KERNEL in given else None],  # a grid's are among the others
        micro_batches=sorted(given.pop(MICRO_BATCH, {*ladder, run.fit.micro_batch_per_dp_rank})),
        recomputes=given.pop(RECOMPUTE, [run.fit.recompute, *({"none", "selective", "full"} - {run.fit.recompute})]),
        others=given,
    )


def require_possible(run: TrimodalRun, axes: Axes, grids: Sequence[Grid], world_size: int) -> None:
    """ValueError for a value of a grid that no point can have, with the reason of the first: a path that there is not,
    a value that the setting does not take, a layout that cannot run.
    """
    points = [
        Point(arm=arm, micro_batch=micro_batch, recompute=recompute)
        for recompute, micro_batch in itertools.product(axes.recomputes, axes.micro_batches)
        for arm in axes.arms()
    ]
    for grid in grids:
        for text in grid.texts:
            value = parse_value(text)
            having = [point for point in points if point.values.get(grid.path) == value]
            if all(point_run(run, point, world_size) is None for point in having):
                why = _why_not(run, having[0], world_size) if having else f"{world_size} processes have no such layout"
                raise ValueError(
                    f"--grid {grid.path}={text} can be had by no point: {why}{'' if '; ' in why else '; change it'}"
                )


def _why_not(run: TrimodalRun, point: Point, world_size: int) -> str:
    """Of a point that cannot run."""
    try:
        plan = with_settings(run, point.options).plan(world_size)
        require_layout(plan)
    except ValueError as error:
        return str(error)
    return f"a rank has {plan.rows_per_rank} rows, fewer than a micro-batch of {point.micro_batch}"


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
    """`--set` of what a point has otherwise than the run. Of settings that go together, as tensor and sequence
    parallelism, none can be tried alone, so each is left out instead.
    """
    whole = with_settings(run, point.options)
    return [option for option in point.options if _without(run, point, option) != whole]


def _without(run: TrimodalRun, point: Point, option: str) -> TrimodalRun | None:
    """The run at a point but for one option; None where the others do not go together without it."""
    try:
        return with_settings(run, [each for each in point.options if each != option])
    except ValueError:
        return None


def own_point(run: TrimodalRun, arm: Mapping[str, Any]) -> Point:
    """An arm with the run's own micro-batch and recomputation."""
    return Point(arm=arm, micro_batch=run.fit.micro_batch_per_dp_rank, recompute=run.fit.recompute)


def at(point: Point, **changes: Any) -> Point:
    """The same with other values of its fields."""
    return dataclasses.replace(point, **changes)


def _divisors(number: int) -> list[int]:
    return [size for size in range(1, number + 1) if number % size == 0]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
