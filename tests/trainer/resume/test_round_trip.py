"""TP2 x PP2 to one process, TP4, PP4 and back, through ZeRO, SP, DP, interleaving and bf16: not a bit changes."""

import itertools
from dataclasses import replace

import alongside  # noqa: F401 - before what it makes importable
import pytest
from layout_run import Cell
from passing_through import PARTS, Stop, bit_equal, pass_through

from triptych.data_pipelines.stream.cursor import total_tokens
from triptych.trainer.checkpoint.disk.folders import complete_checkpoints
from triptych.trainer.checkpoint.disk.reading import read_part, verify_checkpoint
from triptych.trainer.parallel.layout import ParallelLayout

BOTH = Cell(layout=ParallelLayout(tensor=2, pipeline=2))
LAYOUTS = (
    BOTH,
    Cell(layout=ParallelLayout(), zero=0),
    Cell(layout=ParallelLayout(), precision="bf16"),
    Cell(layout=ParallelLayout(tensor=4), zero=0),
    Cell(layout=ParallelLayout(pipeline=4)),
    Cell(layout=ParallelLayout(tensor=2, sequence=True), data=2, zero=2, precision="bf16"),
    Cell(layout=ParallelLayout(pipeline=2, virtual=2), data=2),
    Cell(layout=ParallelLayout(), data=4, zero=2),
    Cell(layout=ParallelLayout(tensor=2, pipeline=2, sequence=True), precision="bf16"),
    Cell(layout=ParallelLayout(), data=4, zero=0),
    BOTH,
)
# Of sigmoid attention, whose model has every parameter of a softmax one, and vectors that are split over ranks besides.
# Stops of as many processes follow each other in the same ones.
CELLS = tuple(replace(cell, attention="sigmoid") for cell in LAYOUTS)


@pytest.fixture(scope="module")
def trip(tmp_path_factory):
    """Checkpoint folder of each stop, and what it found."""
    folder = tmp_path_factory.mktemp("trip")
    folders = [folder / f"stop{number}" for number in range(len(CELLS))]
    stops = map(
        lambda cell, source, target: Stop(cell=cell, source=source, target=target), CELLS, [None, *folders], folders
    )
    found = []
    for number, (_, group) in enumerate(itertools.groupby(stops, key=lambda stop: stop.cell.num_processes)):
        found += pass_through(list(group), folder / f"processes{number}")
    return [complete_checkpoints(each)[-1] for each in folders], found


def whole(checkpoint):
    return {(part, name): tensor for part in PARTS for name, tensor in read_part(checkpoint, part).items()}


def test_the_run_has_moments_and_a_cursor(trip):
    (first, *_), (found, *_) = trip
    assert (found["step"], found["logical_updates"], found["batch"]) == (3, 3.0, 16)
    assert found["loss_divisor"]["sequences"] == 3 * 16
    assert total_tokens(found["cursor"]) == found["tokens"]
    for (part, name), tensor in whole(first).items():
        assert tensor.count_nonzero() > 0, (part, name)


@pytest.mark.parametrize("number", range(len(CELLS)), ids=[f"{i} {cell}" for i, cell in enumerate(CELLS)])
def test_a_stop_changes_nothing(trip, number):
    folders, found = trip
    assert found[number] == found[0] | {"engine": True, "module": True}
    assert verify_checkpoint(folders[number]).header == verify_checkpoint(folders[0]).header
    here, there = whole(folders[number]), whole(folders[0])
    assert here.keys() == there.keys()
    assert [key for key in here if not bit_equal(here[key], there[key])] == []
