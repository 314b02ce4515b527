"""Memory of this process by part. On CUDA what torch's allocator gave out, on a CPU the process's resident memory.

Tensors that live are counted one by one, so parameters, optimizer and gradients are exact; activations and the peak are
differences of what allocator or system say.
"""

import ctypes
import gc
import itertools
import mmap
import resource
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_KIB = 1024
_PAGE = mmap.PAGESIZE
_FEW_PAGES = 64


class Memory:
    """What is held beyond what was held when this was made."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._on_cuda = device.type == "cuda"
        self._living = sum(living(device).values())
        self._base = 0
        self._base = self.now()

    def now(self) -> int:
        """Bytes, the work of the device not waited for: its allocator gives out when work is asked for."""
        if self._on_cuda:
            return torch.cuda.memory_allocated(self._device) - self._base
        _give_back_free_memory()
        return _resident("VmRSS") - self._base

    def restart_peak(self) -> None:
        """The peak is that from now on; on a CPU whose system does not let it begin anew, that of the process."""
        if self._on_cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
        elif _CLEAR.exists():
            try:
                _CLEAR.write_text("5")
            except OSError:
                return

    @property
    def peak(self) -> int:
        """Bytes."""
        held = torch.cuda.max_memory_allocated(self._device) if self._on_cuda else _resident("VmHWM")
        return held - self._base

    @property
    def peak_reserved(self) -> int | None:
        """What the allocator took from the device, bytes; None on a CPU."""
        return torch.cuda.max_memory_reserved(self._device) if self._on_cuda else None

    @property
    def living(self) -> int:
        """Bytes of the device's tensors that live now."""
        return sum(living(self._device).values()) - self._living


class MemoryStages:
    """Listens to a step: what living tensors hold when the optimizer begins, and the most that forward passes kept for
    backward passes that had not been.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._part = "other"
        self._began = 0
        self._kept: list[int] = []
        self.activations = 0
        self.held = 0

    def __call__(self, part: str) -> None:
        if self._part == "forward":
            self._kept.append(max(0, self._memory.now() - self._began))
            self.activations = max(self.activations, sum(self._kept))
        if self._part == "backward" and self._kept:
            self._kept.pop(0)
        if part == "forward":
            self._began = self._memory.now()
        if part == "optimizer":
            self.held = self._memory.living
        self._part = part


def measured_parts(
    *, parameters: dict[int, int], optimizer: dict[int, int], stages: MemoryStages, peak: int
) -> dict[str, int]:
    """`record.MEMORY_PARTS` as measured: bytes. parameters, optimizer: address to bytes; what both hold, as fp32
    without ZeRO does, are parameters.
    """
    of_parameters = sum(parameters.values())
    of_optimizer = sum(size for address, size in optimizer.items() if address not in parameters)
    gradients = max(0, stages.held - of_parameters - of_optimizer)
    known = of_parameters + of_optimizer + gradients + stages.activations
    return {
        "parameters": of_parameters,
        "gradients": gradients,
        "optimizer": of_optimizer,
        "activations": stages.activations,
        "other": max(0, peak - known),
    }


def storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Address to bytes of what lies under these tensors, each once; on a CPU the bytes that it has backed with memory,
    which it does when they are written.
    """
    every = (tensor.untyped_storage() for tensor in tensors)
    found = {storage.data_ptr(): storage for storage in every if storage.device.type != "meta"}  # so are fake tensors'
    return {
        address: backed_bytes(address, storage.nbytes()) if storage.device.type == "cpu" else storage.nbytes()
        for address, storage in found.items()
        if storage.nbytes()
    }


def backed_bytes(address: int, size: int) -> int:
    """Of so many bytes at an address of this process, those in pages that are in memory; all where that is not told."""
    first = address // _PAGE * _PAGE
    num_pages = -(-(address + size - first) // _PAGE)
    if num_pages < _FEW_PAGES:
        return size
    present = (ctypes.c_ubyte * num_pages)()
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "mincore") or libc.mincore(
        ctypes.c_void_p(first), ctypes.c_size_t(num_pages * _PAGE), present
    ):
        return size
    return min(size, int(np.frombuffer(bytes(present), np.uint8).astype(bool).sum()) * _PAGE)


def living(device: torch.device) -> dict[int, int]:
    """Address to bytes, of every tensor and gradient on the device that Python knows of."""
    gc.collect()
    # By type: `isinstance` asks some lazy modules for their class, which they then load.
    things = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
    tensors = [tensor for tensor in things if tensor.device.type == device.type and tensor.layout == torch.strided]
    gradients = [tensor.grad for tensor in tensors if tensor.is_leaf and tensor.grad is not None]
    return storages(itertools.chain(tensors, gradients))


def machine_memory_bytes() -> int:
    """Of this machine."""
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * _KIB for line in lines if line.startswith("MemTotal:"))


def _give_back_free_memory() -> None:
    """What is free but kept by the C library would count as resident. Only glibc's can be told."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _resident(name: str) -> int:
    """Bytes, as Linux tells; elsewhere the peak."""
    if not _STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * _KIB for line in lines if line.startswith(f"{name}:"))
