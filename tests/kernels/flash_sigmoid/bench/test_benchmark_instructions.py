"""Errors of the hardware's approximations: the judge on emulated ones, and the kernel as far as a compiler takes it."""

import pytest
import torch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from triptych.kernels.flash_sigmoid.bench.instructions import LOWEST, approximate, judge

X = torch.linspace(LOWEST, 0, 1 << 14)
EXACT = ((X.double() / 2).tanh(), (X * -1.4426950408889634).double().exp2())


def judged(tanh_error=0.0):
    tanh, exponential = EXACT[0] + tanh_error, EXACT[1].float()
    return judge(X, tanh, exponential, (1 / (1 + exponential).double()).float())


def test_exact_instructions_have_no_error_but_rounding():
    found = judged()
    assert found["tanh max absolute"] == 0
    assert max(found["ex2 max relative"], found["rcp max relative"]) < 1e-7
    assert found["sigma by ex2 rcp, -20 to -15, max"] < 3e-6


def test_an_error_of_tanh_drowns_small_sigmas():
    found = judged(tanh_error=1e-5)
    assert found["tanh max absolute"] == pytest.approx(1e-5, rel=1e-3)
    assert found["sigma by tanh, -log 131072, max"] == pytest.approx(5e-6 * 131073 * 1.1, rel=0.01)
    assert found["sigma by tanh, -5 to 0, mean"] > 0


@pytest.mark.parametrize("capability", [80, 90])
def test_the_kernel_compiles_to_the_three_instructions(capability):
    pointers = dict.fromkeys(("x_ptr", "tanh_ptr", "exponential_ptr", "reciprocal_ptr"), "*fp32")
    source = ASTSource(approximate, {**pointers, "num_points": "i32", "BLOCK": "constexpr"}, {"BLOCK": 1024})
    ptx = compile(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"]
    assert all(name in ptx for name in ("tanh.approx.f32", "ex2.approx.ftz.f32", "rcp.approx.ftz.f32"))
