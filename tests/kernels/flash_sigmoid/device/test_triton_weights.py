"""How exact P and dS are, one by one, down to the smallest: each stands alone in a coordinate of a result, times a
power of two that makes it a normal number of the type.
"""

import pytest
import torch

pytest.importorskip("triton")

from interpreted import launcher
from interpreted_cases import ROUNDING, Case

SIZE = 32
LARGE = 2.0**15


def results_of(logits, dtype, dp):
    """(O, dQ, dK, dV) from P and dS of one query, each beside what it is from the rounded inputs, in fp64.

    The logit is the product of the first coordinates. Coordinate 1 + j of key j is LARGE, and the query's 0, so that
    dQ's is LARGE dS_j; coordinate 40 of the query is LARGE and the keys' 0, so that dK's is LARGE dS_j. For O, V is
    LARGE I. For gradients, V and dO have one coordinate, whose product is dP.
    """
    scale = max(1.0, 1 / dp)
    key = torch.nn.functional.pad(LARGE * torch.eye(SIZE), (1, 31)) + torch.nn.functional.pad(
        logits[:, None] / scale, (0, 63)
    )
    query, value, grad = torch.zeros(64), torch.zeros(SIZE, 64), torch.zeros(64)
    query[0], query[40] = 1, LARGE / max(dp, 1.0)
    value[:, 32], grad[32] = min(dp, 1.0), max(dp, 1.0)
    key[:, 1:] /= max(dp, 1.0)
    large = torch.nn.functional.pad(LARGE * torch.eye(SIZE), (0, 32))
    query, key, value, grad, large = (x.view(1, -1, 1, 64).to(dtype) for x in (query, key, value, grad, large))
    case = Case(
        queries=1, keys=SIZE, heads=1, groups=1, head_dim=64, value_dim=64, bias=0.0, scale=scale, dtype=dtype
    )  # fmt: skip
    out = launcher().forward(query, key, large, case.problem).double()
    dq, dk, dv, _ = launcher().backward(grad, query, key, value, case.problem)
    p = (scale * key[0, :, 0, 0].double()).sigmoid()
    ds = scale * p * (1 - p) * float(value[0, 0, 0, 32].double() * grad[0, 0, 0, 32].double())
    return {
        "O": (out[0, 0, 0, :SIZE] / LARGE, p),
        "dQ": (dq[0, 0, 0, 1 : SIZE + 1].double() / float(key[0, 0, 0, 1]), ds),
        "dK": (dk[0, :, 0, 40].double() / float(query[0, 0, 0, 40]), ds),
        "dV": (dv[0, :, 0, 32].double() / float(grad[0, 0, 0, 32]), p),
    }


def relative(results):
    return {name: float((ours / truth - 1).abs().max()) for name, (ours, truth) in results.items()}


@pytest.mark.parametrize("dp", [2.0**-12, 2.0**-4, 1.0, 1.9, 2.0**10, LARGE])
def test_small_weights_are_normal_numbers_in_fp16(dp):
    """Two roundings, of P or dS and of the result, at logits down to -20, where P is 2e-9 and fp16 ends at 6e-8. dV is
    a normal number itself only where dO is large.
    """
    errors = relative(results_of(torch.linspace(-20, -1, SIZE), torch.float16, dp))
    if dp < LARGE:
        del errors["dV"]
    assert max(errors.values()) < 2.1 * ROUNDING[torch.float16], errors


@pytest.mark.parametrize("logits", [(-20.0, -1.0), (-4.0, 10.0)], ids=["small", "large"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_weights_of_wide_types(dtype, logits):
    results = results_of(torch.linspace(*logits, SIZE), dtype, 1.0)
    bound = 2.1 * ROUNDING[dtype] if dtype == torch.bfloat16 else 1e-5
    errors = relative(results)
    assert max(errors["O"], errors["dV"]) < bound, errors


def test_the_sum_of_small_weights_has_no_bias():
    """O = sum of P with V = 1, at the bias of 131072 keys: a mean error would add up."""
    logits = torch.linspace(-14, -9, 500)
    case = Case(queries=1, keys=500, heads=1, groups=1, bias=0.0, scale=1.0, dtype=torch.float16, blocks=(16, 64))
    query, key = torch.zeros(1, 1, 1, 16), torch.zeros(1, 500, 1, 16)
    query[..., 0], key[0, :, 0, 0] = 1, logits
    value = torch.full((1, 500, 1, 16), LARGE)
    out = launcher(16, 64).forward(query.half(), key.half(), value.half(), case.problem)
    truth = key[0, :, 0, 0].half().double().sigmoid().sum() * LARGE
    assert abs(float(out[0, 0, 0, 0]) / float(truth) - 1) < 1.1 * ROUNDING[torch.float16]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_gradients_of_fp16_do_not_overflow_where_theirs_do_not(dtype):
    """dO and V near the top of fp16: dP is 10^8, dQ is representable since keys are small."""
    case = Case(dtype=dtype, bias=0.0, head_dim=16, value_dim=16)
    query, key, value, grad = (x.clamp(-3, 3) for x in case.tensors())
    given = [query, key * 2.0**-12, value * 2.0**10, grad * 2.0**10]
    errors = case.errors([x.to(dtype) for x in given])
    assert errors["dq"] < (2e-6 if dtype == torch.float32 else 1.5 * ROUNDING[dtype]), errors
