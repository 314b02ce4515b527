"""The compiled kernels on a CUDA device against the oracle: what neither the interpreter nor the compiler can tell."""

import math
from dataclasses import replace

import pytest
import torch

pytest.importorskip("triton")

from interpreted_cases import ROUNDING, Case, tolerance

from triptych.kernels.flash_sigmoid.device import launch
from triptych.kernels.flash_sigmoid.problem import CAUSAL, Band, Segments

pytestmark = pytest.mark.gpu

LENGTHS = torch.tensor([300, 0, 1, 129, 170], dtype=torch.int32)
ENDS = torch.cat([torch.zeros(1, dtype=torch.int32), LENGTHS.cumsum(0)])
PACKED = Segments.packed(ENDS, ENDS, max_query_length=300, max_key_length=300)


def on_gpu(case, tensors):
    """O, dQ, dK, dV, and dbias where there is a bias, of the compiled kernels."""
    problem = with_tensors_on_gpu(case.problem)
    query, key, value, grad = (x.cuda() for x in tensors)
    out = launch.forward(query, key, value, problem)
    gradients = launch.backward(grad, query, key, value, problem)
    return [x.cpu() for x in (out, *gradients) if x is not None]


def with_tensors_on_gpu(problem):
    small = {name: getattr(problem, name) for name in ("bias_NH", "slopes_NH", "table_N6")}
    return replace(problem, **{name: None if x is None else x.cuda() for name, x in small.items()})


def assert_right(case):
    tensors = case.tensors()
    results, truth = on_gpu(case, tensors), case.reference(*tensors)
    errors = [float((a.double() - b).norm() / b.norm().clamp(min=1e-30)) for a, b in zip(results, truth, strict=True)]
    assert max(errors) < tolerance(case.dtype), errors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("band", [Band(), CAUSAL, Band(left=100, right=30)], ids=["full", "causal", "window"])
@pytest.mark.parametrize(
    ("head_dim", "value_dim"), [(16, 16), (64, 64), (72, 72), (80, 80), (96, 96), (128, 128), (192, 128), (256, 256)]
)
def test_values_and_gradients(head_dim, value_dim, band, dtype):
    case = Case(
        queries=300, keys=333, heads=4, groups=2, head_dim=head_dim, value_dim=value_dim, band=band, dtype=dtype, rows=2
    )
    case.scale = head_dim**-0.5
    assert_right(case)


@pytest.mark.parametrize("kind", ["bias", "slopes", "segments"])
@pytest.mark.parametrize("band", [Band(), CAUSAL], ids=["full", "causal"])
def test_biases_slopes_and_segments(kind, band):
    small = torch.tensor([-3.0, 0.5])
    extra = {"bias": {"bias": small}, "slopes": {"slopes": small.abs() / 50}, "segments": {"segments": PACKED}}[kind]
    assert_right(Case(queries=600, keys=600, head_dim=64, value_dim=64, dtype=torch.bfloat16, band=band, **extra))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("length", [4096, 131072])
def test_weights_are_accurate_where_the_bias_puts_them(length, dtype):
    """V = 1: O is the sum of P over all keys, 1 at equal scores; an error of each weight that has a sign adds up."""
    query = torch.zeros(1, 128, 1, 64, dtype=dtype)
    key, value = (torch.full((1, length, 1, 64), x, dtype=dtype) for x in (0.0, 1.0))
    case = Case(queries=128, keys=length, heads=1, groups=1, head_dim=64, value_dim=64, dtype=dtype)
    case.bias = -math.log(length)
    out = on_gpu(case, [query, key, value, torch.zeros_like(query)])[0].double()
    assert (out * (1 + 1 / length) - 1).abs().max() < 2.1 * ROUNDING[dtype] + 1e-5


def test_gradients_are_the_same_bits_each_time():
    case = Case(queries=1000, keys=1000, heads=4, groups=1, head_dim=128, value_dim=128, dtype=torch.bfloat16)
    tensors = case.tensors()
    first = on_gpu(case, tensors)
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(first, on_gpu(case, tensors), strict=True))


def test_more_heads_than_an_axis_of_the_grid_has():
    case = Case(queries=3, keys=5, heads=70_000, groups=70_000, dtype=torch.bfloat16)
    assert_right(case)


def test_offsets_beyond_32_bits():
    """Two heads at the end of a row of 2^31 elements are what they are alone."""
    query = torch.randn(1, (1 << 17) + 64, 128, 128, dtype=torch.bfloat16, device="cuda")
    case = Case(queries=64, keys=64, head_dim=128, value_dim=128, dtype=torch.bfloat16)
    table = torch.tensor([[0, 1 << 17, 64, 1 << 17, 64, 0]], dtype=torch.int32)
    segments = Segments(table_N6=table, max_query_length=64, max_key_length=64)
    far = with_tensors_on_gpu(Case(queries=query.shape[1], keys=query.shape[1], segments=segments).problem)
    ends = query[:, :, -2:]
    alone = [x.contiguous() for x in [ends[:, 1 << 17 :]] * 4]
    out = launch.forward(ends, ends, ends, far)[:, 1 << 17 :]
    gradients = [x[:, 1 << 17 :] for x in launch.backward(ends, ends, ends, ends, far)[:3]]
    truth = [launch.forward(*alone[:3], case.problem), *launch.backward(*alone, case.problem)[:3]]
    assert all(torch.equal(a, b) for a, b in zip([out, *gradients], truth, strict=True))
