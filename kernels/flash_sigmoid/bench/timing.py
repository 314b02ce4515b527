"""Milliseconds of a call, and what large matrix products reach on the same device."""

import statistics
import time
from collections.abc import Callable
from typing import cast

import torch

from triptych.kernels.flash_sigmoid.bench.cases import Direction, Shape
from triptych.kernels.flash_sigmoid.bench.contenders import Contender, draw

_MATRIX_SIZES = {"cuda": (8192, 16384), "cpu": (1024, 2048)}
_CPU_SECONDS = 0.3


def milliseconds(contender: Contender, shape: Shape, direction: Direction, device: torch.device) -> float:
    """Median of many calls. backward: the gradients of queries, keys and values alone, of a forward pass before it."""
    contender.require(shape)
    query, key, value, grad = draw(shape, device)
    if direction == "forward":
        with torch.no_grad():
            return median_milliseconds(lambda: contender.call(query, key, value, shape), device)
    inputs = (query.requires_grad_(), key.requires_grad_(), value.requires_grad_())
    out = contender.call(query, key, value, shape)
    return median_milliseconds(lambda: torch.autograd.grad(out, inputs, grad, retain_graph=True), device)


def call_once(contender: Contender, shape: Shape, device: torch.device) -> None:
    """Forward and backward."""
    query, key, value, grad = draw(shape, device)
    inputs = (query.requires_grad_(), key.requires_grad_(), value.requires_grad_())
    torch.autograd.grad(contender.call(query, key, value, shape), inputs, grad)


def median_milliseconds(work: Callable[[], object], device: torch.device) -> float:
    """On CUDA by events, the L2 cache flushed before each call; on a CPU by the clock, after a call that warms up."""
    if device.type == "cuda":
        from triton.testing import do_bench

        return cast(float, do_bench(work, return_mode="median"))
    taken, deadline = [], None
    while deadline is None or len(taken) < 4 or time.perf_counter() < deadline:
        deadline = deadline or time.perf_counter() + _CPU_SECONDS
        start = time.perf_counter()
        work()
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken[1:])


def matmul_tflops(device: torch.device) -> dict[str, float]:
    """`tflops`: the most that a product of two square matrices of random numbers reached, in bf16 on CUDA and fp32 on a
    CPU; `size`: that product's.
    """
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    found = []
    for size in _MATRIX_SIZES[device.type]:
        left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        taken = median_milliseconds(lambda a=left, b=right: torch.matmul(a, b), device)
        found.append((2 * size**3 / taken / 1e9, size))
    tflops, size = max(found)
    return {"tflops": tflops, "size": size}
