"""What the figures show: which lines, which range, where the labels are. Pixels are not compared."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_sweep import make_sweep
from PIL import Image

from triptych.launch.sweep.figures import (
    dependences,
    draw_curves,
    draw_dependences,
    draw_differences,
    final_limits,
    is_geometric,
    loss_limits,
    spread_out,
)
from triptych.launch.sweep.results import Reading, grouped, read_results

RATE = "fit.optimizer.peak_learning_rate"


def groups_of(folder, losses, **asked):
    make_sweep(folder, losses=losses, **asked)
    return grouped(read_results(folder, Reading(num_windows=10)))


def bowl(point):
    """Lowest at 2e-3 for the variant a, at 4e-3 for b."""
    best = {"a": 2e-3, "b": 4e-3}[point.variant]
    return [1.0 + abs(math.log(point.values[RATE] / best))] * 10


@pytest.fixture
def bowls(tmp_path):
    return groups_of(tmp_path, bowl, variants=["a:", "b:"], grids=[f"{RATE}=4e-3,1e-3,2e-3", "fit.seed=0,1"])


def test_a_line_per_variant_in_order_of_values(bowls):
    found = dependences(bowls)
    assert found is not None
    path, lines = found
    assert (path, [line.label for line in lines]) == (RATE, ["a", "b"])
    np.testing.assert_allclose(lines[0].values_N, [1e-3, 2e-3, 4e-3])


def test_the_best_of_each_line_is_its_lowest(bowls):
    found = dependences(bowls)
    assert found is not None
    assert [float(line.values_N[line.best]) for line in found[1]] == [2e-3, 4e-3]


@pytest.mark.parametrize(
    "grids",
    [
        ["fit.seed=0,1,2"],
        [f"{RATE}=1e-3,2e-3"],
        [f"{RATE}=1e-3,2e-3,4e-3", "fit.logical_batch=8,16,32"],
        ["fit.engine.precision=a,b,c"],
        ["fit.physical_batch=8,16,auto"],
    ],
)
def test_without_exactly_one_numeric_grid_of_three_there_is_no_such_figure(tmp_path, grids):
    assert dependences(groups_of(tmp_path, lambda point: [1.0] * 10, grids=grids)) is None


def test_a_second_grid_of_two_values_makes_lines(tmp_path):
    found = dependences(
        groups_of(tmp_path, lambda point: [1.0] * 10, grids=[f"{RATE}=1,2,4", "fit.logical_batch=8,16"])
    )
    assert found is not None
    assert [line.label for line in found[1]] == ["logical_batch=8", "logical_batch=16"]


@pytest.mark.parametrize(
    ("values", "geometric"),
    [
        ([1e-3, 2e-3, 4e-3], True),
        ([1e-3, 3e-3, 1e-2, 3e-2], True),
        ([16, 64, 256], True),
        ([1, 2, 3], False),
        ([0, 1, 10], False),
        ([0.9, 0.95, 1.0], False),
        ([5], False),
    ],
)
def test_what_is_spaced_by_ratio_is_geometric(values, geometric):
    assert is_geometric(values) == geometric


def test_a_group_that_diverges_does_not_squeeze_the_others(tmp_path):
    def losses(point):
        falling = list(np.linspace(6.0, 3.0, 10))
        return falling if point.variant == "good" else [6.0, 50.0, 900.0] + [math.nan] * 7

    low, high = loss_limits(groups_of(tmp_path, losses, variants=["good:", "bad:"]))
    assert 2.5 < low < 3.0
    assert 5.5 < high < 6.0


def test_a_steep_beginning_leaves_through_the_top(tmp_path):
    _, high = loss_limits(groups_of(tmp_path, lambda point: [100.0, *([3.0, 2.0, 1.0] * 3)]))
    assert high < 4


def test_a_value_far_above_leaves_through_the_top(tmp_path):
    finals = {1: 1.0, 2: 1.1, 4: 1.2, 8: 40.0}
    found = dependences(groups_of(tmp_path, lambda point: [finals[point.values["a"]]] * 10, grids=["a=1,2,4,8"]))
    assert found is not None
    assert final_limits(found[1])[1] < 3


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12).map(sorted))
def test_labels_are_apart_inside_and_in_order(wanted):
    gap = 1 / 12
    places = spread_out(wanted, gap)
    assert np.all(np.diff(places) >= gap - 1e-9)
    assert -1e-9 <= places[0] and places[-1] <= 1 + 1e-9


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5, unique=True).map(sorted))
def test_labels_that_do_not_overlap_stay(wanted):
    apart = [place for i, place in enumerate(wanted) if i == 0 or place - wanted[i - 1] > 0.05]
    apart = [place for i, place in enumerate(apart) if i == 0 or place - apart[i - 1] > 0.05]
    assert spread_out(apart, 0.05) == apart


@pytest.mark.parametrize("num_groups", [1, 8, 40])
def test_curves_of_many_groups_are_drawn(tmp_path, num_groups):
    variants = [f"v{i}:" for i in range(num_groups)]
    groups = groups_of(tmp_path, lambda point: [3.0, 2.0] * 5, variants=variants, grids=["fit.seed=0,1"])
    draw_curves(groups, tmp_path / "curves.png", reference=groups[0])
    with Image.open(tmp_path / "curves.png") as image:
        assert min(image.size) > 400


@pytest.mark.parametrize("num_groups", [2, 14])
def test_differences_from_a_reference_are_drawn(tmp_path, num_groups):
    variants = [f"v{i}:" for i in range(num_groups)]
    losses = {"v0": 2.0, "v1": 2.01, "v2": math.nan}
    groups = groups_of(
        tmp_path,
        lambda point: [losses.get(point.variant, 5.0) + 0.1 * point.values["fit.seed"]] * 10,
        variants=variants,
        grids=["fit.seed=0,1"],
    )
    draw_differences(groups, tmp_path / "differences.png", reference=groups[0])
    with Image.open(tmp_path / "differences.png") as image:
        assert min(image.size) > 400


def test_dependences_are_drawn(bowls, tmp_path):
    found = dependences(bowls)
    assert found is not None
    draw_dependences(*found, tmp_path / "rate.png")
    with Image.open(tmp_path / "rate.png") as image:
        assert min(image.size) > 400


def test_without_a_finished_point_nothing_is_drawn(tmp_path):
    groups = groups_of(tmp_path, lambda point: [1.0] * 10, failed=["trimodal_demo"])
    draw_curves(groups, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
