"""Hyper-parameters over batch and token horizon: worked examples, what is kept, how factors compose."""

import math
from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.trainer.scaling.rules import (
    COMPLETED_P_GAMMA,
    PAPER_GAMMA,
    AdamWValues,
    RMSPropValues,
    SGDValues,
    coupled_decay,
    kappa,
    logical_batch,
    scale_adamw,
    scale_beta,
    scale_rmsprop,
    scale_sgd,
    unscale_adamw,
    unscale_beta,
)

BASE = AdamWValues(learning_rate=3e-4, betas=(0.9, 0.95), epsilon=1e-8, weight_decay=0.1)

FACTORS = st.floats(0.01, 100)
SMALL_FACTORS = st.floats(0.05, 3)  # the linear form bears any product of two of them, at the betas below
BETAS = st.floats(0.9, 0.9999)
AMOUNTS = st.floats(1e-6, 1.0)
VALUES = st.builds(
    AdamWValues, learning_rate=AMOUNTS, betas=st.tuples(BETAS, BETAS), epsilon=AMOUNTS, weight_decay=AMOUNTS
)
RMSPROP_VALUES = st.builds(RMSPropValues, learning_rate=AMOUNTS, alpha=BETAS, epsilon=AMOUNTS, weight_decay=AMOUNTS)
SGD_VALUES = st.builds(SGDValues, learning_rate=AMOUNTS, momentum=BETAS, weight_decay=AMOUNTS)
BATCHES = st.floats(1, 1e6)
TOKENS = st.floats(1e6, 1e14)
GAMMAS = st.floats(0, 1)
DECAY_FORMS = st.sampled_from(["coupled", "independent"])


def numbers(values):
    """All fields in a row, betas unpacked."""
    flat = [field if isinstance(field, tuple) else (field,) for field in astuple(values)]
    return [number for field in flat for number in field]


def near(values, rel=1e-9):
    return pytest.approx(numbers(values), rel=rel)


# Three worked examples of arXiv 2602.21472's rule from B_base = 256 sequences, D_base = 13B tokens, betas 0.9 and 0.95.
WORKED = [
    # tokens, batch, kappa, lr x, beta1, beta2, epsilon x
    (13e9, 1024, 4, 2, 0.656, 0.815, 0.5),
    (130e9, 256, 0.363, 0.603, 0.9625, 0.9815, 1.66),
    (6.4e12, 8192, 2.09, 1.446, 0.802, 0.898, 0.691),
]


@pytest.mark.parametrize(("tokens", "batch", "factor", "rate", "beta1", "beta2", "epsilon"), WORKED)
def test_worked_examples(tokens, batch, factor, rate, beta1, beta2, epsilon):
    found = kappa(batch=batch, base_batch=256, tokens=tokens, base_tokens=13e9, gamma=PAPER_GAMMA)
    scaled = scale_adamw(BASE, found)
    assert found == pytest.approx(factor, rel=2e-3)
    assert scaled.learning_rate / BASE.learning_rate == pytest.approx(rate, rel=1e-3)
    assert scaled.betas == pytest.approx((beta1, beta2), abs=6e-4)
    assert scaled.epsilon / BASE.epsilon == pytest.approx(epsilon, rel=2e-3)


def test_logical_batch_of_the_long_run():
    found = logical_batch(base_batch=256, tokens=6.4e12, base_tokens=13e9, gamma=PAPER_GAMMA)
    assert found == pytest.approx(3916, abs=2)


@given(BATCHES, TOKENS, st.floats(0.01, 100))
def test_as_many_times_the_tokens_as_the_batch_changes_nothing_by_completed_p(batch, tokens, times):
    found = kappa(
        batch=batch * times,
        base_batch=batch,
        tokens=tokens * times,
        base_tokens=tokens,
        gamma=COMPLETED_P_GAMMA,
    )
    assert numbers(scale_adamw(BASE, found)) == near(BASE)


@pytest.mark.parametrize(("gamma", "power"), [(0.44, -0.22), (1.0, -0.5), (0.6, -0.3)])
def test_learning_rate_over_the_horizon_at_one_batch(gamma, power):
    longer = kappa(batch=256, base_batch=256, tokens=10.0, base_tokens=1.0, gamma=gamma)
    assert scale_adamw(BASE, longer).learning_rate / BASE.learning_rate == pytest.approx(10**power)


@given(BATCHES, TOKENS, TOKENS, GAMMAS)
def test_kappa_is_one_at_the_logical_batch(base_batch, tokens, base_tokens, gamma):
    logical = logical_batch(base_batch=base_batch, tokens=tokens, base_tokens=base_tokens, gamma=gamma)
    found = kappa(batch=logical, base_batch=base_batch, tokens=tokens, base_tokens=base_tokens, gamma=gamma)
    assert found == pytest.approx(1, rel=1e-12)


