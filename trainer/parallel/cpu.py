"""megatron-core on CPU. It names CUDA where it makes buffers; here its modules are given a `torch` that means the CPU.

Only the names `torch` inside a few megatron modules change, and two functions of its activation checkpointing that keep
CUDA's random state. Written against megatron-core 0.16.1; each entry below was found by running without it.
"""

import functools
from types import ModuleType
from typing import Any

import torch
from megatron.core import utils
from megatron.core.pipeline_parallel import p2p_communication, schedules
from megatron.core.tensor_parallel import layers, mappings, random

_CPU = torch.device("cpu")


class _CudaOnCpu(ModuleType):
    """`torch.cuda` for a machine without it: the current device is the CPU, and there is nothing to wait for."""

    def __init__(self) -> None:
        super().__init__("torch.cuda")

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cuda, name)

    @staticmethod
    def current_device() -> torch.device:
        return _CPU

    @staticmethod
    def synchronize() -> None:
        pass


class _TorchOnCpu(ModuleType):
    """`torch`, but device="cuda" makes tensors on the CPU."""

    def __init__(self) -> None:
        super().__init__("torch")
        self.cuda = _CudaOnCpu()
        self.zeros = functools.partial(_zeros)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _zeros(*size: Any, device: Any = None, **options: Any) -> torch.Tensor:
    return torch.zeros(*size, device=_CPU if device == "cuda" else device, **options)


def run_megatron_on_cpu() -> None:
    """Make megatron-core's parallel layers, schedules and recomputation run on the CPU, for the rest of this process.
    May be called again.
    """
    on_cpu = _TorchOnCpu()
    for module in (layers, mappings, schedules, p2p_communication, utils):
        module.torch = on_cpu  # type: ignore[attr-defined]
    random._get_cuda_rng_state = _random_state
    random._set_cuda_rng_state = _set_random_state


def _random_state(device: Any = None, clone: bool = False, graph_safe: bool = False) -> torch.Tensor:
    return torch.get_rng_state()


def _set_random_state(state: torch.Tensor, device: Any = None, graph_safe: bool = False) -> None:
    torch.set_rng_state(state)
