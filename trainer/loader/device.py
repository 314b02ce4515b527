"""Rows on their way to a GPU while it computes on others: from page-locked memory, in a stream of their own."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from triptych.trainer.loader.slots import tensors_of, with_tensors


class SideStream(Protocol):
    """Where copies run beside the computation, and how the one waits for the other."""

    def entered(self) -> AbstractContextManager[Any]:
        """Within, copies are queued here."""
        ...

    def mark(self) -> Any:
        """A point behind all that has been queued here."""
        ...

    def let_computation_wait(self, mark: Any) -> None:
        """What is queued for computation from now on runs after that point."""
        ...

    def used_by_computation(self, tensor: Tensor) -> None:
        """The tensor's memory is not given to others before the computation queued so far is done."""
        ...


class CudaSideStream:
    """On one GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def entered(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._stream)

    def mark(self) -> Any:
        return self._stream.record_event()

    def let_computation_wait(self, mark: Any) -> None:
        torch.cuda.current_stream(self._device).wait_event(mark)

    def used_by_computation(self, tensor: Tensor) -> None:
        tensor.record_stream(torch.cuda.current_stream(self._device))


@dataclass(kw_only=True, slots=True, frozen=True)
class Arriving:
    """Rows of which a copy is under way. source: kept, so that its memory is not written over."""

    rows: Any
    source: Any
    mark: Any


class AheadCopies:
    """Copies that are begun before they are needed. It has been tested with a made-up stream, not on a GPU."""

    def __init__(self, stream: SideStream, copy: Callable[[Tensor], Tensor]) -> None:
        self._stream, self._copy = stream, copy

    def begin(self, rows: Any) -> Arriving:
        """rows: in page-locked memory, else the copy is not asynchronous."""
        with self._stream.entered():
            moved = with_tensors(rows, self._copy)
        return Arriving(rows=moved, source=rows, mark=self._stream.mark())

    def end(self, arriving: Arriving) -> Any:
        """The rows, safe to compute on; nobody waits on the processor."""
        self._stream.let_computation_wait(arriving.mark)
        for tensor in tensors_of(arriving.rows).values():
            self._stream.used_by_computation(tensor)
        return arriving.rows


def copies_to(device: torch.device) -> AheadCopies | None:
    """For a GPU; None for the CPU, where rows are already."""
    if device.type != "cuda":
        return None
    return AheadCopies(CudaSideStream(device), lambda tensor: tensor.to(device, non_blocking=True))
