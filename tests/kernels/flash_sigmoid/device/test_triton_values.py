"""The kernels in Triton's interpreter against the oracle: O and every gradient, of every mask, shape and type."""

import pytest
import torch

pytest.importorskip("triton")

from interpreted import launcher
from interpreted_cases import Case, tolerance

from triptych.kernels.flash_sigmoid.problem import CAUSAL, Band

BOTH = ("top_left", "bottom_right")
SLOPES_H = torch.tensor([0.5, 0.03])
SLOPES_BH = torch.tensor([[0.5, 0.03], [0.2, 0.1]])


def assert_right(case, tensors=None):
    errors = case.errors(tensors)
    assert all(error < tolerance(case.dtype) for error in errors.values()), errors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("band", [Band(), CAUSAL], ids=["full", "causal"])
def test_types(dtype, band):
    assert_right(Case(dtype=dtype, band=band, head_dim=24, groups=1, queries=40, keys=50))


@pytest.mark.parametrize(
    "band",
    [
        *(Band(left=left, right=right) for left, right in [(0, 0), (5, 0), (7, 3), (40, -1), (-1, 6), (999, 999)]),
        *(Band(right=0, alignment=alignment) for alignment in BOTH),
        *(Band(left=9, right=4, alignment=alignment) for alignment in BOTH),
    ],
    ids=lambda band: f"{band.left},{band.right},{band.alignment}",
)
@pytest.mark.parametrize(("queries", "keys"), [(30, 70), (70, 30)])
def test_bands(band, queries, keys):
    assert_right(Case(band=band, queries=queries, keys=keys, heads=1, groups=1, blocks=(16, 16)))


@pytest.mark.parametrize("queries", [1, 15, 17, 64, 65])
def test_lengths(queries):
    assert_right(Case(queries=queries, keys=2 * queries - 1, heads=1, groups=1))


@pytest.mark.parametrize("blocks", [(16, 64), (64, 16)])
@pytest.mark.parametrize("band", [CAUSAL, Band(left=20, right=5)], ids=["causal", "window"])
def test_tiles_that_are_not_square(blocks, band):
    assert_right(Case(queries=100, keys=130, heads=1, groups=1, band=band, blocks=blocks))


@pytest.mark.parametrize(
    ("head_dim", "value_dim"),
    [(32, 32), (40, 40), (59, 59), (72, 72), (80, 80), (96, 96), (111, 111), (192, 128), (64, 128), (256, 256)],
)
def test_head_dimensions(head_dim, value_dim):
    assert_right(Case(head_dim=head_dim, value_dim=value_dim, scale=head_dim**-0.5, heads=1, groups=1))


@pytest.mark.parametrize(("heads", "groups"), [(4, 2), (3, 1), (1, 1)])
def test_groups_of_heads(heads, groups):
    assert_right(Case(heads=heads, groups=groups, band=CAUSAL))


@pytest.mark.parametrize("bias", [-30.0, 0.0, 5.0, torch.tensor([-1.0, 0.5]), torch.tensor([[-1.0, 0.5], [2.0, -9.0]])])
def test_biases(bias):
    assert_right(Case(bias=bias, rows=2, queries=33, keys=20))


@pytest.mark.parametrize("slopes", [SLOPES_H, SLOPES_BH], ids=["per head", "per row and head"])
@pytest.mark.parametrize("band", [Band(), Band(right=0, alignment="top_left")], ids=["full", "causal"])
def test_distances_count_whole(slopes, band):
    assert_right(Case(slopes=slopes, rows=2, queries=20, keys=45, band=band))


@pytest.mark.parametrize("blocks", [(16, 16, 0, 1), (16, 16, 0, 2), (16, 16, 1, 2)], ids=str)
def test_schedules_compute_the_same(blocks):
    assert_right(Case(heads=2, groups=1, queries=50, keys=70, head_dim=24, value_dim=40, band=CAUSAL, blocks=blocks))


def test_tanh_is_the_same_function():
    assert_right(Case(sigmoid="tanh", band=CAUSAL))


@pytest.mark.parametrize("lengths", [(0, 20), (20, 0)], ids=["no queries", "no keys"])
def test_nothing_to_attend(lengths):
    case = Case(queries=lengths[0], keys=lengths[1])
    assert all(not result.any() for result in case.kernels(*case.tensors()))


def test_queries_that_see_no_key_are_zero():
    case = Case(queries=50, keys=20, band=CAUSAL)
    out, dq, *_ = case.kernels(*case.tensors())
    assert not out[:, :30].any()
    assert not dq[:, :30].any()
    assert out[:, 30:].all()


def test_saturated_weights_are_one_and_next_to_zero():
    """2^-30 each, of 40."""
    case = Case(dtype=torch.float16, bias=0.0)
    query, key, value, grad = case.tensors()
    signs = query[..., :1].sign().expand_as(query)
    out, *gradients = case.kernels(50 * signs, torch.ones_like(key), torch.ones_like(value), grad)
    assert torch.equal(out, torch.where(signs > 0, 40.0, 40 * 2.0**-30).half())
    assert all(x.abs().max() < 1e-6 for x in gradients[:2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_nan_is_not_swallowed(dtype):
    case = Case(dtype=dtype)
    query, key, value, _ = case.tensors()
    query[0, 5, 1, 3] = torch.nan
    out = launcher().forward(query, key, value, case.problem)
    assert out[0, 5, 1].isnan().all()
    assert out.isnan().sum() == out.shape[3]


def test_gradients_are_the_same_bits_twice():
    case = Case(heads=4, groups=2, bias=torch.zeros(4), dtype=torch.bfloat16)
    for once, again in zip(case.kernels(*case.tensors()), case.kernels(*case.tensors()), strict=True):
        assert torch.equal(once, again)


def test_later_keys_do_not_change_earlier_outputs():
    case = Case(band=CAUSAL, dtype=torch.bfloat16)
    query, key, value, _ = case.tensors()
    before = launcher().forward(query, key, value, case.problem)
    key[:, 21:], value[:, 21:] = 3.0, -5.0
    after = launcher().forward(query, key, value, case.problem)
    assert torch.equal(before[:, :21], after[:, :21])
    assert not torch.equal(before[:, 21:], after[:, 21:])