@given(BATCHES, BATCHES, TOKENS, TOKENS, GAMMAS)
def test_kappa_is_batch_over_logical_batch(batch, base_batch, tokens, base_tokens, gamma):
    logical = logical_batch(base_batch=base_batch, tokens=tokens, base_tokens=base_tokens, gamma=gamma)
    found = kappa(batch=batch, base_batch=base_batch, tokens=tokens, base_tokens=base_tokens, gamma=gamma)
    assert found == pytest.approx(batch / logical, rel=1e-12)


@pytest.mark.parametrize("wrong", ["batch", "base_batch", "tokens", "base_tokens"])
def test_amounts_must_be_positive(wrong):
    amounts = {"batch": 1.0, "base_batch": 1.0, "tokens": 1.0, "base_tokens": 1.0, wrong: 0.0}
    with pytest.raises(ValueError, match="above 0"):
        kappa(**amounts, gamma=1.0)


@given(VALUES, st.sampled_from(["power", "linear"]), DECAY_FORMS)
def test_kappa_one_leaves_adamw(values, form, decay):
    assert numbers(scale_adamw(values, 1.0, betas=form, decay=decay)) == near(values, rel=1e-15)


@given(RMSPROP_VALUES, st.sampled_from(["power", "linear"]))
def test_kappa_one_leaves_rmsprop(values, form):
    assert numbers(scale_rmsprop(values, 1.0, betas=form)) == near(values, rel=1e-15)


@given(SGD_VALUES)
def test_kappa_one_leaves_sgd(values):
    assert scale_sgd(values, 1.0) == values


@given(VALUES, FACTORS, DECAY_FORMS)
def test_there_and_back_in_the_power_form(values, factor, decay):
    there = scale_adamw(values, factor, decay=decay)
    assert numbers(unscale_adamw(there, factor, decay=decay)) == near(values)
    assert numbers(scale_adamw(there, 1 / factor, decay=decay)) == near(values)


@given(VALUES, SMALL_FACTORS, DECAY_FORMS)
def test_there_and_back_in_the_linear_form(values, factor, decay):
    there = scale_adamw(values, factor, betas="linear", decay=decay)
    assert numbers(unscale_adamw(there, factor, betas="linear", decay=decay)) == near(values)


@given(VALUES, FACTORS, FACTORS, DECAY_FORMS)
def test_two_factors_are_their_product_in_the_power_form(values, one, other, decay):
    both = scale_adamw(scale_adamw(values, one, decay=decay), other, decay=decay)
    assert numbers(both) == near(scale_adamw(values, one * other, decay=decay))


@given(VALUES, SMALL_FACTORS, SMALL_FACTORS)
def test_two_factors_are_their_product_in_the_linear_form(values, one, other):
    both = scale_adamw(scale_adamw(values, one, betas="linear"), other, betas="linear")
    assert numbers(both) == near(scale_adamw(values, one * other, betas="linear"))


@given(RMSPROP_VALUES, FACTORS, FACTORS)
def test_two_factors_are_their_product_for_rmsprop(values, one, other):
    assert numbers(scale_rmsprop(scale_rmsprop(values, one), other)) == near(scale_rmsprop(values, one * other))


@given(SGD_VALUES, FACTORS, FACTORS)
def test_two_factors_are_their_product_for_sgd(values, one, other):
    assert numbers(scale_sgd(scale_sgd(values, one), other)) == near(scale_sgd(values, one * other))


@given(VALUES, SMALL_FACTORS)
def test_linear_betas_keep_their_window_in_the_equations_time(values, factor):
    """(1 - beta) / lr^2, exactly."""
    scaled = scale_adamw(values, factor, betas="linear")
    windows = [(1 - beta) / scaled.learning_rate**2 for beta in scaled.betas]
    assert windows == pytest.approx([(1 - beta) / values.learning_rate**2 for beta in values.betas], rel=1e-9)


@given(VALUES, FACTORS)
def test_power_betas_keep_their_half_life_in_samples(values, factor):
    scaled = scale_adamw(values, factor)
    half_lives = [-factor / math.log(beta) for beta in scaled.betas]
    assert half_lives == pytest.approx([-1 / math.log(beta) for beta in values.betas], rel=1e-9)


@given(st.floats(0.9, 0.99999), st.floats(0.1, 10))
def test_the_two_forms_differ_at_second_order(beta, factor):
    rest = 1 - beta
    off = scale_beta(beta, factor) - (1 - factor * rest)
    assert abs(off) <= factor * abs(factor - 1) * rest**2 + 1e-12


@given(VALUES, FACTORS)
def test_epsilon_keeps_its_ratio_to_the_noise(values, factor):
    """Noise goes with 1/sqrt(kappa), so epsilon times the learning rate stays, too."""
    scaled = scale_adamw(values, factor)
    assert scaled.epsilon * scaled.learning_rate == pytest.approx(values.epsilon * values.learning_rate)
    assert scaled.epsilon / factor**-0.5 == pytest.approx(values.epsilon)


