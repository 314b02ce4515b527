"""The policy by itself: what is a spike, which remedy wins, and that it goes on from where it stood."""

from dataclasses import replace

import pytest

from triptych.trainer.health.config import HealthConfig
from triptych.trainer.health.policy import HealthPolicy
from triptych.trainer.health.window import Window

CONFIG = HealthConfig(loss_spike="skip", gradient_spike="stop", spike_deviations=5.0, window_steps=8)
USUAL = [1.0, 1.1, 0.9, 1.05, 0.95, 1.02]


def judged(policy, values, *, gradient_norm=1.0, not_finite=None):
    """The remedy for each of these losses."""
    troubles = [
        policy.judge(step=1, loss=value, gradient_norm=gradient_norm, not_finite=not_finite) for value in values
    ]
    return [None if trouble is None else trouble.remedy for trouble in troubles]


def test_deviations_are_those_of_a_normal_distribution_however_wild_some_values_are():
    window = Window(8, [0.0, 1.0, 2.0, 3.0, 4.0, 1e9, -1e9])
    assert window.deviations(2.0 + 1.4826 * 2) == pytest.approx(1.0)


def test_too_few_values_judge_nothing():
    assert Window(8, [1.0]).deviations(1e9) == 0.0


def test_a_value_that_never_moves_still_has_a_spread():
    assert Window(8, [2.0] * 8).deviations(2.2) == pytest.approx(10.0)


def test_a_spike_is_high_never_low():
    assert judged(HealthPolicy(CONFIG), [*USUAL, 9.0, -9.0]) == [None] * 6 + ["skip", None]


def test_what_was_skipped_is_no_measure_for_what_comes():
    policy = HealthPolicy(CONFIG)
    judged(policy, USUAL)
    assert judged(policy, [9.0] * 4) == ["skip", "skip", "skip", "stop"]


def test_what_was_noted_is():
    policy = HealthPolicy(replace(CONFIG, loss_spike="note"))
    judged(policy, USUAL)
    assert judged(policy, [9.0] * 8)[-1] is None


def test_skips_count_in_a_row():
    policy = HealthPolicy(CONFIG)
    assert judged(policy, [*USUAL, *[9.0, 1.0] * 6]).count("stop") == 0


def test_the_graver_remedy_wins():
    policy = HealthPolicy(CONFIG)
    judged(policy, USUAL)
    assert judged(policy, [9.0], gradient_norm=50.0) == ["stop"]


def test_what_is_not_finite_is_no_spike():
    policy = HealthPolicy(CONFIG)
    trouble = policy.judge(step=1, loss=float("nan"), gradient_norm=float("inf"), not_finite="the loss of rank 1")
    assert trouble is not None and (trouble.kind, trouble.remedy) == ("not_finite", "skip")


def test_it_goes_on_from_its_document():
    whole, first, second = (HealthPolicy(CONFIG) for _ in range(3))
    values = [*USUAL, 9.0, 9.0, 9.0, 9.0]
    expected = judged(whole, values)
    found = judged(first, values[:8])
    second.restore(first.document())
    assert found + judged(second, values[8:]) == expected
    assert second.document() == whole.document()


@pytest.mark.parametrize(
    ("name", "value"), [("spike_deviations", 0.0), ("window_steps", 7), ("rollback_checkpoints", 0)]
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"fit\.health\.{name} is .*; set it "):
        HealthConfig(**{name: value})
