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
    """What is left out, so that the rest runs in half an hour on two cores.

    In bf16 recomputation is run with one micro-batch alone: fp32 has sharper bounds. The smallest micro-batch, eight of
    them in a row on the slowest kind of layout, is left out where tensor ranks hold the whole batch. And of four
    processes with tensor parallelism in fp32 a third is run, a Latin square: each pair of (ZeRO stage, stage layers,
    recomputation, micro-batch) stays, on every layout.
    """
    tensor = cell.layout.tensor > 1
    if cell.precision == "bf16":
        return (cell.recompute != "none" and cell.micro != 4) or (tensor and cell.data == 1 and cell.micro == 2)
    if tensor and cell.data == 1 and cell.micro == 2:
        return True
    stages = [layers for _, layers in STAGES.get(cell.layout.num_chunks, ())]
    place = stages.index(cell.layout.stage_layers) if stages else 0
    square = cell.zero + place + RECOMPUTE.index(cell.recompute) + MICRO.index(cell.micro)
    return tensor and cell.num_processes == 4 and square % 3 != 0


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
