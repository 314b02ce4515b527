"""The call as an operation of torch's: opaque to compilers, with a gradient, whatever does the work.

Saved for the backward pass are the inputs alone: sigma needs neither the output nor a statistic of a row.

Shape legend: as in `blocked`.
"""

from dataclasses import fields
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor

from triptych.kernels.flash_sigmoid import blocked
from triptych.kernels.flash_sigmoid.problem import Problem, Sigmoid, output_like

Kernel = Literal["blocked", "triton", "gluon"]
KERNELS: tuple[Kernel, ...] = ("blocked", "triton", "gluon")


class Implementation(Protocol):
    """What does the work: a module with these two functions."""

    def forward(self, query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, problem: Problem) -> Tensor:
        """O [B, S, H, E], as `output_like` lays it out; 0 where no segment is."""
        ...

    def backward(
        self, grad_BSHE: Tensor, query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, problem: Problem
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Gradients, each as `torch.empty_like` of what it belongs to: of queries, keys, values, and of bias_NH, or None
        without one; 0 where no segment is.
        """
        ...


def attend(query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, problem: Problem, kernel: Kernel) -> Tensor:
    """O [B, S, H, E]. Gradients flow to queries, keys, values and bias_NH."""
    numbers = {field.name: getattr(problem, field.name) for field in fields(problem)}
    return _forward(query_BSHD, key_BTGD, value_BTGE, kernel=kernel, **numbers)


def _implementation(kernel: str) -> Implementation:
    """Kernels are imported where they run: triton is not on every machine."""
    if kernel == "blocked":
        return cast(Implementation, blocked)
    raise ValueError(f"there is no kernel {kernel!r}; take one of {', '.join(KERNELS)}")


@torch.library.custom_op("triptych::flash_sigmoid", mutates_args=())
def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias_NH: Tensor | None,
    slopes_NH: Tensor | None,
    table_N6: Tensor | None,
    scale: float,
    bias_value: float,
    left: int,
    right: int,
    shift: int,
    max_query_length: int,
    max_key_length: int,
    sigmoid: str,
    kernel: str,
) -> Tensor:
    problem = Problem(
        scale=scale,
        bias_value=bias_value,
        left=left,
        right=right,
        shift=shift,
        max_query_length=max_query_length,
        max_key_length=max_key_length,
        sigmoid=cast(Sigmoid, sigmoid),
        bias_NH=bias_NH,
        slopes_NH=slopes_NH,
        table_N6=table_N6,
    )
    return _implementation(kernel).forward(query, key, value, problem)


@torch.library.custom_op("triptych::flash_sigmoid_backward", mutates_args=())
def _backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias_NH: Tensor | None,
    slopes_NH: Tensor | None,
    table_N6: Tensor | None,
    scale: float,
    bias_value: float,
    left: int,
    right: int,
    shift: int,
    max_query_length: int,
    max_key_length: int,
    sigmoid: str,
    kernel: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    problem = Problem(
        scale=scale,
        bias_value=bias_value,
        left=left,
        right=right,
        shift=shift,
        max_query_length=max_query_length,
        max_key_length=max_key_length,
        sigmoid=cast(Sigmoid, sigmoid),
        bias_NH=bias_NH,
        slopes_NH=slopes_NH,
        table_N6=table_N6,
    )
    dq, dk, dv, dbias = _implementation(kernel).backward(grad, query, key, value, problem)
    return dq, dk, dv, query.new_empty(0, dtype=torch.float32) if dbias is None else dbias


@_forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    return output_like(query, value.shape[3])


@_backward.register_fake
def _(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, bias_NH: Tensor | None, *_: Any, **__: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dbias = (
        query.new_empty(0, dtype=torch.float32)
        if bias_NH is None
        else query.new_empty(bias_NH.shape, dtype=torch.float32)
    )
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), dbias


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    tensors, ctx.numbers = inputs[:6], inputs[6:]
    ctx.save_for_backward(*tensors)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    query, key, value, bias_NH, slopes_NH, table_N6 = ctx.saved_tensors
    dq, dk, dv, dbias = _backward(grad, query, key, value, bias_NH, slopes_NH, table_N6, *ctx.numbers)
    return dq, dk, dv, None if bias_NH is None else dbias, *[None] * 11


_forward.register_autograd(_gradient, setup_context=_keep)
