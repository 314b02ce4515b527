"""Which kernel runs a call, and why not another.

A refusal is a clause that follows "cannot run here: ", or None where the kernel can. It looks at dtypes, sizes and
devices alone, so that nothing waits for a device.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from triptych.kernels.flash_sigmoid.operator import KERNELS, Kernel
from triptych.kernels.flash_sigmoid.problem import Problem, Sigmoid

AUTOMATIC: tuple[Kernel, ...] = ("triton", "blocked")
"""Tried in this order where no kernel is given. gluon is not among them: it has not been measured against triton."""

MAX_HEAD_DIM = 256
MIN_CAPABILITY = (8, 0)
"""Ampere: what the Triton kernels are compiled and checked for."""


@dataclass(kw_only=True, slots=True, frozen=True)
class CallFacts:
    """What the choice depends on. device: "cpu", "cuda" and so on; capability: a CUDA device's, (9, 0) for Hopper, or
    None; head_dims: of queries and keys, and of values. ValueError for a sigmoid that there is not.
    """

    device: str
    capability: tuple[int, int] | None
    dtype: torch.dtype
    head_dims: tuple[int, int]
    sigmoid: Sigmoid

    def __post_init__(self) -> None:
        if self.sigmoid not in get_args(Sigmoid):
            raise ValueError(f"sigmoid is {self.sigmoid!r}; take one of {', '.join(get_args(Sigmoid))}")


def facts_of(query_BSHD: Tensor, value_BTGE: Tensor, problem: Problem) -> CallFacts:
    """The facts of one call."""
    capability = torch.cuda.get_device_capability(query_BSHD.device) if query_BSHD.is_cuda else None
    return CallFacts(
        device=query_BSHD.device.type,
        capability=capability,
        dtype=query_BSHD.dtype,
        head_dims=(query_BSHD.shape[3], value_BTGE.shape[3]),
        sigmoid=problem.sigmoid,
    )


def triton_reason(facts: CallFacts) -> str | None:
    """Why the Triton kernels cannot run, or None."""
    if facts.device != "cuda":  # before the look for a package, which every call on a CPU would pay
        return f"it runs on CUDA, and the tensors are on {facts.device}"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if facts.capability is not None and facts.capability < MIN_CAPABILITY:
        return f"it needs compute capability 8.0, and the device has {_dotted(facts.capability)}"
    if max(facts.head_dims) > MAX_HEAD_DIM:
        return f"its head dimensions end at {MAX_HEAD_DIM}, and these are {facts.head_dims[0]} and {facts.head_dims[1]}"
    return None


def blocked_reason(facts: CallFacts) -> str | None:
    """Why the blocked kernel cannot run, or None."""
    if facts.sigmoid == "tanh":
        return 'sigmoid="tanh" is an instruction of NVIDIA\'s, which it does not imitate'
    return None


def gluon_reason(facts: CallFacts) -> str | None:
    """Why the Gluon kernels cannot run, as far as the facts tell: a call's strides and masks may refuse it too."""
    if facts.device != "cuda":  # before the look for a package, which every call on a CPU would pay
        return f"it runs on CUDA, and the tensors are on {facts.device}"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if facts.capability is not None and facts.capability[0] != 9:
        return f"it is written for compute capability 9.0, and the device has {_dotted(facts.capability)}"
    if facts.dtype not in (torch.float16, torch.bfloat16):
        return f"its products take float16 or bfloat16, and the tensors are {str(facts.dtype).removeprefix('torch.')}"
    return None


FACT_REASONS: dict[Kernel, Callable[[CallFacts], str | None]] = {
    "gluon": gluon_reason,
    "triton": triton_reason,
    "blocked": blocked_reason,
}


def refusal(kernel: Kernel, query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, problem: Problem) -> str | None:
    """Why `kernel` cannot run this call, or None. ValueError if there is no such kernel."""
    if kernel not in FACT_REASONS:
        raise ValueError(f"there is no kernel {kernel!r}; take one of {', '.join(KERNELS)}")
    reason = FACT_REASONS[kernel](facts_of(query_BSHD, value_BTGE, problem))
    if reason is None and kernel == "gluon":
        return _gluon_refusal(query_BSHD, key_BTGD, value_BTGE, problem)
    return reason


def choose_kernel(
    query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, problem: Problem, kernel: Kernel | None = None
) -> Kernel:
    """`kernel` if it can run the call; without one, the first of `AUTOMATIC` that can: triton on CUDA, else blocked.

    ValueError, with the reason, where it cannot, or none can.
    """
    tried = AUTOMATIC if kernel is None else (kernel,)
    reasons: list[str] = []
    for name in tried:
        reason = refusal(name, query_BSHD, key_BTGD, value_BTGE, problem)
        if reason is None:
            return name
        reasons.append(f"{name} cannot run here: {reason}")
    mend = "leave `kernel` out, or change what it names" if kernel else "change what they name"
    raise ValueError(f"{', and '.join(reasons)}; {mend}")


def _gluon_refusal(query: Tensor, key: Tensor, value: Tensor, problem: Problem) -> str | None:
    try:
        launch = importlib.import_module("triptych.kernels.flash_sigmoid.hopper.launch")
    except ImportError as error:
        return f"it cannot be imported ({error})"
    return launch.refusal(query, key, value, problem)


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
