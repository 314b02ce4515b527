"""The call as an operation of torch's, with a gradient, whatever does the work.

Plain tensors go through an autograd function; what a compiler traces, or a subclass of Tensor, through operators that
are opaque to it (`torch.ops.triptych.flash_sigmoid`). Saved for the backward pass are the inputs alone: sigma needs
neither the output nor a statistic of a row.

Shape legend: as in `blocked`.
"""

import contextlib
import importlib
from dataclasses import fields
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor

from triptych.kernels.flash_sigmoid.problem import Problem, output_like

Kernel = Literal["blocked", "triton", "gluon"]
KERNELS: tuple[Kernel, ...] = ("blocked", "triton", "gluon")

_MODULES = {
    "blocked": "triptych.kernels.flash_sigmoid.blocked",
    "triton": "triptych.kernels.flash_sigmoid.device.launch",
    "gluon": "triptych.kernels.flash_sigmoid.hopper.launch",
}
_PROBLEM_FIELDS = tuple(field.name for field in fields(Problem))
_INPUTS = (
    "Tensor query, Tensor key, Tensor value, float scale, float bias_value, SymInt left, SymInt right, SymInt shift, "
    "SymInt max_query_length, SymInt max_key_length, str sigmoid, Tensor? bias_NH, Tensor? slopes_NH, "
    "Tensor? table_N6, str kernel"
)
"""Tensors, the fields of `Problem` in their order, and the kernel."""


class Implementation(Protocol):
    """What does the work: a module with these two functions."""

    def forward(self, query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, problem: Problem) -> Tensor:
        """O [B, S, H, E], as `output_like` lays it out; 0 where no segment is."""
        ...

    def backward(
        self, grad_BSHE: Tensor, query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, problem: Problem
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Gradients, each as `torch.empty_like` of what it belongs to: of queries, keys, values, and of bias_NH, fp32
        and contiguous, or None without one; 0 where no segment is.
        """
        ...


def attend(query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, problem: Problem, kernel: Kernel) -> Tensor:
    """O [B, S, H, E]. Gradients flow to queries, keys, values and bias_NH; gradients of gradients raise ValueError."""
    values = [getattr(problem, name) for name in _PROBLEM_FIELDS]
    if torch.compiler.is_compiling() or type(query_BSHD) not in (Tensor, torch.nn.Parameter):
        return _forward(query_BSHD, key_BTGD, value_BTGE, *values, kernel)
    return cast(Tensor, _Attention.apply(query_BSHD, key_BTGD, value_BTGE, *values, kernel))


def _implementation(kernel: str) -> Implementation:
    """Kernels are imported where they run: triton is not on every machine."""
    if kernel not in _MODULES:
        raise ValueError(f"there is no kernel {kernel!r}; take one of {', '.join(KERNELS)}")
    return cast(Implementation, importlib.import_module(_MODULES[kernel]))


def _run_forward(query: Tensor, key: Tensor, value: Tensor, *values: Any) -> Tensor:
    with _in_own_precision(query):
        return _implementation(values[-1]).forward(query, key, value, _problem(values))


def _run_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *values: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """An operator returns as many tensors every time: without a bias, the last one is empty."""
    with _in_own_precision(query):
        dq, dk, dv, db_NH = _implementation(values[-1]).backward(grad, query, key, value, _problem(values))
    return dq, dk, dv, query.new_empty(0, dtype=torch.float32) if db_NH is None else db_NH


def _problem(values: tuple[Any, ...]) -> Problem:
    return Problem(**dict(zip(_PROBLEM_FIELDS, values, strict=False)))  # behind them stands the kernel


def _in_own_precision(query: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Without autocast, which would narrow the products of a kernel that is written in torch's operations."""
    device = query.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor | None = None) -> None:
    tensors = [x for x in inputs if isinstance(x, Tensor)]
    ctx.layout = [None if isinstance(x, Tensor) else (x,) for x in inputs]
    ctx.save_for_backward(*tensors)


def _kept(ctx: Any) -> list[Any]:
    tensors = iter(ctx.saved_tensors)
    return [next(tensors) if entry is None else entry[0] for entry in ctx.layout]


def _by_input(grads: tuple[Tensor, ...], inputs: list[Any]) -> tuple[Tensor | None, ...]:
    """Gradients in the order of the inputs."""
    dq, dk, dv, db_NH = grads
    bias = 3 + _PROBLEM_FIELDS.index("bias_NH")
    return dq, dk, dv, *(db_NH if n == bias and inputs[n] is not None else None for n in range(3, len(inputs)))


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        _keep(ctx, inputs)
        return _run_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        inputs = _kept(ctx)
        run = _OnlyOnce.apply if torch.is_grad_enabled() else _run_backward
        return _by_input(cast("tuple[Tensor, ...]", run(*grads, *inputs)), inputs)


class _OnlyOnce(torch.autograd.Function):
    """The backward pass where its graph is asked for too (create_graph=True)."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return _run_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        _refuse(ctx, *grads)


def _refuse(ctx: Any, *grads: Any) -> Any:
    raise ValueError(
        "gradients of gradients of sigmoid attention are not computed; leave create_graph out, or take the function of "
        "kernels/flash_sigmoid/reference.py"
    )


_forward = torch.library.custom_op(
    "triptych::flash_sigmoid", _run_forward, mutates_args=(), schema=f"({_INPUTS}) -> Tensor"
)
_backward = torch.library.custom_op(
    "triptych::flash_sigmoid_backward",
    _run_backward,
    mutates_args=(),
    schema=f"(Tensor grad, {_INPUTS}) -> (Tensor, Tensor, Tensor, Tensor)",
)


@_forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> Tensor:
    return output_like(query, value.shape[3])


@_backward.register_fake
def _(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *values: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    bias_NH = _problem(values).bias_NH
    db_NH = query.new_empty(0 if bias_NH is None else bias_NH.shape, dtype=torch.float32)
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), db_NH


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    inputs = _kept(ctx)
    return _by_input(_backward(grad, *inputs), inputs)


_forward.register_autograd(_gradient, setup_context=_keep)
_backward.register_autograd(_refuse)
