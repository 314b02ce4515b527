"""One average of the weights, on one rank."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from triptych.trainer.averages.config import AverageConfig
from triptych.trainer.checkpoint.shards import Box, Held, State
from triptych.trainer.state import TrainState


class Average:
    """An fp32 average of the weights that this rank holds, in the same boxes; something that a run carries.

    The engine's tensors are asked for once: the optimizer writes them in place.
    """

    def __init__(self, config: AverageConfig, state: TrainState) -> None:
        """Begins as the weights of the state's engine. state: its clock is read at every update."""
        self._config = config
        self._state = state
        self._weights: list[Tensor] = []
        self._average: list[Tensor] = []
        self._held = {name: self._beside(held) for name, held in state.engine.held()["weights"].items()}
        self._buffers: list[Tensor] = []
        self._average_of_buffers: list[Tensor] = []
        if config.buffers != "none":
            for name, buffer in _floating_buffers(state.engine.chunks):
                self._held[name] = self._beside_buffer(buffer)
        self._swapped = False
        self._begin()

    def update(self) -> None:
        """Take in the weights of the step that has just been made, if an update is due. No communication."""
        assert not self._swapped, "the engine's weights are this average now"
        tokens = self._state.tokens
        every = self._config.update_every_tokens
        if every and tokens // every == self._tokens // every:
            return
        if tokens <= self._config.start_tokens:
            self._begin()
            return
        logical_updates = self._state.logical_updates - self._logical_updates
        assert logical_updates > 0, "an update follows a step"
        share = self._config.share(
            tokens=tokens - self._tokens, logical_updates=logical_updates, averaged=self._averaged
        )
        _mix(self._average, self._weights, share)
        _mix(self._average_of_buffers, self._buffers, share if self._config.buffers == "average" else 1.0)
        self._averaged += logical_updates
        self._take_time()

    def held(self) -> State:
        assert not self._swapped, "a checkpoint must not take the average for the weights"
        return {self._config.part: self._held}

    def document(self) -> dict[str, Any]:
        return {"tokens": self._tokens, "logical_updates": self._logical_updates, "averaged": self._averaged}

    def restore(self, document: Mapping[str, Any] | None) -> None:
        """Go on where the checkpoint stood; without a document, begin as the weights that were loaded."""
        if document is None:
            self._begin()
            return
        self._tokens, self._logical_updates = document["tokens"], document["logical_updates"]
        self._averaged = document["averaged"]

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The model has the average for its weights until this ends, then its own again, bit for bit.

        All ranks enter and leave together, also by an exception: the weights are gathered over data-parallel ranks. The
        rank's own weights are kept on the average's device meanwhile. No step and no checkpoint within; another
        average's swap may be.
        """
        assert not self._swapped, "it is swapped in already"
        weights, buffers = (
            [tensor.to(average.device, copy=True) for tensor, average in zip(tensors, averages, strict=True)]
            for tensors, averages in ((self._weights, self._average), (self._buffers, self._average_of_buffers))
        )
        self._swapped = True
        try:
            self._put(self._average, self._average_of_buffers)
            yield
        finally:
            self._put(weights, buffers)
            self._swapped = False

    def _put(self, weights: list[Tensor], buffers: list[Tensor]) -> None:
        """Give the model these weights."""
        _mix(self._weights, weights, 1.0)
        _mix(self._buffers, buffers, 1.0)
        self._state.engine.weights_written()

    def _begin(self) -> None:
        """The average is the weights of now."""
        _mix(self._average, self._weights, 1.0)
        _mix(self._average_of_buffers, self._buffers, 1.0)
        self._averaged = 0.0
        self._take_time()

    def _take_time(self) -> None:
        self._tokens, self._logical_updates = self._state.tokens, self._state.logical_updates

    def _beside(self, held: Held) -> Held:
        """Memory of the average for each box of the weights."""
        boxes = tuple(replace(box, tensor=self._memory(box.tensor)) for box in held.boxes)
        self._weights += [box.tensor for box in held.boxes]
        self._average += [box.tensor for box in boxes]
        return Held(shape=held.shape, boxes=boxes)

    def _beside_buffer(self, buffer: Tensor) -> Held:
        shape, memory = tuple(buffer.shape), self._memory(buffer)
        self._buffers.append(buffer)
        self._average_of_buffers.append(memory)
        return Held(shape=shape, boxes=(Box(offsets=(0,) * len(shape), sizes=shape, tensor=memory),))

    def _memory(self, tensor: Tensor) -> Tensor:
        device = tensor.device if self._config.device == "model" else torch.device("cpu")
        return torch.empty_like(tensor, dtype=torch.float32, device=device, requires_grad=False)


@torch.no_grad()
def _mix(targets: list[Tensor], sources: list[Tensor], share: float) -> None:
    """targets += share * (sources - targets), in place, in the targets' dtype and on their device; exact at 1.

    fp32 stalls where a weight is, relatively, within 6e-8 / share of the average; bf16 would within 4e-3 / share.
    """
    if not targets:
        return
    if share == 1.0:
        torch._foreach_copy_(targets, sources)
    elif all(_alike(*pair) for pair in zip(targets, sources, strict=True)):
        torch._foreach_lerp_(targets, sources, share)
    else:
        for target, source in zip(targets, sources, strict=True):  # one tensor at a time on the other device
            target.lerp_(source.to(target), share)


def _alike(target: Tensor, source: Tensor) -> bool:
    return (target.device, target.dtype) == (source.device, source.dtype)


def _floating_buffers(chunks: Sequence[nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """Those that a state_dict has; the others are constants."""
    for chunk in chunks:
        floating = [(name, buffer) for name, buffer in chunk.named_buffers() if buffer.is_floating_point()]
        if floating:
            persistent = chunk.state_dict().keys()
            yield from ((name, buffer.detach()) for name, buffer in floating if name in persistent)
