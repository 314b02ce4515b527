"""The emulation of batched sigma: right where it is meant to be, wrong where it is known to be."""

import math

import numpy as np
import pytest

from triptych.kernels.flash_sigmoid.bench.sigma_accuracy import (
    Instructions,
    exponents,
    logits,
    relative_errors,
    sigma,
    sigma_by_tanh,
)

BIAS = -math.log(16384)
X = logits()[: 1 << 16]


@pytest.mark.parametrize("num_together", [1, 2, 4])
@pytest.mark.parametrize("errors", [None, 1])
def test_sigma_is_accurate_however_small(num_together, errors):
    instructions = Instructions(errors=None if errors is None else np.random.default_rng(errors))
    found = relative_errors(sigma(exponents(X, BIAS), instructions, num_together), X)
    assert np.abs(found).max() < 4e-6


@pytest.mark.parametrize("num_together", [1, 2, 4])
def test_sigma_has_no_bias_that_would_add_up(num_together):
    found = relative_errors(sigma(exponents(X, BIAS), Instructions(), num_together), X)
    assert abs(found.mean()) < 2e-7


def test_the_clamp_is_a_floor():
    assert sigma(np.full(4, 40, np.float32), Instructions(), 4) == pytest.approx(2.0**-30)


def test_without_the_clamp_a_group_would_overflow():
    y = np.full(4, 33, np.float32)
    d = 1 + np.exp2(y)
    with np.errstate(over="ignore"):
        assert np.isinf(np.prod(d, dtype=np.float32))


def test_nan_reaches_its_group_alone():
    y = np.zeros(8, np.float32)
    y[1] = np.nan
    assert np.isnan(sigma(y, Instructions(), 4)).tolist() == [True] * 4 + [False] * 4


def test_tanh_is_off_where_sigma_is_small():
    x = np.array([-math.log(131072)], np.float32)
    assert abs(relative_errors(sigma_by_tanh(x, 1.113e-5), x)[0]) == pytest.approx(0.73, abs=0.01)
