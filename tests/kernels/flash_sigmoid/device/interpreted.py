"""The kernels as functions of Triton's interpreter, in a process that compiles them as well.

Triton decides by an environment variable, when a kernel is decorated. Here a function is copied instead, with globals
in which every compiled function is an interpreted one, down to the functions that it calls. Of those that are compiled
functions within `triton.language`, kernels may call tl.sum and tl.max.
"""

from types import FunctionType
from unittest import mock

import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

from triptych.kernels.flash_sigmoid.device.launch import Kernels, Launcher
from triptych.kernels.flash_sigmoid.device.schedules import Schedule

DIRECTIONS = ("forward", "query_gradient", "key_gradient")


class Interpreted(InterpretedFunction):
    def run(self, *args, **kwargs):
        reductions = {name: InterpretedFunction(getattr(tl, name).fn) for name in ("sum", "max")}
        with mock.patch.multiple(tl, **reductions):
            return super().run(*args, **kwargs)


def interpreted(kernel, kind=Interpreted):
    """An interpreted copy of a compiled function."""
    fn = kernel.fn
    copy = FunctionType(fn.__code__, dict(fn.__globals__), fn.__name__, fn.__defaults__)
    copy.__annotations__ = fn.__annotations__
    for name in fn.__code__.co_names:
        if isinstance(fn.__globals__.get(name), JITFunction):
            copy.__globals__[name] = interpreted(fn.__globals__[name], InterpretedFunction)
    return kind(copy)


def launcher(block_queries=32, block_keys=32, scores_ahead=1, num_passes=1):
    """The kernels interpreted, with the same small tiles in every direction."""
    compiled = Kernels()
    names = (*DIRECTIONS, "largest_norms")
    schedule = Schedule(
        block_queries=block_queries,
        block_keys=block_keys,
        num_warps=4,
        num_stages=2,
        scores_ahead=scores_ahead,
        num_passes=num_passes,
    )
    return Launcher(
        kernels=Kernels(**{name: interpreted(getattr(compiled, name)) for name in names}),
        schedules=dict.fromkeys(DIRECTIONS, schedule),
    )
