"""Cells of the matrix: all that the trainer's own judge of layouts lets pass, and why it refuses the rest."""

import itertools
from collections import Counter
from dataclasses import dataclass, replace

from layout_run import BATCH, Cell, plan_of

from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.parallel.refusal import first_problem

WORLDS = (1, 2, 4)
RANKS = (1, 2, 4)
ZERO = (0, 1, 2)
RECOMPUTE = ("none", "selective", "full")
MICRO = (2, 3, 4, 8, 16)
PRECISIONS = ("fp32", "bf16")
# Layers of the model, and of each chunk (none: balanced). Four layers fill four chunks in one way only, and no eight.
STAGES = {
    1: ((4, ()),),
    2: ((4, ()), (4, (1, 3)), (4, (3, 1))),
    4: ((4, ()), (8, (1, 3, 2, 2))),
    8: ((4, ()), (8, ())),
}


@dataclass(kw_only=True, slots=True, frozen=True)
class Grid:
    """cells: what runs. refused: the reason, in words without numbers, to how often. repeated: settings whose
    micro-batch is larger than a rank's rows, which makes them the run whose micro-batch is those rows. thinned: bf16
    settings that are left out (`is_thinned`).
    """

    cells: tuple[Cell, ...]
    refused: dict[str, int]
    repeated: int
    thinned: int


def whole_grid():
    """Every combination, sorted by number of processes; complement pairs once per layout and precision."""
    cells, refused, repeated, thinned = [], Counter(), 0, 0
    for world, cell in settings_of_all():
        reason = cell if isinstance(cell, str) else reason_against(world, cell)
        if reason is not None:
            refused[reason] += 1
        elif cell.micro > BATCH // cell.data:
            repeated += 1
        elif is_thinned(cell):
            thinned += 1
        else:
            cells.append(cell)
    cells += list(paired(cells))
    return Grid(
        cells=tuple(sorted(cells, key=lambda cell: (cell.num_processes, PRECISIONS.index(cell.precision)))),
        refused=dict(refused),
        repeated=repeated,
        thinned=thinned,
    )


def is_thinned(cell):
    """In bf16 every micro-batch is run without recomputation, and every recomputation with one micro-batch: fp32 runs
    the whole product, with sharper bounds.
    """
    return cell.precision == "bf16" and cell.recompute != "none" and cell.micro != 4


def settings_of_all():
    """World size and cell of every combination of the axes; the message instead of the cell where there is none."""
    for tensor, pipeline, virtual, sequence in itertools.product(RANKS, RANKS, (1, 2), (False, True)):
        for layers, stages in STAGES.get(pipeline * virtual, ((4, ()),)):
            rest = list(itertools.product(WORLDS, ZERO, RECOMPUTE, MICRO, PRECISIONS))
            try:
                layout = ParallelLayout(
                    tensor=tensor, pipeline=pipeline, virtual=virtual, sequence=sequence, stage_layers=stages
                )
            except ValueError as error:
                yield from ((world, without_numbers(str(error))) for world, *_ in rest)
                continue
            for world, zero, recompute, micro, precision in rest:
                yield (
                    world,
                    Cell(
                        layout=layout,
                        data=max(1, world // layout.model_ranks),
                        zero=zero,
                        recompute=recompute,
                        micro=micro,
                        precision=precision,
                        num_layers=layers,
                    ),
                )


def reason_against(world, cell):
    """None, or why the trainer would refuse it."""
    problem = first_problem(replace(plan_of(cell), world_size=world))
    return None if problem is None else without_numbers(problem.text)


def paired(cells):
    """Twins stay on one rank and share their t: a cell of each layout again, with complement pairs."""
    seen = set()
    for cell in cells:
        key = (cell.layout, cell.data, cell.num_layers, cell.precision)
        if (cell.zero, cell.recompute, cell.micro) == (1, "none", 4) and key not in seen:
            seen.add(key)
            yield replace(cell, pairs=True)


def without_numbers(text):
    """The first part of a message with its numbers gone, so that like reasons are counted together."""
    return "".join("N" if letter.isdigit() else letter for letter in text.partition(";")[0]).replace("NN", "N")
