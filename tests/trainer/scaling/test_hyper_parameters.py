"""What each kind of parameter is given: base, kind's factors, shape, batch."""

import math

import pytest

from triptych.models.parameterization import KINDS, ShapeRatio
from triptych.trainer.optimizer import AdamWConfig, KindFactors
from triptych.trainer.scaling.config import ScalingConfig
from triptych.trainer.scaling.hyper_parameters import HyperParameters
from triptych.trainer.scaling.rules import completed_p, scale_adamw

BASE = AdamWConfig(peak_learning_rate=2e-3, betas=(0.9, 0.98), epsilon=1e-8, weight_decay=0.1)


SAME = ShapeRatio()


def values(optimizer=BASE, *, base_batch=16, total_tokens=1000, shape=SAME, **scaling):
    return HyperParameters(
        optimizer, ScalingConfig(**scaling), base_batch=base_batch, total_tokens=total_tokens, shape=shape
    )


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_logical_batch_nothing_changes(kind):
    assert values().step_values(16, 1.0)[kind] == BASE.values


def test_the_batch_and_the_horizon_make_kappa():
    scaled = values(base_tokens=250, gamma=0.5)
    assert scaled.kappa(16) == pytest.approx(0.5)
    assert scaled.logical_batch == pytest.approx(32)
    assert scaled.kappa(32) == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
def test_shape_and_batch_compose(kind):
    shape = ShapeRatio(width=4, depth=2)
    expected = scale_adamw(completed_p(kind, shape).applied(BASE.values), 4)
    given = values(shape=shape).step_values(64, 0.25)[kind]
    assert given.learning_rate == pytest.approx(expected.learning_rate * 0.25)
    assert given.betas == pytest.approx(expected.betas)
    assert given.epsilon == pytest.approx(expected.epsilon)
    assert given.weight_decay == pytest.approx(expected.weight_decay)


def test_a_kind_has_factors_of_its_own():
    own = AdamWConfig(
        peak_learning_rate=2e-3, kinds={"readout": KindFactors(learning_rate=0.5, epsilon=3.0, weight_decay=2.0)}
    )
    given = values(own).step_values(16, 1.0)
    assert given["readout"].learning_rate == pytest.approx(1e-3)
    assert given["readout"].epsilon == pytest.approx(3e-8)
    assert given["readout"].weight_decay == pytest.approx(0.2)
    assert given["embedding"].learning_rate == pytest.approx(2e-3)


@pytest.mark.parametrize("batch", [4, 16, 256])
def test_an_independent_decay_takes_the_same_share_per_token(batch):
    """lr * decay of a step over its number of sequences, whatever the batch and the learning rate."""
    for rate in (1e-3, 4e-3):
        config = AdamWConfig(peak_learning_rate=rate, weight_decay=1e-4, decay="independent")
        given = values(config).step_values(batch, 1.0)["matrix"]
        assert given.learning_rate * given.weight_decay / batch == pytest.approx(1e-4 / 16)


def test_a_schedule_at_zero_keeps_the_decay_finite():
    given = values(AdamWConfig(peak_learning_rate=0.0, decay="independent")).step_values(16, 0.0)["matrix"]
    assert (given.learning_rate, given.weight_decay) == (0.0, 0.0)


def test_clipping_follows_the_noise_unless_told_not_to():
    assert values().clipping(1.0, 64) == pytest.approx(0.5)
    assert values(clipping="fixed").clipping(1.0, 64) == 1.0


def test_the_second_moment_follows_the_noise_unless_told_not_to():
    assert values().second_moment_factor(16, 64) == 0.25
    assert values(second_moment="keep").second_moment_factor(16, 64) == 1.0


def test_without_a_rule_nothing_follows():
    given = values(rule="none", base_tokens=10)
    assert given.step_values(256, 1.0)["matrix"] == BASE.values
    assert (given.kappa(256), given.clipping(1.0, 256), given.second_moment_factor(16, 64)) == (1.0, 1.0, 1.0)
    assert given.logical_batch == 16


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"base_tokens": 0}, "base_tokens"), ({"gamma": math.inf}, "gamma"), ({"minimum_steps": 0}, "minimum_steps")],
)
def test_settings_that_mean_nothing_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ScalingConfig(**fields)


def test_kinds_of_equal_values_share_a_group():
    assert [sorted(group) for group in values().kind_groups] == [
        sorted({"embedding", "attention_in", "attention_out", "mlp_in", "mlp_out", "readout", "matrix"}),
        sorted({"norm", "query_key_norm", "final_norm", "attention_bias", "layer_scale", "vector"}),
    ]


def test_a_shape_takes_apart_what_it_scales_apart():
    groups = {frozenset(group) for group in values(shape=ShapeRatio(width=2, depth=2)).kind_groups}
    assert groups == {
        frozenset({"embedding"}),
        frozenset({"attention_in", "attention_out", "mlp_in", "mlp_out", "matrix"}),
        frozenset({"norm", "attention_bias", "layer_scale", "vector"}),
        frozenset({"query_key_norm", "final_norm"}),
        frozenset({"readout"}),
    }
