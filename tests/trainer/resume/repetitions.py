"""A run that is killed once or twice at random moments, each time resumed, in the same layout or in others."""

import random
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from attempts import Attempt
from comparison import Difference, difference, loss_difference
from damage import damage
from kills import MOMENTS, Kill, Struck, random_kill, run_and_kill
from layout_run import Cell

from triptych.trainer.checkpoint.disk.folders import checkpoint_folders, complete_checkpoints
from triptych.trainer.checkpoint.disk.reading import verify_checkpoint
from triptych.trainer.parallel.layout import ParallelLayout

CELLS = (
    Cell(layout=ParallelLayout(), zero=0),
    Cell(layout=ParallelLayout(), zero=1),
    Cell(layout=ParallelLayout(), data=2, zero=2),
    Cell(layout=ParallelLayout(), data=2, zero=1),
    Cell(layout=ParallelLayout(tensor=2, sequence=True), zero=1),
    Cell(layout=ParallelLayout(tensor=2), zero=0),
    Cell(layout=ParallelLayout(pipeline=2), zero=1),
    Cell(layout=ParallelLayout(pipeline=2, virtual=2), zero=1),
    Cell(layout=ParallelLayout(tensor=2, pipeline=2), zero=1),
    Cell(layout=ParallelLayout(tensor=2), data=2, zero=2),
)
BF16_CELLS = tuple(replace(CELLS[index], precision="bf16") for index in (1, 2, 4, 6))
# A disk so slow that a write outlasts several steps; where a step is to be met, one that is not slowed.
OPERATION_SECONDS = {"step": 0.0, "write": 0.003, "commit": 0.003}
LAST_COUNT = {"step": 14, "write": 6, "commit": 5}  # of about 20 steps and 8 checkpoints


@dataclass(kw_only=True, slots=True, frozen=True)
class Repetition:
    """seed: of everything that is drawn. cells: of the attempts. moments: of the kills, one fewer: the last attempt
    comes to the end.
    """

    seed: int
    cells: tuple[Cell, ...]
    moments: tuple[str, ...]

    @property
    def same_layout(self):
        return len(set(self.cells)) == 1


@dataclass(kw_only=True, slots=True, frozen=True)
class Outcome:
    """before, after: all attempts together, from the uninterrupted run in the layout of the first and of the last."""

    struck: tuple[Struck, ...]
    before: Difference
    after: Difference

    def is_right(self, repetition):
        return self.before.is_none if repetition.same_layout else self.before.is_small and self.after.is_small


def planned(num_repetitions):
    """Repetitions by turns in one layout and in several, killed by turns at every kind of moment, two of four twice."""
    plans = []
    for seed in range(num_repetitions):
        draw = random.Random(seed)
        moments = tuple(MOMENTS[(seed + kill) % len(MOMENTS)] for kill in range(1 + seed // 2 % 2))
        if seed % 2:
            cells = tuple(draw.sample(CELLS, 1 + len(moments)))
        else:
            cells = (draw.choice(CELLS + BF16_CELLS),) * (1 + len(moments))
        plans.append(Repetition(seed=seed, cells=cells, moments=moments))
    return plans


def carry_out(repetition, folder, uninterrupted):
    """Run, kill, resume to the end, and compare. AssertionError if an attempt does not go on from the newest whole
    checkpoint, or differs by a bit from the uninterrupted run before the first kill.
    """
    draw = random.Random(1000 + repetition.seed)
    run, attempts, struck = folder / f"run{repetition.seed}", [], []
    for number, (cell, moment) in enumerate(zip(repetition.cells, (*repetition.moments, None), strict=True)):
        newest = complete_checkpoints(run / "checkpoints")[-1:]
        resumed_at = verify_checkpoint(newest[0]).header.step if newest else 0
        attempt = Attempt(run=run, cell=cell, number=number, resume=bool(newest))
        if moment is None:
            attempt.finish()
        else:
            attempt = replace(attempt, operation_seconds=OPERATION_SECONDS[moment])
            kill = random_kill(draw, cell.num_processes, moment=moment, last_count=_last_count(moment, resumed_at))
            struck.append(run_and_kill(attempt, kill))
        assert not attempt.curve or attempt.curve[0]["step"] == resumed_at + 1, "not from the newest checkpoint"
        assert attempt.warnings == []
        attempts.append(attempt)
    first, last = (uninterrupted.of(repetition.cells[index]) for index in (0, -1))
    assert loss_difference(attempts[0].curve, first.curve) == 0, "another run before the first kill"
    return Outcome(struck=tuple(struck), before=difference(attempts, first), after=difference(attempts, last))


def _last_count(moment, resumed_at):
    """So that what is left of the run still comes to the moment."""
    return max(1, int(LAST_COUNT[moment] * (1 - resumed_at / 20)))


@dataclass(kw_only=True, slots=True, frozen=True)
class Damaged:
    """told: what was done to the newest checkpoint. newest, used: names of checkpoints. before, after: as `Outcome`."""

    told: str
    newest: str
    used: str
    before: Difference
    after: Difference


def interrupted(folder, cell):
    """An attempt killed at its 14th step of 20, with two checkpoints left."""
    attempt = Attempt(run=folder / "interrupted", cell=cell)
    run_and_kill(attempt, Kill(moment="step", count=14, delay_seconds=0.0, victims=tuple(range(cell.num_processes))))
    assert len(complete_checkpoints(attempt.checkpoints)) >= 2
    return attempt


def damaged_copy(attempt, folder, kind, draw, *, num_checkpoints=1) -> tuple[Attempt, list[str]]:
    """A copy of an interrupted run whose newest checkpoints are damaged, and what was done to them, newest first."""
    shutil.copytree(attempt.run, folder)
    copy = replace(attempt, run=Path(folder))
    newest = checkpoint_folders(copy.checkpoints)[-1 : -1 - num_checkpoints : -1]
    return copy, [damage(path, kind, draw) for path in newest]


def carry_out_damaged(attempt, folder, kind, seed, cell, uninterrupted):
    """Resume a damaged copy of an interrupted run in a cell, and compare. AssertionError if the run does not go on
    from the checkpoint before, or does not say so in one line.
    """
    copy, (told,) = damaged_copy(attempt, folder, kind, random.Random(seed))
    *_, before, newest = checkpoint_folders(copy.checkpoints)
    step = verify_checkpoint(before).header.step
    resumed = replace(copy, cell=cell, number=1, resume=True)
    resumed.finish()
    (warning,) = resumed.warnings
    assert warning.startswith(f"checkpoint {newest} is passed over ("), warning
    assert warning.endswith(f"; {before.name} is used instead"), warning
    assert resumed.curve[0]["step"] == step + 1, "not from the checkpoint before"
    references = [uninterrupted.of(each) for each in (attempt.cell, cell)]
    differences = [difference([copy, resumed], reference) for reference in references]
    return Damaged(told=told, newest=newest.name, used=before.name, before=differences[0], after=differences[1])
