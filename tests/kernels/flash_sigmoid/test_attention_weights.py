"""P itself, element by element down to the smallest, and whether its errors add up: what -log n asks of sigma."""

import numpy as np
import pytest
import torch
from attention_cases import NORM_TOLERANCE

from triptych.kernels.flash_sigmoid.attention import sigmoid_attention
from triptych.kernels.flash_sigmoid.problem import minus_log

EXACT = 1e-5
"""Relative, of a weight in fp32: an error of one unit in the last place of a logit of 20 is 2e-6 of sigma."""
TANH_ERROR = 1.113e-5
"""The largest relative error that was measured of the instruction tanh.approx.f32 (NVIDIA's forum, thread 173291)."""
LONG = (1024, 16_384, 131_072)


def weights_of(num_keys, dtype=torch.float32, sigmoid=None):
    """(P as computed, its logits) of one query at the bias of `num_keys`, at 64 keys whose logits are -20 to 10.

    V is the identity over those keys and 0 over the others, so that O is P. sigmoid: instead of the attention.
    """
    at = torch.linspace(0, num_keys - 1, 64).long()
    key = torch.zeros(1, num_keys, 1, 1)
    key[0, at, 0, 0] = torch.linspace(-20, 10, 64) - minus_log(num_keys)
    key = key.to(dtype)
    value = torch.zeros(1, num_keys, 1, 64, dtype=dtype)
    value[0, at, 0, torch.arange(64)] = 1
    logits = key[0, at, 0, 0].double() + minus_log(num_keys)
    if sigmoid is not None:
        return sigmoid(logits), logits
    out = sigmoid_attention(torch.ones(1, 1, 1, 1, dtype=dtype), key, value, scale=1.0)
    return out[0, 0, 0].double(), logits


def worst_error(weights, logits):
    return float((weights / logits.sigmoid() - 1).abs().max())


def sigmoid_by_tanh(logits, error=TANH_ERROR):
    """1/2 + tanh(x/2)/2 with errors of the instruction's size, of either sign."""
    signs = np.random.default_rng(0).choice([-1, 1], size=len(logits))
    tanh = np.tanh(logits.numpy() / 2) * (1 + error * signs)
    return torch.from_numpy(0.5 + 0.5 * tanh)


@pytest.mark.parametrize("num_keys", LONG)
def test_each_weight_is_right(num_keys):
    assert worst_error(*weights_of(num_keys)) < EXACT


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_each_weight_is_rounded_once(dtype):
    weights, logits = weights_of(1024, dtype)
    normal = logits.sigmoid() > torch.finfo(dtype).tiny
    assert worst_error(weights[normal], logits[normal]) < NORM_TOLERANCE[dtype]


@pytest.mark.parametrize("num_keys", LONG)
def test_this_test_rejects_tanh(num_keys):
    assert worst_error(*weights_of(num_keys, sigmoid=sigmoid_by_tanh)) > 1000 * EXACT


def test_tanh_makes_weights_negative():
    weights, _ = weights_of(131_072, sigmoid=sigmoid_by_tanh)
    assert weights.min() < 0


@pytest.mark.parametrize("num_keys", [8192, 131_072])
def test_errors_do_not_add_up(num_keys):
    """V = 1 and one query of each of 8 heads: O is the sum of P. Its mean signed error."""
    query, key = torch.randn(1, 1, 8, 16), torch.randn(1, num_keys, 8, 16)
    out = sigmoid_attention(query, key, torch.ones(1, num_keys, 8, 1))
    scores = torch.einsum("hd,jhd->hj", query[0, 0].double(), key[0].double()) / 4 + minus_log(num_keys)
    truth = scores.sigmoid().sum(1)
    assert abs(float((out[0, 0, :, 0] / truth - 1).mean())) < EXACT


def test_at_minus_log_n_the_weights_of_a_row_add_up_to_about_one():
    query, key = torch.randn(1, 4, 1, 64) * 0.1, torch.randn(1, 4096, 1, 64)
    sums = sigmoid_attention(query, key, torch.ones(1, 4096, 1, 1))
    assert torch.allclose(sums, torch.ones(1), atol=0.05)


@pytest.mark.parametrize("size", [1e3, 1e18])
def test_saturated_weights_are_between_zero_and_one(size):
    """O = P at V = 1 of one key, at logits of +-size^2."""
    query = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1) * size
    out = sigmoid_attention(query, torch.full((1, 1, 1, 1), size), torch.ones(1, 1, 1, 1), scale=1.0)
    assert out.flatten().tolist() == [1.0, 0.0]