@given(VALUES, FACTORS)
def test_coupled_decay_of_a_step_goes_with_kappa(values, factor):
    scaled = scale_adamw(values, factor)
    step = scaled.learning_rate * scaled.weight_decay
    assert step == pytest.approx(factor * values.learning_rate * values.weight_decay)


@given(VALUES, FACTORS)
def test_independent_decay_of_a_step_goes_with_kappa(values, factor):
    scaled = scale_adamw(values, factor, decay="independent")
    given_to_torch = coupled_decay(scaled.weight_decay, scaled.learning_rate, "independent")
    assert scaled.learning_rate * given_to_torch == pytest.approx(factor * values.weight_decay)


@given(VALUES, FACTORS)
def test_one_run_stated_with_either_decay_scales_alike(values, factor):
    independent = AdamWValues(
        learning_rate=values.learning_rate,
        betas=values.betas,
        epsilon=values.epsilon,
        weight_decay=values.weight_decay * values.learning_rate,
    )
    scaled = scale_adamw(independent, factor, decay="independent")
    found = coupled_decay(scaled.weight_decay, scaled.learning_rate, "independent")
    assert found == pytest.approx(scale_adamw(values, factor).weight_decay)


def test_independent_decay_without_a_learning_rate_is_none():
    assert coupled_decay(0.1, 0.0, "independent") == 0.0


@given(RMSPROP_VALUES, FACTORS)
def test_rmsprop_decay_over_the_same_samples_stays(values, factor):
    """torch adds it to the gradient, so a step takes lr * decay / noise of it, and there are 1/kappa of the steps."""
    scaled = scale_rmsprop(values, factor)
    noise, steps = factor**-0.5, 1 / factor
    found = steps * scaled.learning_rate * scaled.weight_decay / noise
    assert found == pytest.approx(values.learning_rate * values.weight_decay)


@given(RMSPROP_VALUES, FACTORS)
def test_rmsprop_is_adamw_without_a_first_moment(values, factor):
    like = AdamWValues(
        learning_rate=values.learning_rate, betas=(0.0, values.alpha), epsilon=values.epsilon, weight_decay=0.0
    )
    scaled, expected = scale_rmsprop(values, factor), scale_adamw(like, factor)
    found = (scaled.learning_rate, scaled.alpha, scaled.epsilon)
    assert found == (expected.learning_rate, expected.betas[1], expected.epsilon)


@given(SGD_VALUES, FACTORS)
def test_sgd_is_the_linear_rule(values, factor):
    scaled = scale_sgd(values, factor)
    assert scaled.learning_rate == pytest.approx(factor * values.learning_rate)
    assert (scaled.momentum, scaled.weight_decay) == (values.momentum, values.weight_decay)


@given(BETAS, st.floats(1.0, 100.0))
def test_linear_form_raises_past_its_limit(beta, times):
    with pytest.raises(ValueError, match=r"lower fit\.physical_batch, or set fit\.scaling\.betas=power"):
        scale_beta(beta, times / (1 - beta), "linear")


@given(BETAS, st.floats(0.01, 0.999))
def test_linear_form_is_a_decay_below_its_limit(beta, times):
    assert 0 < scale_beta(beta, times / (1 - beta), "linear") < 1


@pytest.mark.parametrize(("beta", "limit"), [(0.9, 10), (0.95, 20), (0.999, 1000)])
def test_linear_form_ends_at_the_round_number(beta, limit):
    assert scale_beta(beta, limit * 0.999, "linear") > 0
    with pytest.raises(ValueError, match=f"only below {limit} times"):
        scale_beta(beta, limit, "linear")


def test_linear_form_raises_for_adamw_in_either_direction():
    with pytest.raises(ValueError, match=r"beta 0\.9 has no linear form at 12 times"):
        scale_adamw(BASE, 12.0, betas="linear")
    with pytest.raises(ValueError, match=r"beta 0\.9 has no linear form at 12\.5 times"):
        unscale_adamw(BASE, 0.08, betas="linear")


@given(BETAS, FACTORS)
def test_power_form_never_leaves_its_range(beta, factor):
    assert 0 < scale_beta(beta, factor) < 1


@given(BETAS, SMALL_FACTORS, st.sampled_from(["power", "linear"]))
def test_a_beta_comes_back(beta, factor, form):
    assert unscale_beta(scale_beta(beta, factor, form), factor, form) == pytest.approx(beta, rel=1e-9)


@given(FACTORS, st.sampled_from(["power", "linear"]))
def test_no_moment_stays_none(factor, form):
    assert scale_beta(0.0, factor, form) == unscale_beta(0.0, factor, form) == 0.0
