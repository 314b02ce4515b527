"""What holds whatever the numbers are, for each kernel: additivity, symmetry, causality, independence, layouts."""

import pytest
import torch
from attention_cases import Case, leaves, relative_norm, results
from einops import rearrange, repeat
from hypothesis import given
from hypothesis import strategies as st

from triptych.kernels.flash_sigmoid.attention import sigmoid_attention
from triptych.kernels.flash_sigmoid.problem import CAUSAL, Band
from triptych.kernels.flash_sigmoid.reference import reference_attention

pytest_plugins = ["attention_kernels"]

SAME = 1e-6
"""Relative norm of a difference that is another order of fp32 sums."""


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    differences = {name: relative_norm(found[name], expected[name]) for name in expected}
    assert all(difference < SAME for difference in differences.values()), differences


def assert_identical(found, expected):
    assert found.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert different == []


def called(attention, case, **options):
    return lambda *qkv: attention(*qkv, **case.options() | options)


def test_parts_of_the_keys_add_up(attention):
    """Split keys, a number for the bias: O is the sum of the parts, and so is dQ."""
    case = Case(queries=20, keys=50, heads=2)
    query, key, value = case.inputs()

    def in_parts(query, key, value):
        parts = [slice(0, 13), slice(13, 50)]
        return sum(attention(query, key[:, part], value[:, part], **case.options()) for part in parts)

    inputs = (query, key, value)
    assert_same(results(in_parts, inputs), results(called(attention, case), inputs))


def test_the_order_of_keys_does_not_matter(attention):
    case = Case(queries=20, keys=50)
    order = torch.randperm(50)
    query, key, value = case.inputs()
    found = results(lambda q, k, v: attention(q, k[:, order], v[:, order], **case.options()), (query, key, value))
    assert_same(found, results(called(attention, case), (query, key, value)))


def test_the_future_does_not_change_the_past(attention):
    case = Case(queries=40, band=CAUSAL)
    query, key, value = case.inputs()
    before = attention(query, key, value, **case.options())
    with torch.no_grad():
        key[:, 25:], value[:, 25:] = torch.randn(2, 1, 15, 2, 16) * 3
    after = attention(query, key, value, **case.options())
    assert torch.equal(after[:, :25], before[:, :25])
    assert not torch.equal(after[:, 25:], before[:, 25:])


def test_the_past_beyond_a_window_does_not_change_the_present(attention):
    case = Case(queries=40, band=Band(left=4, right=0))
    query, key, value = case.inputs()
    before = attention(query, key, value, **case.options())
    with torch.no_grad():
        key[:, :20], value[:, :20] = torch.randn(2, 1, 20, 2, 16) * 3
    after = attention(query, key, value, **case.options())
    assert torch.equal(after[:, 24:], before[:, 24:])
    assert not torch.equal(after[:, 23], before[:, 23])


@pytest.mark.parametrize("band", [Band(), CAUSAL], ids=["full", "causal"])
def test_groups_are_repeated_keys(attention, band):
    case = Case(heads=6, groups=2, queries=15, keys=20, band=band, bias=torch.linspace(-2, 0, 6))

    def repeated(query, key, value):
        key, value = (repeat(x, "b t g d -> b t (g r) d", r=3) for x in (key, value))
        return attention(query, key, value, **case.options())

    inputs = case.inputs()
    assert_same(results(called(attention, case), inputs), results(repeated, inputs))


def test_rows_and_heads_are_independent(attention):
    """bitwise: what a row and a head give does not depend on the others."""
    case = Case(rows=3, heads=4, queries=20, bias=torch.tensor([[-1.0], [0.0], [1.0]]))
    inputs = case.inputs()
    whole = results(called(attention, case), inputs)
    part = leaves(*(x[1:2, :, 2:4] for x in inputs))
    alone = attention(*part, bias=0.0, band=case.band)
    assert torch.equal(alone, whole["out"][1:2, :, 2:4])


