"""The four seams of the loop: data, model, objective, after-step. A system is a new part on a seam, never a new loop.

The model is any `torch.nn.Module` whose forward takes the objective's inputs and returns what its loss takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from triptych.kernels.philox import Stream
from triptych.trainer.state import TrainState

MetricSums = Mapping[str, tuple[Tensor, Tensor]]
"""Name to (sum, weight), both 0-d: added over micro-batches and ranks, then divided."""


@dataclass(kw_only=True, slots=True, frozen=True)
class LossTerms:
    """A loss as what can be added up: the engine divides, for the whole batch at once.

    sum: 0-d, differentiable. weight: 0-d, the amount that `sum` is a sum over (tokens, images). metrics: for the log.
    """

    sum: Tensor
    weight: Tensor
    metrics: MetricSums


class Targets(Protocol):
    """What `Objective.prepare` makes for `Objective.loss`; `weight` must be known before the forward pass."""

    @property
    def weight(self) -> Tensor: ...


class Rows(Protocol):
    """A batch: rows that can be cut into micro-batches."""

    def __len__(self) -> int: ...

    def rows(self, start: int, stop: int) -> Any: ...

    def to(self, device: torch.device) -> Any: ...

    @property
    def num_tokens(self) -> Tensor: ...


class Data(Protocol):
    """Where batches come from: a pure function of the cursor, so nothing but the cursor is checkpointed."""

    def batch(self, cursor: Mapping[str, int], size: int, rank: int, num_ranks: int) -> tuple[Rows, dict[str, int]]:
        """This rank's rows of the next `size` sequences, and the cursor after all of them.

        Rank r holds rows r*size/num_ranks and on, in order. ValueError if `size` does not divide.
        """
        ...


class Objective(Protocol):
    """Corruption and loss, apart: a pipeline's first stage needs the inputs, its last the targets."""

    def prepare(self, batch: Any, stream: Stream) -> tuple[Any, Targets]: ...

    def loss(self, outputs: Any, targets: Any) -> LossTerms: ...


class AfterStep(Protocol):
    """Called after every optimizer step with the state, never with the trainer."""

    def __call__(self, state: TrainState) -> None: ...
