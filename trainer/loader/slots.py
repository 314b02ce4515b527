"""Rows of a batch through memory that two processes share.

A slot is a file that exists in memory alone (memfd): it takes nothing of /dev/shm, which is 64 MB in many containers,
and one descriptor however many tensors a batch has. The writer lets it grow to its largest batch.
"""

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from multiprocessing import reduction
from typing import Any, Self

import torch
from torch import Tensor

_ALIGNMENT_BYTES = 64
_GROWTH = 1.25  # beyond what a batch needs: the next is seldom much larger


@dataclass(kw_only=True, slots=True, frozen=True)
class _Placed:
    """Stands for a tensor of a batch whose values are in a slot."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int


def tensors_of(rows: Any) -> dict[str, Tensor]:
    """The tensors among the fields of rows, which must be a dataclass."""
    return {field.name: value for field in fields(rows) if isinstance(value := getattr(rows, field.name), Tensor)}


def with_tensors(rows: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same rows, each tensor changed."""
    return replace(rows, **{name: change(tensor) for name, tensor in tensors_of(rows).items()})


class Slot:
    """One process's view of a slot. It can be an argument of a process that is being started, which then shares it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._map: mmap.mmap | None = None

    @classmethod
    def new(cls) -> Self:
        """An empty one. OSError if no more files may be opened."""
        return cls(os.memfd_create("batch", os.MFD_CLOEXEC))

    def __reduce__(self) -> tuple[Any, tuple[Any]]:
        return _received, (reduction.DupFd(self.descriptor),)

    def write(self, rows: Any) -> Any:
        """Put the rows' tensors into the slot; returns the rows with stand-ins for them, which are cheap to send."""
        placed, end = {}, 0
        for name, tensor in tensors_of(rows).items():
            placed[name] = _Placed(dtype=tensor.dtype, shape=tuple(tensor.shape), offset=end)
            end += -(-tensor.nbytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        if end > os.fstat(self.descriptor).st_size:
            os.ftruncate(self.descriptor, int(end * _GROWTH))
        for name, place in placed.items():
            self._view(place).copy_(getattr(rows, name))
        return replace(rows, **placed)

    def read(self, sent: Any, *, pinned: bool) -> Any:
        """The rows that `write` returned stand-ins for, in memory of their own, page-locked if asked for."""
        places = {field.name: getattr(sent, field.name) for field in fields(sent)}
        tensors = {
            name: torch.empty(place.shape, dtype=place.dtype, pin_memory=pinned).copy_(self._view(place))
            for name, place in places.items()
            if isinstance(place, _Placed)
        }
        return replace(sent, **tensors)

    def close(self) -> None:
        """Give the descriptor back; the memory goes with the last process that has it."""
        self._map = None
        os.close(self.descriptor)

    def _view(self, place: _Placed) -> Tensor:
        count = torch.Size(place.shape).numel()
        if not count:
            return torch.empty(place.shape, dtype=place.dtype)
        end = place.offset + count * place.dtype.itemsize
        if self._map is None or len(self._map) < end:
            self._map = mmap.mmap(self.descriptor, os.fstat(self.descriptor).st_size)
        return torch.frombuffer(self._map, dtype=place.dtype, count=count, offset=place.offset).view(place.shape)


def _received(descriptor: Any) -> Slot:
    return Slot(descriptor.detach())
