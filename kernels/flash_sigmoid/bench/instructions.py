"""Errors of the hardware's approximations that sigma is made of: tanh.approx, ex2.approx, rcp.approx. Needs triton."""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

NUM_POINTS = 1 << 20
LOWEST = -20.0
_BLOCK = 1024
_LENGTHS = (1024, 4096, 16384, 65536, 131072)
_INTERVALS = ((-20.0, -15.0), (-15.0, -10.0), (-10.0, -5.0), (-5.0, 0.0))


@triton.jit
def approximate(
    x_ptr: tl.tensor,
    tanh_ptr: tl.tensor,
    exponential_ptr: tl.tensor,
    reciprocal_ptr: tl.tensor,
    num_points: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """tanh(x / 2), 2^(-x log2 e) and 1 / (1 + that), each by one instruction, fp32."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < num_points
    x = tl.load(x_ptr + at, mask=inside, other=0.0)
    tanh = tl.inline_asm_elementwise(
        "tanh.approx.f32 $0, $1;", "=f,f", [x * 0.5], dtype=tl.float32, is_pure=True, pack=1
    )
    exponential = tl.inline_asm_elementwise(
        "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x * -1.4426950408889634], dtype=tl.float32, is_pure=True, pack=1
    )
    reciprocal = tl.inline_asm_elementwise(
        "rcp.approx.ftz.f32 $0, $1;", "=f,f", [exponential + 1.0], dtype=tl.float32, is_pure=True, pack=1
    )
    tl.store(tanh_ptr + at, tanh, mask=inside)
    tl.store(exponential_ptr + at, exponential, mask=inside)
    tl.store(reciprocal_ptr + at, reciprocal, mask=inside)


def instruction_errors(device: torch.device) -> dict[str, float]:
    """On an even grid of x from LOWEST to 0; see `judge`."""
    x = torch.linspace(LOWEST, 0, NUM_POINTS, device=device)
    tanh, exponential, reciprocal = (torch.full_like(x, torch.nan) for _ in range(3))
    kernel: Any = approximate
    kernel[(triton.cdiv(NUM_POINTS, _BLOCK),)](x, tanh, exponential, reciprocal, NUM_POINTS, BLOCK=_BLOCK)
    return judge(x, tanh, exponential, reciprocal)


def judge(x: Tensor, tanh: Tensor, exponential: Tensor, reciprocal: Tensor) -> dict[str, float]:
    """Against fp64. tanh: largest absolute error. ex2: largest relative error of 2^y at the y it was given; rcp: of 1/d
    at its d. sigma by tanh and by ex2 and rcp: largest relative and mean signed error within each interval of x, and
    largest within 0.1 of each -log n.
    """
    exact, argument = x.double(), (x * -1.4426950408889634).double()
    found = {
        "tanh max absolute": float((tanh.double() - (exact / 2).tanh()).abs().max()),
        "ex2 max relative": float((exponential.double() / argument.exp2() - 1).abs().max()),
        "rcp max relative": float((reciprocal.double() * (1 + exponential).double() - 1).abs().max()),
    }
    for name, sigma in (("tanh", 0.5 + 0.5 * tanh), ("ex2 rcp", reciprocal)):
        relative = sigma.double() / exact.sigmoid() - 1
        for low, high in _INTERVALS:
            inside = relative[(x >= low) & (x <= high)]
            found[f"sigma by {name}, {low:g} to {high:g}, max"] = float(inside.abs().max())
            found[f"sigma by {name}, {low:g} to {high:g}, mean"] = float(inside.mean())
        for length in _LENGTHS:
            near = relative[(x + math.log(length)).abs() < 0.1]
            found[f"sigma by {name}, -log {length}, max"] = float(near.abs().max())
    return found
