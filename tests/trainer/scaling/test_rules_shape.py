"""Complete(d)P: every entry of the table, and what must hold of it."""

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.models.parameterization import KINDS, ShapeRatio
from triptych.trainer.scaling.rules import AdamWValues, Multipliers, completed_p, coupled_decay, decays, scale_adamw

RATIOS = st.floats(0.05, 20)
EXPONENTS = st.floats(0.5, 1)
SHAPES = st.builds(ShapeRatio, width=RATIOS, depth=RATIOS, depth_exponent=EXPONENTS)
BASE = AdamWValues(learning_rate=3e-4, betas=(0.9, 0.95), epsilon=1e-8, weight_decay=0.1)

# Width 4, depth 16, alpha 1/2: 16^(alpha - 1) = 1/4 and 16^-alpha = 1/4. Learning rate, epsilon, decay, initial std.
HIDDEN = (1 / 4 / 4, 1 / 4 / 4, 4, 1 / 2)
GAIN = (1 / 4, 1 / 4 / 4, 1, 1)
TABLE = {
    "embedding": (1, 1 / 4, 1, 1),
    "attention_in": HIDDEN,
    "attention_out": HIDDEN,
    "mlp_in": HIDDEN,
    "mlp_out": HIDDEN,
    "matrix": HIDDEN,
    "norm": GAIN,
    "vector": GAIN,
    "attention_bias": GAIN,
    "layer_scale": GAIN,
    "query_key_norm": (1 / 4, 1 / 4, 1, 1),
    "final_norm": (1, 1 / 4, 1, 1),
    "readout": (1 / 4, 1, 4, 1 / 4),
}
# The same at alpha 1, where depth leaves learning rates alone and 16^-alpha = 1/16.
HIDDEN_ALPHA_ONE = (1 / 4, 1 / 4 / 16, 4, 1 / 2)
GAIN_ALPHA_ONE = (1, 1 / 4 / 16, 1, 1)
TABLE_ALPHA_ONE = {
    **TABLE,
    **dict.fromkeys(("attention_in", "attention_out", "mlp_in", "mlp_out", "matrix"), HIDDEN_ALPHA_ONE),
    **dict.fromkeys(("norm", "attention_bias", "layer_scale", "vector"), GAIN_ALPHA_ONE),
    "query_key_norm": (1, 1 / 16, 1, 1),
}


def test_the_tables_here_have_every_kind():
    assert set(TABLE) == set(TABLE_ALPHA_ONE) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("alpha", "table"), [(0.5, TABLE), (1.0, TABLE_ALPHA_ONE)])
def test_table(kind, alpha, table):
    found = completed_p(kind, ShapeRatio(width=4.0, depth=16.0, depth_exponent=alpha))
    assert astuple(found) == pytest.approx(table[kind])


@given(st.sampled_from(KINDS), EXPONENTS)
def test_the_base_shape_changes_nothing(kind, alpha):
    assert completed_p(kind, ShapeRatio(width=1.0, depth=1.0, depth_exponent=alpha)) == Multipliers()


@given(st.sampled_from(KINDS), RATIOS, RATIOS, RATIOS, RATIOS, EXPONENTS)
def test_two_changes_of_shape_are_their_product(kind, width, depth, wider, deeper, alpha):
    one = completed_p(kind, ShapeRatio(width=width, depth=depth, depth_exponent=alpha))
    other = completed_p(kind, ShapeRatio(width=wider, depth=deeper, depth_exponent=alpha))
    both = completed_p(kind, ShapeRatio(width=width * wider, depth=depth * deeper, depth_exponent=alpha))
    assert [a * b for a, b in zip(astuple(one), astuple(other), strict=True)] == pytest.approx(astuple(both))


@given(st.sampled_from(KINDS), SHAPES)
def test_either_decay_takes_the_same_of_a_weight(kind, shape):
    """Learning rate times decay, per kind, for one run stated in the two ways."""
    multipliers = completed_p(kind, shape)
    coupled = multipliers.applied(BASE, "coupled")
    stated = AdamWValues(
        learning_rate=BASE.learning_rate,
        betas=BASE.betas,
        epsilon=BASE.epsilon,
        weight_decay=BASE.weight_decay * BASE.learning_rate,
    )
    independent = multipliers.applied(stated, "independent")
    given_to_torch = coupled_decay(independent.weight_decay, independent.learning_rate, "independent")
    expected = coupled.learning_rate * coupled.weight_decay
    assert independent.learning_rate * given_to_torch == pytest.approx(expected)
    assert independent.weight_decay == pytest.approx(expected)


@given(st.sampled_from(["attention_in", "attention_out", "mlp_in", "mlp_out", "matrix", "readout"]), RATIOS)
def test_width_leaves_what_decay_takes_of_a_matrix(kind, width):
    values = completed_p(kind, ShapeRatio(width=width)).applied(BASE)
    expected = BASE.learning_rate * BASE.weight_decay
    assert values.learning_rate * values.weight_decay == pytest.approx(expected)


@given(st.sampled_from(KINDS), SHAPES)
def test_betas_do_not_depend_on_shape(kind, shape):
    assert completed_p(kind, shape).applied(BASE).betas == BASE.betas


@given(st.sampled_from(KINDS), SHAPES, st.floats(0.05, 20), st.sampled_from(["coupled", "independent"]))
def test_batch_and_shape_in_either_order(kind, shape, factor, decay):
    multipliers = completed_p(kind, shape)
    batch_first = multipliers.applied(scale_adamw(BASE, factor, decay=decay), decay)
    shape_first = scale_adamw(multipliers.applied(BASE, decay), factor, decay=decay)
    assert batch_first.betas == shape_first.betas
    found = (batch_first.learning_rate, batch_first.epsilon, batch_first.weight_decay)
    assert found == pytest.approx((shape_first.learning_rate, shape_first.epsilon, shape_first.weight_decay))


def test_matrices_decay_and_gains_do_not():
    vectors = {"norm", "query_key_norm", "final_norm", "attention_bias", "layer_scale", "vector"}
    assert {kind for kind in KINDS if not decays(kind)} == vectors
