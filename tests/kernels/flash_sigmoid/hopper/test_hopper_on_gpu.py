"""The forward kernel where it belongs: against the oracle, and against itself."""

import pytest
import torch

pytest.importorskip("triton")

from triptych.kernels.flash_sigmoid import choice
from triptych.kernels.flash_sigmoid.attention import sigmoid_attention
from triptych.kernels.flash_sigmoid.problem import Band, minus_log
from triptych.kernels.flash_sigmoid.reference import reference_attention

pytestmark = pytest.mark.gpu
ERROR = {torch.bfloat16: 3e-3, torch.float16: 4e-4}
"""Of ||O - O64|| / ||O64||, as on the model."""
BANDS = [Band(), Band(right=0), Band(left=300, right=0), Band(left=64, right=64), Band(right=0, alignment="top_left")]


@pytest.fixture(autouse=True)
def _hopper():
    reason = choice.gluon_reason(
        choice.CallFacts(
            device="cuda",
            capability=torch.cuda.get_device_capability(),
            dtype=torch.bfloat16,
            head_dims=(64, 64),
            sigmoid="accurate",
        )
    )
    if reason:
        pytest.skip(reason)


def tensors(queries, keys, head_dim, dtype):
    sizes = ((queries, 6), (keys, 2), (keys, 2))
    return [torch.randn(2, length, heads, head_dim, device="cuda").to(dtype) for length, heads in sizes]


@pytest.mark.parametrize("dtype", ERROR)
@pytest.mark.parametrize("head_dim", [64, 128, 256])
@pytest.mark.parametrize("band", BANDS, ids=repr)
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (130, 1100), (1025, 1025), (300, 90)])
def test_against_the_oracle(queries, keys, band, head_dim, dtype):
    query, key, value = tensors(queries, keys, head_dim, dtype)
    out = sigmoid_attention(query, key, value, band=band, kernel="gluon").double()
    expected = reference_attention(query, key, value, scale=head_dim**-0.5, bias=minus_log(keys), band=band)
    assert (out - expected).norm() <= ERROR[dtype] * expected.norm()


def test_a_thousand_runs_give_the_same_bits():
    query, key, value = tensors(2048, 2048, 128, torch.bfloat16)
    first = sigmoid_attention(query, key, value, band=Band(right=0), kernel="gluon")
    for _ in range(1000):
        assert torch.equal(sigmoid_attention(query, key, value, band=Band(right=0), kernel="gluon"), first)


def test_gradients_are_those_of_triton():
    inputs = [x.requires_grad_() for x in tensors(257, 257, 64, torch.bfloat16)]
    both = [
        torch.autograd.grad(sigmoid_attention(*inputs, band=Band(right=0), kernel=kernel).float().sum(), inputs)
        for kernel in ("gluon", "triton")
    ]
    assert all(torch.equal(a, b) for a, b in zip(*both, strict=True))