LAYOUTS = {
    "sbhd": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "bhsd": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "strided last dimension": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "padded rows": lambda x: torch.nn.functional.pad(x, (0, 3, 0, 1, 0, 2))[:, :-2, :-1, :-3],
    "offset": lambda x: torch.cat([x.new_full((5,), float("nan")), x.flatten()])[5:].view(x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_change_nothing(attention, layout):
    case = Case(rows=2, queries=20, heads=4, groups=2, band=CAUSAL)
    inputs = case.inputs()
    strided = [LAYOUTS[layout](x.detach()).requires_grad_() for x in inputs]
    assert_same(results(called(attention, case), strided), results(called(attention, case), inputs))


def test_views_of_packed_queries_keys_and_values(attention):
    case = Case(rows=2, queries=20, heads=2)
    packed = torch.randn(20, 2, 2, 3 * 16)

    def split(packed):
        return (x.transpose(0, 1) for x in packed.split(16, dim=3))

    expected = results(called(attention, case), [x.contiguous() for x in split(packed.clone().requires_grad_())])
    packed.requires_grad_()
    found = results(called(attention, case), list(split(packed)))
    assert_same(found, expected)


def test_expanded_keys_and_values(attention):
    """Strides of 0: one row's keys for all rows, one head's for all heads."""
    case = Case(rows=3, queries=10, heads=2)
    query, key, value = case.inputs()
    one_key, one_value = leaves(key[:1, :, :1], value[:1, :, :1])

    def expanded(query, key, value):
        return attention(query, key.expand(3, -1, 2, -1), value.expand(3, -1, 2, -1), **case.options())

    def copied(query, key, value):
        key, value = (repeat(x, "1 t 1 d -> b t h d", b=3, h=2) for x in (key, value))
        return attention(query, key, value, **case.options())

    inputs = (query, one_key, one_value)
    assert_same(results(expanded, inputs), results(copied, inputs))


def test_inputs_are_untouched(attention):
    case = Case(queries=20, band=CAUSAL, slopes=torch.tensor([0.1, 0.2]), bias=torch.tensor([-1.0, 0.0]))
    inputs = case.inputs()
    kept = [x.detach().clone() for x in (*inputs, case.slopes, case.bias)]
    results(called(attention, case), inputs)
    assert all(torch.equal(x, y) for x, y in zip((*inputs, case.slopes, case.bias), kept, strict=True))


@pytest.mark.parametrize("positions_first", [True, False])
def test_the_output_lies_as_the_queries_do(attention, positions_first):
    x = torch.randn(9, 2, 2, 16).transpose(0, 1) if positions_first else torch.randn(2, 9, 2, 16)
    out = attention(x, x, x[..., :8])
    assert (out.transpose(0, 1) if positions_first else out).is_contiguous()


def test_a_query_that_sees_no_key_gives_zero(attention):
    """More queries than keys, aligned at the end: the first ones see nothing, and have no gradient."""
    case = Case(queries=30, keys=10, band=CAUSAL, bias=3.0)
    found = results(called(attention, case), case.inputs())
    for name in ("out", "dq"):
        assert torch.count_nonzero(found[name][:, :20]) == 0
        assert torch.count_nonzero(found[name][:, 20:]) > 0


@pytest.mark.parametrize("size", [1e3, 1e6])
def test_saturation_is_finite(attention, size):
    case = Case(queries=20, band=CAUSAL)
    query, key, value = case.inputs()
    found = results(called(attention, case), leaves(query * size, key * size, value))
    assert all(x.isfinite().all() for x in found.values())


def test_no_gradient_from_no_gradient(attention):
    case = Case(queries=20, bias=torch.zeros(2, requires_grad=True))
    inputs = case.inputs()
    out = attention(*inputs, **case.options())
    grads = torch.autograd.grad(out, [*inputs, case.bias], torch.zeros_like(out))
    assert all(torch.count_nonzero(grad) == 0 for grad in grads)


def test_the_same_bits_twice(attention):
    case = Case(queries=40, heads=4, groups=2, bias=torch.zeros(4, requires_grad=True), band=CAUSAL)
    inputs = case.inputs()
    first, second = (results(called(attention, case), inputs, case.bias) for _ in range(2))
    assert_identical(first, second)


def test_a_gradient_of_stride_zero(attention):
    case = Case(queries=20, band=CAUSAL)
    inputs = case.inputs()
    expanded = torch.autograd.grad(attention(*inputs, **case.options()).sum(), inputs)
    dense = torch.autograd.grad(attention(*inputs, **case.options()), inputs, torch.ones(1, 20, 2, 16))
    assert all(torch.equal(x, y) for x, y in zip(expanded, dense, strict=True))


def test_a_gradient_of_another_layout(attention):
    case = Case(rows=2, queries=20)
    inputs = case.inputs()
    grad = torch.randn(2, 2, 16, 20)
    strided = torch.autograd.grad(attention(*inputs, **case.options()), inputs, rearrange(grad, "b h e s -> b s h e"))
    dense = torch.autograd.grad(
        attention(*inputs, **case.options()), inputs, rearrange(grad, "b h e s -> b s h e").contiguous()
    )
    assert all(relative_norm(x, y) < SAME for x, y in zip(strided, dense, strict=True))


@pytest.mark.parametrize(("rows", "queries", "keys"), [(1, 0, 5), (1, 5, 0), (0, 5, 5), (2, 0, 0)])
def test_nothing_to_attend(attention, rows, queries, keys):
    query, key = torch.randn(rows, queries, 2, 16), torch.randn(rows, keys, 2, 16)
    inputs = leaves(query, key, key)
    out = attention(*inputs, bias=-1.0)
    assert out.shape == query.shape and torch.count_nonzero(out) == 0
    assert all(torch.count_nonzero(grad) == 0 for grad in torch.autograd.grad(out.sum(), inputs))


sizes = st.integers(1, 40)


@given(queries=sizes, keys=sizes, left=st.integers(-1, 45), right=st.integers(-1, 45), top_left=st.booleans())
def test_any_band(queries, keys, left, right, top_left):
    band = Band(left=left, right=right, alignment="top_left" if top_left else "bottom_right")
    case = Case(queries=queries, keys=keys, heads=2, groups=1, head_dim=4, band=band)
    inputs = case.inputs()
    found, truth = results(called(sigmoid_attention, case), inputs), results(case.oracle, inputs)
    assert all(torch.allclose(found[name].double(), truth[name].double(), atol=1e-5) for name in truth)


@given(bias=st.floats(-30, 5), shift=st.floats(-3, 3), scale=st.floats(0.01, 2))
def test_the_bias_shifts_the_logits(bias, shift, scale):
    """A bias is a further coordinate of queries and keys."""
    query, key, value = (torch.randn(1, 9, 1, 8) for _ in range(3))
    one = torch.ones(1, 9, 1, 1)
    appended = sigmoid_attention(
        torch.cat([query, one * shift / scale], 3), torch.cat([key, one], 3), value, bias=bias, scale=scale
    )
    assert torch.allclose(
        appended, sigmoid_attention(query, key, value, bias=bias + shift, scale=scale), rtol=1e-4, atol=1e-6
    )


@given(split=st.integers(1, 23), seed=st.integers(0, 99))
def test_parts_of_the_keys_add_up_wherever_they_are_cut(split, seed):
    query, key, value = Case(queries=7, keys=24).inputs(seed)
    parts = [
        sigmoid_attention(query, key[:, at], value[:, at], bias=-1.0) for at in (slice(0, split), slice(split, 24))
    ]
    assert torch.allclose(sum(parts), sigmoid_attention(query, key, value, bias=-1.0), atol=1e-5)


def test_gradients_of_the_oracle_are_right():
    """By differences, so that everything that is compared with it rests on them too."""
    query, key, value = (torch.randn(1, 5, heads, 3, dtype=torch.float64) for heads in (2, 1, 1))
    bias = torch.randn(2, dtype=torch.float64)
    slopes = torch.tensor([0.3, 0.1])

    def oracle(query, key, value, bias):
        return reference_attention(query, key, value, scale=0.6, bias=bias, band=Band(left=2, right=1), slopes=slopes)

    assert torch.autograd.gradcheck(oracle, leaves(query, key, value, bias))
