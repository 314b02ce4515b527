"""What packing would do with a set: under the settings of a run, or for one task and row length."""

from dataclasses import dataclass
from typing import Any

from triptych.configs.token_data import build_source
from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.shards.reader import ShardSet
from triptych.data_pipelines.statistics.packing import PackingStatistics, packing_statistics
from triptych.data_pipelines.statistics.sets import SetStatistics
from triptych.data_pipelines.stream.sequences import SIDES, RegionSizes, SequenceLayout
from triptych.data_pipelines.stream.windows import PackingConfig
from triptych.data_pipelines.vocabulary import MODALITIES, TASKS, Modality, Task, Vocabulary

_SHORTEST_ROW = 8


@dataclass(kw_only=True, slots=True, frozen=True)
class PackedTask:
    """cut: by modality, samples of the set that are longer than their region or piece."""

    task: Task
    packing: PackingStatistics
    cut: dict[Modality, int]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"task": self.task, **self.packing.as_json(), "cut": dict(self.cut)}


def packing_under(run: TrimodalRun, shards: ShardSet, statistics: SetStatistics, task: Task | None) -> list[PackedTask]:
    """For `task`, or for each of the run's tasks that the set has the modalities of."""
    tasks: list[Task] = _tasks_of(run, statistics) if task is None else [task]
    return [_packed(each, run.layout, run.row_length, run.data.packing, shards, statistics) for each in tasks]


def packing_for(task: Task, row_length: int, shards: ShardSet, statistics: SetStatistics) -> PackedTask:
    """For rows of `row_length` positions. Regions are as long as the set's longest, conditions take what they need.

    ValueError if the set lacks a side of the task, or its longest pair fits no row.
    """
    if row_length < _SHORTEST_ROW:
        raise ValueError(f"--row-length {row_length} is too short for a pair; give {_SHORTEST_ROW} or more")
    sizes = dict.fromkeys(MODALITIES, 1) | ({side: _longest(statistics, side) + 1 for side in SIDES.get(task, ())})
    needed = 3 + sum(sizes[side] for side in SIDES.get(task, ()))
    if needed > row_length:
        raise ValueError(
            f"{statistics.name}: its longest {task} pair takes {needed} positions, --row-length is {row_length}; "
            "raise it, or give --run, whose regions cut"
        )
    layout = SequenceLayout(
        vocabulary=Vocabulary(text=1, image=1, audio=1),
        sequence_length=row_length,
        regions=RegionSizes(**sizes, condition_multiple=1),
    )
    return _packed(task, layout, row_length, PackingConfig(), shards, statistics)


def _tasks_of(run: TrimodalRun, statistics: SetStatistics) -> list[Task]:
    held = {modality for modality, codes in statistics.codes.items() if codes.num_codes}
    wanted = {source.task for source in run.data.sources.values()}
    held_alone = {"text"} == held
    return [task for task in TASKS if task in wanted and (held_alone if task == "text" else set(SIDES[task]) <= held)]


def _packed(
    task: Task,
    layout: SequenceLayout,
    row_length: int,
    config: PackingConfig,
    shards: ShardSet,
    statistics: SetStatistics,
) -> PackedTask:
    for side in _sides(task):
        if side not in statistics.codes or not statistics.codes[side].num_codes:
            raise ValueError(f"{statistics.name} has no {side} codes, which {task} needs; give another task or set")
    source = build_source(task, shards, layout, row_length)
    limits: dict[Modality, int] = {side: layout.regions.of(side) for side in SIDES.get(task, ())}
    if task == "text":
        limits = {"text": source.longest_piece - 1}  # END takes one
    return PackedTask(
        task=task,
        packing=packing_statistics(task, source, config, row_length),
        cut={side: statistics.codes[side].lengths.number_above(limit) for side, limit in limits.items()},
    )


def _sides(task: Task) -> tuple[Modality, ...]:
    return ("text",) if task == "text" else SIDES[task]


def _longest(statistics: SetStatistics, side: Modality) -> int:
    summary = statistics.codes[side].summary if side in statistics.codes else None
    return summary.maximum if summary else 0
