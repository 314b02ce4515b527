"""Guards: each speaks exactly past its limit, and the batch that it names mends."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.trainer.scaling.rules import AdamWValues, guards, scale_adamw

BETAS = st.floats(0.6, 0.9999)
ANY_BETAS = st.floats(0.05, 0.9999)
FORMS = st.sampled_from(["power", "linear"])
FACTORS = st.floats(0.05, 1e4)
JUST_UNDER, JUST_OVER = 1 - 1e-6, 1 + 1e-6


def values_with(beta1=0.0, beta2=0.0):
    return AdamWValues(learning_rate=1e-3, betas=(beta1, beta2), epsilon=1e-8, weight_decay=0.1)


def found(factor, *, beta1=0.0, beta2=0.0, form="power", steps=1000.0, **others):
    return guards(values_with(beta1, beta2), factor, form=form, steps=steps, **others)


def severities(findings):
    return [finding.severity for finding in findings]


def suggested(finding):
    match = re.search(r"lower fit\.physical_batch to at most (\S+) times the logical batch", finding.text)
    assert match, finding.text
    return float(match[1])


@given(BETAS)
def test_power_form_warns_where_a_moment_halves_in_one_step(beta):
    limit = math.log(2) / -math.log(beta)
    assert found(limit * JUST_UNDER, beta1=beta) == found(limit * JUST_UNDER, beta2=beta) == []
    (first,), (second,) = found(limit * JUST_OVER, beta1=beta), found(limit * JUST_OVER, beta2=beta)
    assert (first.severity, second.severity) == ("warning", "warning")
    assert first.text.startswith("beta1^kappa is 0.5")
    assert second.text.startswith("beta2^kappa is 0.5")


@given(BETAS)
def test_linear_form_warns_then_refuses(beta):
    half, end = 0.5 / (1 - beta), 1 / (1 - beta)
    assert found(half * JUST_UNDER, beta2=beta, form="linear") == []
    assert severities(found(half * JUST_OVER, beta2=beta, form="linear")) == ["warning"]
    assert severities(found(end * JUST_UNDER, beta2=beta, form="linear")) == ["warning"]
    assert severities(found(end * JUST_OVER, beta2=beta, form="linear")) == ["error"]


@pytest.mark.parametrize(("beta", "limit"), [(0.9, 10), (0.95, 20), (0.999, 1000)])
def test_linear_form_is_refused_from_the_round_number(beta, limit):
    (refusal,) = found(limit, beta1=beta, form="linear")
    assert refusal.severity == "error"
    assert f"is not below 1/(1-beta1) = {limit}, where" in refusal.text
    assert "set fit.scaling.betas=power" in refusal.text


@given(BETAS, BETAS, FACTORS)
def test_an_error_is_found_exactly_where_scaling_raises(beta1, beta2, factor):
    try:
        scale_adamw(values_with(beta1, beta2), factor, betas="linear")
    except ValueError:
        raises = True
    else:
        raises = False
    assert ("error" in severities(found(factor, beta1=beta1, beta2=beta2, form="linear"))) == raises


@pytest.mark.parametrize(("decay", "limit"), [(0.9999, 6931), (0.996, 173), (0.99, 69)])
def test_an_average_over_less_than_a_step(decay, limit):
    assert found(limit * 0.999 - 0.1, ema_decays=(decay,)) == []
    (warning,) = found(limit * 1.001 + 0.2, ema_decays=(decay,))
    assert f"the average's decay {decay}^kappa" in warning.text
    assert suggested(warning) == pytest.approx(limit, rel=0.01)


@given(st.floats(0.6, 0.99999))
def test_an_average_is_warned_of_exactly_past_its_limit(decay):
    limit = math.log(2) / -math.log(decay)
    assert found(limit * JUST_UNDER, ema_decays=(decay,)) == []
    assert severities(found(limit * JUST_OVER, ema_decays=(decay,))) == ["warning"]


@given(st.integers(1, 10**6))
def test_fewer_than_the_critical_steps(minimum):
    assert found(1.0, steps=float(minimum), minimum_steps=minimum) == []
    (warning,) = found(1.0, steps=minimum * JUST_UNDER, minimum_steps=minimum)
    assert f"{math.floor(minimum * JUST_UNDER)} steps are under the critical {minimum}" in warning.text


def test_no_critical_steps_no_warning():
    assert found(1.0, steps=1.0) == []


@given(ANY_BETAS, ANY_BETAS, FACTORS, FORMS)
def test_a_batch_that_is_named_for_a_moment_mends_it(beta1, beta2, factor, form):
    findings = found(factor, beta1=beta1, beta2=beta2, form=form)
    if findings:
        mended = min(suggested(finding) for finding in findings)
        assert mended < factor
        assert found(mended, beta1=beta1, beta2=beta2, form=form) == []


@given(st.floats(0.05, 0.99999), FACTORS)
def test_a_batch_that_is_named_for_an_average_mends_it(decay, factor):
    for finding in found(factor, ema_decays=(decay,)):
        assert suggested(finding) < factor
        assert found(suggested(finding), ema_decays=(decay,)) == []


@given(FACTORS, st.floats(1, 1e6), st.integers(1, 10**7))
def test_a_batch_that_is_named_for_the_steps_mends_them(factor, steps, minimum):
    for finding in found(factor, steps=steps, minimum_steps=minimum):
        mended = suggested(finding)
        assert mended < factor
        assert found(mended, steps=steps * factor / mended, minimum_steps=minimum) == []


@given(st.floats(0, 0.9999), st.floats(0, 0.9999), st.floats(0.01, 1), FORMS)
def test_nothing_is_said_of_betas_up_to_the_logical_batch(beta1, beta2, factor, form):
    assert found(factor, beta1=beta1, beta2=beta2, form=form) == []


def test_moments_that_are_off_are_not_judged():
    assert found(1000.0, form="linear", ema_decays=(0.0,)) == found(1000.0, form="power") == []
