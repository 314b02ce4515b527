"""Temperature, nucleus, confidence and guidance, one law at a time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from triptych.models.diffusion.sampling.drawing import draw, nucleus
from triptych.models.diffusion.sampling.guidance import guide

LOGITS = torch.tensor([[1.5, -0.5, 0.7, 0.0, -2.0]], dtype=torch.float64)
GRID = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000


def frequencies(temperature, top_p):
    """Exact to 1/10000: the draws run over a grid."""
    ids_R, _ = draw(LOGITS.expand(len(GRID), -1), GRID, temperature, top_p)
    return torch.bincount(ids_R, minlength=LOGITS.shape[1]).double() / len(GRID)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_frequencies_are_the_tempered_softmax(temperature):
    expected = torch.softmax(LOGITS[0] / temperature, 0)
    torch.testing.assert_close(frequencies(temperature, 1.0), expected, rtol=0, atol=2e-4)


def test_frequencies_in_the_nucleus_are_renormalized():
    probabilities = torch.softmax(LOGITS[0], 0)
    kept = torch.tensor([True, False, True, True, False])  # 0.54 + 0.24 < 0.8 <= 0.54 + 0.24 + 0.12
    expected = probabilities * kept / probabilities[kept].sum()
    torch.testing.assert_close(frequencies(1.0, 0.8), expected, rtol=0, atol=2e-4)


@given(seed=st.integers(0, 10_000), top_p=st.floats(0.01, 1.0), num_ids=st.integers(1, 12))
def test_nucleus_is_the_smallest_set_of_likeliest_ids_with_the_mass(seed, top_p, num_ids):
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.softmax(3 * torch.randn(1, num_ids, generator=generator, dtype=torch.float64), 1)
    kept = nucleus(probabilities, top_p)[0]
    inside = probabilities[0][kept > 0]
    assert torch.equal(kept[kept > 0], inside)
    assert inside.sum() >= top_p - 1e-12
    assert inside.sum() - inside.min() < top_p
    assert len(inside) == num_ids or inside.min() >= probabilities[0][kept == 0].max()


def test_tiny_nucleus_keeps_the_likeliest_alone():
    assert torch.equal(
        nucleus(torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64), 1e-9) > 0, LOGITS.new_tensor([[0, 1, 0]]) > 0
    )


def test_nucleus_stops_where_its_mass_is_reached_exactly():
    kept = nucleus(torch.tensor([[0.25, 0.5, 0.25]], dtype=torch.float64), 0.5)
    assert kept.tolist() == [[0.0, 0.5, 0.0]]


def test_extreme_draws_stay_on_ids_of_positive_probability():
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).expand(2, -1)
    ids_R, _ = draw(logits, torch.tensor([2.0**-53, 1 - 2.0**-53], dtype=torch.float64), 1.0, 1.0)
    assert ids_R.tolist() == [1, 2]


def test_temperature_zero_takes_the_likeliest():
    ids_R, _ = draw(LOGITS.expand(len(GRID), -1), GRID, 0.0, 1.0)
    assert not ids_R.any()


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (0.3, 1.0), (2.0, 0.5)])
def test_confidence_is_the_models_own_at_temperature_one(temperature, top_p):
    ids_R, confidences_R = draw(LOGITS.expand(len(GRID), -1), GRID, temperature, top_p)
    torch.testing.assert_close(confidences_R, torch.log_softmax(LOGITS[0], 0)[ids_R])


def test_guidance_at_zero_is_conditional_and_at_minus_one_unconditional():
    conditional, unconditional = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)).unbind()
    torch.testing.assert_close(guide(conditional, unconditional, 0.0), conditional.double())
    torch.testing.assert_close(guide(conditional, unconditional, -1.0), unconditional.double())


@given(strength=st.floats(-1, 10))
def test_guidance_equals_the_other_convention_and_ignores_constants(strength):
    conditional, unconditional = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)).double().unbind()
    guided = guide(conditional, unconditional, strength)
    torch.testing.assert_close(guided, (1 + strength) * conditional - strength * unconditional)
    shifted = guide(conditional + 3, unconditional - 5, strength)
    torch.testing.assert_close(torch.softmax(shifted, 1), torch.softmax(guided, 1))
