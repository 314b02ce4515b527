"""Layouts equal one process, and mistakes planted into them do not: the fast part of `make test-matrix`."""

import layout_paths  # noqa: F401 - before what it makes importable
import pytest
from fast_cells import CELLS, INTERLEAVED, PLANTED, REFERENCES
from gloo_processes import Processes
from layout_bugs import train_planted
from layout_comparison import FP32_BOUNDS, bounds_from_rounding, broken, differences, same
from layout_rounding import trained_otherwise
from layout_run import NUM_STEPS, SHORT, TOTAL_TOKENS, Cell, alone, quiet_engine, train_all

REPEATS = 2


@pytest.fixture(scope="module")
def references():
    """Every cell's equal on one process, in this one; and what runs alone anyway."""
    single = [*REFERENCES, *(cell for cell in CELLS if cell.num_processes == 1)]
    with alone():
        return dict(zip(single, train_all(single), strict=True))


@pytest.fixture(scope="module")
def rounded_otherwise():
    """The reference in each precision, with other rounding errors."""
    with alone(), quiet_engine():
        return {name: trained_otherwise(Cell(precision=name)) for name in ("fp32", "bf16")}


@pytest.fixture(scope="module")
def bounds(references, rounded_otherwise):
    bf16 = bounds_from_rounding(references[Cell(precision="bf16")], rounded_otherwise["bf16"])
    return {"fp32": FP32_BOUNDS, "bf16": bf16}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """(cell, bug or None) to its outcomes, in two starts of processes. The first cell runs again after all others."""
    processes = Processes(tmp_path_factory.mktemp("layouts"))
    found = {}
    for number in (2, 4):
        right = [(cell, None) for cell in CELLS if cell.num_processes == number]
        again = [run for run in right if run[0] in INTERLEAVED] * (REPEATS - 1)
        planted = [run for run in PLANTED if run[0].num_processes == number]
        runs = [*right, *again, *planted, right[0]]
        for run, outcome in zip(runs, processes(train_planted, number, runs, timeout_seconds=600)[0], strict=True):
            found.setdefault(run, []).append(outcome)
    return found


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_layout_equals_one_process(cell, references, outcomes, bounds):
    outcome = references[cell] if cell.num_processes == 1 else outcomes[cell, None][0]
    found = differences(outcome, references[cell.reference])
    assert broken(found, bounds[cell.precision]) == {}


@pytest.mark.parametrize(("cell", "bug"), PLANTED, ids=lambda value: str(value).replace(" ", "-"))
def test_a_planted_bug_turns_the_matrix_red(cell, bug, references, outcomes):
    found = differences(outcomes[cell, bug][0], references[cell.reference])
    assert broken(found, FP32_BOUNDS) != {}


@pytest.mark.parametrize("cell", INTERLEAVED, ids=str)
def test_interleaved_runs_are_the_same_every_time(cell, outcomes):
    """A tensor that is freed while it is still being sent makes runs differ; one run in a few, and a little. The whole
    matrix has a hundred such runs, this has one per cell.
    """
    assert [same(again, outcomes[cell, None][0]) for again in outcomes[cell, None][1:]] == [True] * (REPEATS - 1)


@pytest.mark.parametrize("number", [2, 4])
def test_runs_leave_nothing_behind_in_their_processes(number, outcomes):
    """Groups open and close, bugs come and go: the first cell of all, run last, is what it was."""
    (before, *_, after), *_ = [
        found for (cell, bug), found in outcomes.items() if bug is None and cell.num_processes == number
    ]
    assert same(before, after)


@pytest.mark.parametrize(("total_tokens", "num_steps"), [(TOTAL_TOKENS, NUM_STEPS), (SHORT, 3)])
def test_some_steps_of_the_reference_are_clipped_and_some_are_not(references, total_tokens, num_steps):
    norms = [norm for _, norm, _ in references[Cell(total_tokens=total_tokens)].steps]
    assert len(norms) == num_steps and 0 < sum(norm > 1 for norm in norms) < num_steps


def test_every_element_of_the_reference_is_held_and_learns(references):
    moments = references[Cell()].state["exp_avg_sq"]
    assert [name for name, tensor in moments.items() if not tensor.max() > 0] == []


def test_the_runs_that_are_rounded_otherwise_differ_in_rounding_alone(references, rounded_otherwise):
    """What bounds bf16 is the same computation: in fp32 it is as near as any layout."""
    found = [differences(run, references[Cell()]) for run in rounded_otherwise["fp32"]]
    assert [broken(each, FP32_BOUNDS) for each in found] == [{}, {}]


def test_the_bf16_bound_is_far_from_what_ten_steps_learn(references, bounds):
    """A bound that any run meets would bound nothing: the loss falls by a hundred times more."""
    losses = [metrics["loss"] for metrics, _, _ in references[Cell(precision="bf16")].steps]
    assert 0 < 100 * bounds["bf16"]["loss"] < (losses[0] - min(losses)) / losses[0]
