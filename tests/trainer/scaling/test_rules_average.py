"""An average of weights over batches: the table of rho^kappa, half-life in tokens, the error against small steps."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.trainer.scaling.rules import ema_decay, ema_half_life, scale_ema_decay

DECAYS = st.floats(0.5, 0.99999)
FACTORS = st.floats(0.01, 100)

FACTORS_OF_TABLE = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 6, 8, 16, 24, 32)
# rho^kappa to six digits; 6 is BYOL from a batch of 4,096 to 24,576 (arXiv 2307.13813).
MOMENTUM_TABLE = {
    0.9999: (0.999987, 0.999975, 0.99995, 0.9999, 0.9998, 0.9996, 0.9994, 0.9992, 0.998401, 0.997603, 0.996805),
    0.9995: (0.999937, 0.999875, 0.99975, 0.9995, 0.9990, 0.998001, 0.997004, 0.996007, 0.99203, 0.988069, 0.984123),
    0.999: (0.999875, 0.99975, 0.9995, 0.999, 0.998001, 0.996006, 0.994015, 0.992028, 0.984119, 0.976274, 0.968491),
    0.996: (0.999499, 0.998998, 0.997998, 0.996, 0.992016, 0.984096, 0.976239, 0.968444, 0.937885, 0.908289, 0.879628),
    0.99: (0.998744, 0.997491, 0.994987, 0.99, 0.9801, 0.960596, 0.94148, 0.922745, 0.851458, 0.785678, 0.72498),
}

# delta / eta: how far the average of kappa small steps ends from that of one large step, in a constant gradient.
STEPS_OF_TABLE = (2, 8, 64, 512)
DELTA_TABLE = {
    0.9: (-0.1, -2.305, -54.0, -502),
    0.99: (-0.01, -0.2745, -16.56, -412.6),
    0.996: (-0.004, -0.1111, -7.436, -294.1),
    0.999: (-0.001, -0.02794, -1.975, -111.1),
    0.9999: (-1e-4, -0.0028, -0.2012, -12.86),
}


@pytest.mark.parametrize("decay", MOMENTUM_TABLE)
def test_momentum_table(decay):
    found = [scale_ema_decay(decay, factor) for factor in FACTORS_OF_TABLE]
    assert found == pytest.approx(MOMENTUM_TABLE[decay], abs=1.1e-6)


@given(DECAYS)
def test_kappa_one_leaves_an_average(decay):
    assert scale_ema_decay(decay, 1.0) == decay


@given(DECAYS, FACTORS, FACTORS)
def test_two_factors_are_their_product(decay, one, other):
    both = scale_ema_decay(scale_ema_decay(decay, one), other)
    assert both == pytest.approx(scale_ema_decay(decay, one * other), rel=1e-9, abs=1e-300)


@given(DECAYS, st.floats(0.01, 10))
def test_there_and_back(decay, factor):
    assert scale_ema_decay(scale_ema_decay(decay, factor), 1 / factor) == pytest.approx(decay, rel=1e-9)


@given(DECAYS, st.floats(0.05, 20), st.floats(1, 1e7))
def test_half_life_in_tokens_stays(decay, factor, batch):
    scaled = scale_ema_decay(decay, factor)
    assert ema_half_life(scaled, batch * factor) == pytest.approx(ema_half_life(decay, batch), rel=1e-9)


@given(st.floats(1e3, 1e9), st.floats(1, 1e4))
def test_decay_is_the_inverse_of_half_life(half_life, amount):
    assert ema_half_life(ema_decay(half_life, amount), amount) == pytest.approx(half_life, rel=1e-6)


@given(st.floats(1e3, 1e9), st.lists(st.floats(1, 1e5), min_size=1, max_size=8))
def test_uneven_steps_decay_as_their_sum(half_life, amounts):
    one_by_one = math.prod(ema_decay(half_life, amount) for amount in amounts)
    assert one_by_one == pytest.approx(ema_decay(half_life, sum(amounts)), rel=1e-9, abs=1e-300)


def test_after_a_half_life_half_is_left():
    assert ema_decay(1000.0, 1000.0) == 0.5


def after_small_steps(weights, average, *, gradient, rate, decay, num_steps, reads_before):
    for _ in range(num_steps):
        updated = weights - rate * gradient
        average = decay * average + (1 - decay) * (weights if reads_before else updated)
        weights = updated
    return average


def after_one_large_step(weights, average, *, gradient, rate, decay, num_steps, reads_before):
    scaled = scale_ema_decay(decay, num_steps)
    return scaled * average + (1 - scaled) * (weights if reads_before else weights - num_steps * rate * gradient)


def gap(**settings):
    return after_small_steps(0.7, -0.4, **settings) - after_one_large_step(0.7, -0.4, **settings)


def delta_by_formula(decay, num_steps):
    return -(num_steps - (1 - decay**num_steps) / (1 - decay))


@given(st.floats(0.5, 0.9999), st.integers(1, 64), st.floats(1e-4, 0.1), st.floats(-3, 3))
def test_small_steps_end_delta_times_the_gradient_away(decay, num_steps, rate, gradient):
    found = gap(gradient=gradient, rate=rate, decay=decay, num_steps=num_steps, reads_before=True)
    assert found == pytest.approx(rate * gradient * delta_by_formula(decay, num_steps), rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("decay", DELTA_TABLE)
def test_delta_table(decay):
    found = [gap(gradient=1.0, rate=1.0, decay=decay, num_steps=n, reads_before=True) for n in STEPS_OF_TABLE]
    assert found == pytest.approx(DELTA_TABLE[decay], rel=1e-3)


@given(st.floats(0.99, 0.9999), st.integers(2, 8))
def test_reading_after_the_update_turns_the_sign(decay, num_steps):
    settings = {"gradient": 1.0, "rate": 1.0, "decay": decay, "num_steps": num_steps}
    first_order = (1 - decay) * num_steps * (num_steps - 1) / 2
    assert gap(**settings, reads_before=True) == pytest.approx(-first_order, rel=0.1)
    assert gap(**settings, reads_before=False) == pytest.approx(first_order, rel=0.1)
