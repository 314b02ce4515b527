"""Calls that the Hopper kernel does not take, with the reason that it gives."""

import dataclasses

import pytest
import torch

pytest.importorskip("triton")

from triptych.kernels.flash_sigmoid.hopper import launch
from triptych.kernels.flash_sigmoid.problem import Problem

PROBLEM = Problem(
    scale=0.125, bias_value=-4.0, left=-1, right=0, shift=0, max_query_length=32, max_key_length=32, sigmoid="accurate"
)


def tensors(head_dim=64, dtype=torch.bfloat16):
    return [torch.zeros(2, 32, 4, head_dim, dtype=dtype) for _ in range(3)]


def test_a_call_that_it_takes():
    assert launch.refusal(*tensors(), PROBLEM) is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"dtype": torch.float32}, "the tensors are torch.float32"),
        ({"head_dim": 72}, "its head dimensions are 64, 128, 256, and these are 72 and 72"),
    ],
)
def test_dtypes_and_head_dimensions(arguments, reason):
    assert reason in launch.refusal(*tensors(**arguments), PROBLEM)


def test_values_of_another_head_dimension():
    query, key, _ = tensors()
    assert "these are 64 and 128" in launch.refusal(query, key, tensors(128)[2], PROBLEM)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"table_N6": torch.zeros(1, 6, dtype=torch.int32)}, "segments"),
        ({"slopes_NH": torch.ones(2, 4)}, "ALiBi"),
    ],
)
def test_segments_and_slopes(changes, reason):
    assert reason in launch.refusal(*tensors(), dataclasses.replace(PROBLEM, **changes))


def test_strides_that_no_copy_takes():
    query, key, value = tensors()
    narrow = torch.zeros(2, 32, 4, 68, dtype=key.dtype)[..., :64]
    assert launch.refusal(query, narrow, value, PROBLEM) == (
        "its copies need strides that are not 0 and divisible by 16 bytes, the last one 1, of key"
    )


def test_a_row_that_stands_for_all():
    query, key, value = tensors()
    assert "of value" in launch.refusal(query, key, value[:1].expand(2, -1, -1, -1), PROBLEM)


def test_an_offset_that_no_copy_takes():
    query = torch.zeros(2, 32, 4, 72, dtype=torch.bfloat16)[..., 4:68]
    assert "an offset divisible by 16 bytes of query" in launch.refusal(query, *tensors()[1:], PROBLEM)


def test_the_stride_of_a_single_row_does_not_matter():
    query, key, value = tensors()
    one = [x[:1].as_strided((1, 32, 4, 64), (3, *x.stride()[1:])) for x in (query, key, value)]
    assert launch.refusal(*one, PROBLEM) is None


def test_without_a_hopper_gpu_it_says_so():
    with pytest.raises(ValueError, match=r"gluon cannot run here: .*compute capability 9\.0.*; take kernel='triton'"):
        launch.forward(*tensors(), PROBLEM)
