"""A batch of token sequences, with what the objective needs to key its noise.

Shape legend: B sequences, S positions.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from torch import Tensor

_TENSORS = ("tokens_BS", "roles_BS", "samples_B3", "copies_B", "numbers_B")


class Role(IntEnum):
    """What a position is to the objective."""

    GIVEN = 0  # task and boundary tokens: never masked, no loss
    CONDITION = 1  # the side of a pair that is given
    TARGET = 2  # may be masked, carries loss
    PADDING = 3  # beyond the end: not attended to, no loss


@dataclass(kw_only=True, slots=True, frozen=True)
class Batch:
    """Rows of a run, or a slice of them.

    tokens_BS: int64, clean ids. roles_BS: uint8, `Role`. samples_B3: int64 (source id, absolute sample index, epoch),
    the key of a row's noise. copies_B: int64, 0, or 1 for the complement twin of the row before. numbers_B: int64, the
    row's number in the run, from 0, whatever batches the run was cut into.
    """

    tokens_BS: Tensor
    roles_BS: Tensor
    samples_B3: Tensor
    copies_B: Tensor
    numbers_B: Tensor

    def __len__(self) -> int:
        return self.tokens_BS.shape[0]

    def rows(self, start: int, stop: int) -> "Batch":
        """Rows start..stop of these."""
        return replace(self, **{name: getattr(self, name)[start:stop] for name in _TENSORS})

    def to(self, device: torch.device) -> "Batch":
        """The same rows on another device."""
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in _TENSORS})

    @property
    def num_tokens(self) -> Tensor:
        """0-d int64: positions that are not padding. This is what the run's clock counts."""
        return (self.roles_BS != Role.PADDING).sum()
