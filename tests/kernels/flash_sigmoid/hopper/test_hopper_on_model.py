"""The forward kernel's own source, executed: warps, copies, barriers and asynchronous products, against the oracle."""

import pytest
import torch

pytest.importorskip("triton")

from gluon_model import launch
from machine_model import Deadlock, Fault
from planted_faults import FAULTS
from ptx_model import run_assembly

from triptych.kernels.flash_sigmoid.device import sigmoid as assembly
from triptych.kernels.flash_sigmoid.hopper.launch import forward_arguments, refusal
from triptych.kernels.flash_sigmoid.problem import Band, Problem, minus_log, output_like
from triptych.kernels.flash_sigmoid.reference import reference_attention

ERROR = {torch.bfloat16: 3e-3, torch.float16: 4e-4}
"""Of ||O - O64|| / ||O64||: weights and outputs are rounded to 8 and 11 bits, which is up to 2e-3 and 2.5e-4 each."""


def tensors(rows, queries, keys, heads, groups, head_dim, dtype):
    sizes = ((queries, heads), (keys, groups), (keys, groups))
    return [torch.randn(rows, length, n, head_dim).to(dtype) for length, n in sizes]


def problem_of(query, key, band, bias=None, sigmoid="accurate"):
    keys = key.shape[1]
    return Problem(
        scale=query.shape[3] ** -0.5,
        bias_value=minus_log(keys) if bias is None else 0.0,
        left=band.left,
        right=band.right,
        shift=keys - query.shape[1] if band.alignment == "bottom_right" else 0,
        max_query_length=query.shape[1],
        max_key_length=keys,
        sigmoid=sigmoid,
        bias_NH=bias,
    )


def attend(query, key, value, problem, num_programs=2, seed=0, late_copies=True, faults=(), **overrides):
    assert refusal(query, key, value, problem) is None
    out = output_like(query, query.shape[3]).fill_(torch.nan)
    arguments = forward_arguments(query, key, value, out, problem) | overrides
    launch(arguments, num_programs, seed, late_copies, dict(faults))
    return out


def error_of(out, query, key, value, band, bias):
    expected = reference_attention(query, key, value, scale=query.shape[3] ** -0.5, bias=bias, band=band)
    return ((out.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("dtype", ERROR)
@pytest.mark.parametrize(
    ("rows", "queries", "keys", "heads", "groups", "head_dim"),
    [(2, 130, 1100, 2, 1, 64), (1, 257, 513, 3, 3, 128), (1, 64, 200, 2, 2, 256), (1, 1, 1, 1, 1, 64)],
)
def test_full_attention(rows, queries, keys, heads, groups, head_dim, dtype):
    query, key, value = tensors(rows, queries, keys, heads, groups, head_dim, dtype)
    out = attend(query, key, value, problem_of(query, key, Band()))
    assert error_of(out, query, key, value, Band(), minus_log(keys)) < ERROR[dtype]


@pytest.mark.parametrize(
    "band",
    [
        Band(right=0),
        Band(right=0, alignment="top_left"),
        Band(left=100, right=0),
        Band(left=3),
        Band(left=64, right=64),
        Band(left=0, right=0),
        Band(left=1000, right=1000),
    ],
    ids=repr,
)
@pytest.mark.parametrize(("queries", "keys"), [(300, 300), (150, 500), (300, 90)])
def test_bands(band, queries, keys):
    query, key, value = tensors(1, queries, keys, 2, 1, 64, torch.float16)
    out = attend(query, key, value, problem_of(query, key, band), STAGES=2)
    assert error_of(out, query, key, value, band, minus_log(keys)) < ERROR[torch.float16]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("late_copies", [True, False])
def test_every_order_of_events_gives_the_same_bits(seed, late_copies):
    query, key, value = tensors(1, 400, 400, 3, 1, 64, torch.bfloat16)
    problem = problem_of(query, key, Band(right=0))
    first = attend(query, key, value, problem, STAGES=2)
    out = attend(query, key, value, problem, num_programs=1 + seed % 3, seed=seed, late_copies=late_copies, STAGES=2)
    assert torch.equal(out, first)


def test_bias_per_row_and_head():
    query, key, value = tensors(2, 70, 140, 4, 2, 64, torch.bfloat16)
    bias = torch.randn(2, 4) - 4
    out = attend(query, key, value, problem_of(query, key, Band(), bias))
    assert error_of(out, query, key, value, Band(), bias) < ERROR[torch.bfloat16]


def test_positions_first_and_interleaved_projections_need_no_copy():
    qkv_SBH3D = torch.randn(140, 2, 2, 3, 64).half()
    query, key, value = (qkv_SBH3D[:, :, :, i].transpose(0, 1) for i in range(3))
    out = attend(query, key, value, problem_of(query, key, Band()))
    assert out.stride(0) < out.stride(1)
    assert error_of(out, query, key, value, Band(), minus_log(140)) < ERROR[torch.float16]


def test_tanh_is_less_accurate_and_no_more():
    query, key, value = tensors(1, 64, 128, 1, 1, 64, torch.float16)
    out = attend(query, key, value, problem_of(query, key, Band(), sigmoid="tanh"))
    assert error_of(out, query, key, value, Band(), minus_log(128)) < ERROR[torch.float16]


@pytest.mark.parametrize("scaled", [False, True])
def test_the_assembly_of_sigma_is_sigma(scaled):
    x = torch.linspace(-20, 20, 4096)
    y = (-x * assembly.LOG2_E.value).view(-1, 4)
    text = (assembly.BATCHED_SCALED if scaled else assembly.BATCHED).value
    p = torch.stack(run_assembly(text, 4, y.unbind(1)), 1).flatten() / (2**15 if scaled else 1)
    assert (p / x.double().sigmoid() - 1).abs().max() < 3e-6


def fails(faults):
    """Whether some order of events shows the faults."""
    torch.manual_seed(0)
    query, key, value = tensors(1, 900, 900, 1, 1, 64, torch.bfloat16)
    band = Band(left=600, right=0)
    problem = problem_of(query, key, band)
    for seed in range(6):
        try:
            out = attend(query, key, value, problem, 1, seed, seed % 2 == 0, faults, STAGES=2)
        except Fault:
            return True
        if not error_of(out, query, key, value, band, minus_log(900)) < ERROR[torch.bfloat16]:
            return True
    return False


def test_without_a_fault_nothing_fails():
    assert not fails({})


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_found(name):
    assert fails(FAULTS[name])


def test_a_deadlock_is_an_error_at_once():
    query, key, value = tensors(1, 64, 64, 1, 1, 64, torch.bfloat16)
    with pytest.raises(Deadlock):
        attend(
            query,
            key,
            value,
            problem_of(query, key, Band()),
            faults={"mbarrier.wait(query_full.index(GROUP), done & 1)": "mbarrier.wait(turns.index(GROUP), 0)"},
        )
