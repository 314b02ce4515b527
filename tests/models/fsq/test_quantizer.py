import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from triptych.models.fsq.quantizer import FiniteScalarQuantizer

LEVELS = [(3,), (4,), (5, 4), (8, 5, 5), (8, 8), (7, 3, 4, 6)]


def _all_codes(quantizer: FiniteScalarQuantizer) -> torch.Tensor:
    return torch.arange(quantizer.num_codes)


@pytest.mark.parametrize("levels", LEVELS)
def test_the_code_book_has_the_product_of_the_levels(levels):
    quantizer = FiniteScalarQuantizer(levels)
    points = quantizer.values(_all_codes(quantizer))
    assert len(points.unique(dim=0)) == quantizer.num_codes == math.prod(levels)


@pytest.mark.parametrize("levels", LEVELS)
def test_every_code_is_reached_from_its_own_cell(levels):
    """Inverts the bound exactly: a raw point in the middle of a cell comes back as that cell's code."""
    quantizer = FiniteScalarQuantizer(levels).double()
    values = quantizer.values(_all_codes(quantizer), torch.float64)
    level = torch.tensor(levels, dtype=torch.float64)
    half, offset = (level - 1) * (1 - 1e-3) / 2, torch.where(level % 2 == 0, 0.5, 0.0)
    integers = values * (level // 2)
    inside = ((integers + offset) / half).clamp(-0.9999, 0.9999)
    raw = torch.atanh(inside) - torch.atanh(offset / half)
    assert torch.equal(quantizer(raw).codes, _all_codes(quantizer))


@pytest.mark.parametrize("level", [3, 4, 5, 8])
def test_extremes_give_exactly_the_outermost_levels(level):
    quantizer = FiniteScalarQuantizer((level,))
    raw = torch.linspace(-20, 20, 4001)[:, None]
    integers = (quantizer(raw).values * (level // 2)).round().long().unique().tolist()
    assert integers == list(range(-(level // 2), (level - 1) // 2 + 1))


@pytest.mark.parametrize("levels", LEVELS)
def test_zero_stays_zero(levels):
    raw = torch.zeros(len(levels), dtype=torch.float64)
    assert FiniteScalarQuantizer(levels).bound(raw).abs().max() < 1e-12


@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from(LEVELS))
def test_codes_and_values_agree(seed, levels):
    quantizer = FiniteScalarQuantizer(levels)
    raw = torch.randn(2, 7, len(levels), generator=torch.Generator().manual_seed(seed)) * 3
    quantized = quantizer(raw)
    torch.testing.assert_close(quantizer.values(quantized.codes), quantized.values, rtol=0, atol=1e-6)


def test_a_code_is_a_number_with_the_first_dimension_fastest():
    codes = torch.tensor([0, 1, 7, 8, 39])
    digits = torch.tensor([[0, 0], [1, 0], [7, 0], [0, 1], [7, 4]])
    expected = (digits - torch.tensor([4, 2])) / torch.tensor([4, 2])
    assert torch.equal(FiniteScalarQuantizer((8, 5)).values(codes), expected)


def test_the_gradient_is_that_of_the_bound():
    quantizer = FiniteScalarQuantizer((8, 5))
    raw = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    (through,) = torch.autograd.grad(quantizer(raw).values.sum(), raw)
    (plain,) = torch.autograd.grad((quantizer.bound(raw) / torch.tensor([4, 2])).sum(), raw)
    assert torch.equal(through, plain)


@pytest.mark.parametrize("levels", [(), (2, 5)])
def test_too_few_levels_are_refused(levels):
    with pytest.raises(ValueError, match="levels"):
        FiniteScalarQuantizer(levels)
