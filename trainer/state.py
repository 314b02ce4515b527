"""Where a run stands. Tokens are its clock; the step is only counted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triptych.trainer.engine.engine import Engine


@dataclass(kw_only=True, slots=True)
class TrainState:
    """What the loop carries from step to step, and what a checkpoint holds besides weights and moments.

    tokens: positions seen that were not padding, over all ranks. cursor: one counter per data source.
    """

    engine: "Engine"
    tokens: int = 0
    step: int = 0
    cursor: Mapping[str, int] = field(default_factory=dict)
