"""A copy of what a rank holds, in host memory that is taken once and used by every save."""

from typing import Any

import torch
from torch import Tensor

from triptych.trainer.checkpoint.shards import Box, Held, State


class Staging:
    """One fp32 buffer on the host, as large as everything that the rank holds; page-locked where the state is on
    CUDA, so that the copy runs at the bus's speed.

    torch's own page-locked memory is handed out in powers of two: 36 GB would take 64. So ordinary memory is taken
    and registered.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._buffer = torch.empty(0)

    @property
    def num_bytes(self) -> int:
        return self._buffer.numel() * self._buffer.element_size()

    def copy(self, state: State) -> State:
        """The same boxes with the values that they have now, until the next copy. The device has finished when this
        returns.
        """
        self._reserve(sum(box.tensor.numel() for held in _tensors(state) for box in held.boxes))
        taken = 0
        copies: dict[str, dict[str, Held]] = {}
        for part, tensors in state.items():
            for name, held in tensors.items():
                boxes = []
                for box in held.boxes:
                    memory = self._buffer[taken : taken + box.tensor.numel()].view(box.sizes)
                    boxes.append(Box(offsets=box.offsets, sizes=box.sizes, tensor=_copied(memory, box.tensor)))
                    taken += memory.numel()
                copies.setdefault(part, {})[name] = Held(shape=held.shape, boxes=tuple(boxes))
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        return copies

    def close(self) -> None:
        """Give the memory back."""
        if self.num_bytes and self._device.type == "cuda":
            _cuda_runtime().cudaHostUnregister(self._buffer.data_ptr())
        self._buffer = torch.empty(0)

    def _reserve(self, numel: int) -> None:
        if self._buffer.numel() >= numel:
            return
        self.close()
        self._buffer = torch.empty(numel, dtype=torch.float32)
        if self._device.type == "cuda":
            # Where the system allows no more locked memory, the copy is slower and otherwise the same.
            _cuda_runtime().cudaHostRegister(self._buffer.data_ptr(), self.num_bytes, 0)


def _cuda_runtime() -> Any:
    """CUDA's runtime functions, which torch binds without types."""
    return torch.cuda.cudart()


def _tensors(state: State) -> list[Held]:
    return [held for tensors in state.values() for held in tensors.values()]


def _copied(memory: Tensor, tensor: Tensor) -> Tensor:
    return memory.copy_(tensor.detach(), non_blocking=True)
