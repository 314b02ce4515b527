"""The part of the matrix that runs with every `make test`: each axis, and the pairs of axes that touch each other."""

from layout_bugs import BUGS
from layout_run import Cell

from triptych.models.parameterization import ShapeRatio
from triptych.trainer.parallel.layout import ParallelLayout

ONE = (Cell(micro=3, zero=2), Cell(zero=0, micro=16), Cell(recompute="full"), Cell(recompute="selective", micro=2))
TWO = (
    Cell(layout=ParallelLayout(tensor=2), zero=0, micro=16),
    Cell(layout=ParallelLayout(tensor=2, sequence=True), zero=2, recompute="full", micro=6),
    Cell(layout=ParallelLayout(pipeline=2, stage_layers=(1, 3)), recompute="selective"),
    Cell(layout=ParallelLayout(pipeline=2, virtual=2, stage_layers=(1, 3, 2, 2)), num_layers=8),
    Cell(data=2, zero=2, micro=3, recompute="full"),
    # Every kind has values of its own, and the last stage one group of them more than the first.
    Cell(layout=ParallelLayout(pipeline=2), shape=ShapeRatio(width=2.0, depth=4.0)),
    Cell(data=2, pairs=True),
    Cell(layout=ParallelLayout(tensor=2), zero=0, micro=8, attention="sigmoid"),
    Cell(layout=ParallelLayout(tensor=2, sequence=True), zero=2, recompute="full", micro=8, attention="sigmoid"),
    Cell(layout=ParallelLayout(pipeline=2), shape=ShapeRatio(width=2.0, depth=4.0), attention="sigmoid"),
    Cell(layout=ParallelLayout(tensor=2, sequence=True), micro=8, precision="bf16"),
    Cell(layout=ParallelLayout(pipeline=2, virtual=2), recompute="full", precision="bf16"),
)
FOUR = (
    Cell(layout=ParallelLayout(tensor=4, sequence=True), zero=0, recompute="selective", micro=8),
    Cell(layout=ParallelLayout(tensor=2, pipeline=2, virtual=2, sequence=True), recompute="full", micro=8),
    Cell(layout=ParallelLayout(pipeline=4), recompute="full", micro=4),
    Cell(layout=ParallelLayout(pipeline=4, virtual=2), num_layers=8),
    Cell(layout=ParallelLayout(pipeline=2, virtual=2), data=2),
    Cell(layout=ParallelLayout(tensor=2, pipeline=2, sequence=True), micro=8, attention="sigmoid"),
    Cell(data=4, zero=0, micro=3),
    Cell(data=4, zero=2, recompute="full", micro=2),
    Cell(layout=ParallelLayout(tensor=2, sequence=True), data=2, zero=2, recompute="full", micro=8),
    Cell(layout=ParallelLayout(tensor=2, pipeline=2, sequence=True), micro=8, precision="bf16"),
    Cell(layout=ParallelLayout(tensor=2), data=2, zero=2, micro=8, precision="bf16"),
)
PLANTED = tuple((cell, name) for name, bug in BUGS.items() for cell in bug.cells)
# What is planted into must be right without the bug.
CELLS = tuple(dict.fromkeys((*ONE, *TWO, *FOUR, *(cell for cell, _ in PLANTED))))
# Sending overlaps computing where chunks are interleaved: a race would show in one of several runs.
INTERLEAVED = tuple(cell for cell in CELLS if cell.layout.virtual > 1)
REFERENCES = tuple(dict.fromkeys(cell.reference for cell in CELLS))
