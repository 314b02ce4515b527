"""The average under Adam with fewer replicas: the rule keeps it, each other rule moves it as in the reference."""

import pytest

from triptych.trainer.scaling.study.adam_ema import (
    DECAY_FIXED,
    EXPECTED,
    KAPPAS,
    LINEAR,
    RULED,
    Mean,
    measure,
    table_rows,
)

BOUND = 0.004
"""4 standard errors of 500 replicas under the rule (0.0007 each) and the reference's own sampling (0.0005)."""


@pytest.fixture(scope="module")
def results():
    return measure(num_replicas=500, seed=1)


@pytest.mark.parametrize("name", [RULED, DECAY_FIXED, LINEAR])
def test_averages_are_those_of_the_reference(results, name):
    assert [each.mean for each in results[name]] == pytest.approx(EXPECTED[name], abs=BOUND + 0.003 * (name == LINEAR))


def test_the_rule_keeps_the_average(results):
    (base,) = results["kappa 1"]
    assert [each.mean for each in results[RULED]] == pytest.approx([base.mean] * len(KAPPAS), abs=0.0075 + BOUND)


@pytest.mark.parametrize(("name", "sign"), [(DECAY_FIXED, 1), (LINEAR, -1)])
def test_every_other_rule_moves_it(results, name, sign):
    (base,) = results["kappa 1"]
    moved = [sign * (each.mean - base.mean) for each in results[name]]
    assert moved[0] > 0.0075 + BOUND
    assert moved == sorted(moved)


def test_the_table_has_a_row_for_every_number():
    means = {name: [Mean(mean=value, error=1.0) for value in values] for name, values in EXPECTED.items()}
    rows = table_rows(means)
    assert len(rows) == 10
    assert {row[-1] for row in rows} == {"+0.0"}
