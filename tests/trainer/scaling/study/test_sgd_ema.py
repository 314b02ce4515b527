"""The exact drift of the average under SGD: every number of the table that the reference prints."""

import math

import numpy as np
import pytest

from triptych.trainer.scaling.study.sgd_ema import ROWS, num_samples, recursion, with_and_without

PRINTED = {
    (1e-4, 0.9999, 8): ("2.1e-4", "1.000", "0.600", "0.18"),
    (1e-4, 0.9999, 64): ("1.9e-3", "1.002", "0.907", "0.006"),
    (1e-4, 0.9999, 512): ("1.5e-2", "1.014", "0.983", "0.000"),
    (1e-4, 0.9999, 1024): ("3.0e-2", "1.029", "0.990", "0.000"),
    (1e-3, 0.99, 8): ("3.3e-3", "1.003", "0.282", "0.61"),
    (1e-3, 0.99, 64): ("2.8e-2", "1.037", "0.690", "0.13"),
    (1e-3, 0.99, 512): ("0.173", "1.468", "0.913", "0.005"),
    (1e-2, 0.99, 8): ("2.1e-2", "1.019", "0.594", "0.20"),
    (1e-2, 0.99, 64): ("0.202", "1.335", "0.898", "0.008"),
}


def units_off(value, printed):
    """Distance in units of the last digit printed; rounding makes it at most a half."""
    digits, _, power = printed.partition("e")
    return abs(value - float(printed)) / 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))


def test_the_study_has_the_rows_of_the_table():
    assert set(ROWS) == set(PRINTED)


@pytest.mark.parametrize(("row", "printed"), PRINTED.items())
def test_every_digit_of_a_row(row, printed):
    """0.505: one number, 0.0018497, was rounded to 1.9e-3 in two steps."""
    ruled, fixed = with_and_without(*row)
    found = (ruled.zeta, ruled.variance_ratio, fixed.zeta, fixed.variance_ratio)
    assert [units_off(*pair) for pair in zip(found, printed, strict=True)] == pytest.approx([0] * 4, abs=0.505)


def test_a_last_digit_that_is_wrong_is_found():
    assert units_off(0.173, "0.174") == pytest.approx(1)
    assert units_off(2.1e-4, "2.2e-4") == pytest.approx(1)


def test_the_drift_of_theta_itself_in_the_last_row():
    ruled, _ = with_and_without(*ROWS[-1])
    assert units_off(ruled.theta, "0.166") < 0.5


def test_the_recursion_is_that_of_sampled_runs():
    """Means and variance over 40,000 sampled averages, within 4 standard errors."""
    learning_rate, decay, kappa, steps, runs = 0.1, 0.8, 4, 20, 40_000
    generator = np.random.default_rng(0)
    theta, zeta = np.ones(runs), np.ones(runs)
    for _ in range(steps):
        theta -= learning_rate * (theta + generator.standard_normal(runs) / math.sqrt(kappa))
        zeta = decay * zeta + (1 - decay) * theta
    *_, exact = recursion(learning_rate, decay, kappa, steps)
    assert abs(zeta.mean() - exact.zeta) < 4 * zeta.std() / math.sqrt(runs)
    assert abs(zeta.var() / exact.zeta_variance - 1) < 4 * math.sqrt(2 / runs)


def test_lengths_are_whole_multiples_of_every_kappa():
    assert [num_samples(learning_rate) % kappa for learning_rate, _, kappa in ROWS] == [0] * len(ROWS)
