"""The matrix and the trainer's judge of layouts agree: what is let pass is run, the rest is refused with a mend."""

import pytest
from layout_grid import MICRO, PRECISIONS, RECOMPUTE, ZERO, settings_of_all, whole_grid, without_numbers
from layout_run import NUM_STEPS, Cell, plan_of

from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.parallel.refusal import require_layout


@pytest.fixture(scope="module")
def grid():
    return whole_grid()


def test_every_setting_runs_or_is_refused(grid):
    paired = sum(cell.pairs for cell in grid.cells)
    assert len(grid.cells) - paired + sum(grid.refused.values()) + grid.repeated + grid.thinned == len(
        list(settings_of_all())
    )


def test_no_cell_runs_twice(grid):
    assert len(set(grid.cells)) == len(grid.cells)


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"tensor": 2},
        {"tensor": 4},
        {"tensor": 4, "sequence": True},
        {"pipeline": 2},
        {"pipeline": 4},
        {"pipeline": 2, "virtual": 2},
        {"pipeline": 4, "virtual": 2},
        {"tensor": 2, "pipeline": 2},
        {"tensor": 2, "pipeline": 2, "virtual": 2, "sequence": True},
    ],
)
def test_each_layout_of_model_ranks_is_among_the_cells(grid, layout):
    assert any(cell.layout == ParallelLayout(**layout) for cell in grid.cells)


def test_each_value_of_the_other_axes_is_among_the_cells(grid):
    found = {(cell.data, cell.zero, cell.recompute, cell.micro, cell.precision) for cell in grid.cells}
    axes = [{values[i] for values in found} for i in range(5)]
    assert axes == [{1, 2, 4}, set(ZERO), set(RECOMPUTE), set(MICRO), set(PRECISIONS)]


REFUSED = {
    "no bf16 without ZeRO": Cell(zero=0, precision="bf16"),
    "no ZeRO-2 in a pipeline": Cell(layout=ParallelLayout(pipeline=2), zero=2),
    "no ZeRO-0 in a pipeline": Cell(layout=ParallelLayout(pipeline=2), zero=0),
    "equal micro-batches in a pipeline": Cell(layout=ParallelLayout(pipeline=2), micro=3),
    "groups of micro-batches": Cell(layout=ParallelLayout(pipeline=2, virtual=2), micro=16),
    "a layer for every chunk": Cell(layout=ParallelLayout(pipeline=4, virtual=2)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_run_is_refused_with_a_mend(grid, case):
    with pytest.raises(ValueError, match=r"^[^;\n]+; nearest that can run: [^;\n]+$") as refusal:
        require_layout(plan_of(REFUSED[case]))
    assert without_numbers(str(refusal.value)) in grid.refused


def test_a_run_has_ten_steps():
    assert NUM_STEPS == 10
