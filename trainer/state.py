"""Where a run stands. Tokens are its clock; the step is only counted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from triptych.trainer.checkpoint.shards import State

if TYPE_CHECKING:
    from triptych.trainer.engine.engine import Engine


class Carried(Protocol):
    """What a run carries besides weights, moments and its place in the data: averages of the weights, estimates."""

    def held(self) -> State:
        """Tensors, as this rank holds them, to be read or written in place. Parts must not be the engine's."""
        ...

    def document(self) -> dict[str, Any]:
        """Numbers, equal on every rank, that JSON keeps."""
        ...

    def restore(self, document: Mapping[str, Any] | None) -> None:
        """Called once a load has filled everything else of the state, and `held`; None if the checkpoint knows nothing
        of this, and `held` is as it was.
        """
        ...


@dataclass(kw_only=True, slots=True)
class TrainState:
    """What the loop carries from step to step, and what a checkpoint holds besides weights and moments.

    tokens: positions seen that were not padding, over all ranks. logical_updates: optimizer steps in units of one at
    the logical batch, the sum of every step's kappa. batch: sequences of the last step, None before the first. cursor:
    one counter per data source. carried: by name.
    """

    engine: "Engine"
    tokens: int = 0
    step: int = 0
    logical_updates: float = 0.0
    batch: int | None = None
    cursor: Mapping[str, int] = field(default_factory=dict)
    carried: dict[str, Carried] = field(default_factory=dict)
