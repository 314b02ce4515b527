"""Named random streams over Philox: a draw is a pure function of (seed, purpose, sample, position)."""

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from triptych.kernels.philox.philox import uniform

_LOW = 0xFFFFFFFF


class Purpose(IntEnum):
    """What a draw is for; draws of different purposes are independent. Append only: numbers are part of every run."""

    CORRUPTION = 0
    TIME = 1
    TIME_SHIFT = 2
    CONDITION_DROPOUT = 3
    CONDITION_MASKING = 4
    SAMPLING = 5
    REVEAL = 6
    AUGMENTATION = 7


@dataclass(kw_only=True, slots=True, frozen=True)
class Stream:
    """Random numbers of one run. `seed`: 0..2**64-1."""

    seed: int

    def uniform(self, purpose: Purpose, samples_B3: Tensor, num_positions: int) -> Tensor:
        """float64 [B, num_positions] in (0, 1).

        samples_B3: int64 (source id < 2**31, absolute sample index < 2**40, epoch < 2**16). Each value depends on seed,
        purpose, the row's key and the position alone: not on batch, rank or order.
        """
        source_B1, index_B1, epoch_B1 = (samples_B3[:, i : i + 1] for i in range(3))
        position_P = torch.arange(num_positions, device=samples_B3.device)
        high_B1 = (index_B1 >> 32) | (epoch_B1 << 8) | (int(purpose) << 24)
        return uniform((position_P, index_B1 & _LOW, high_B1, source_B1), self._key)

    def at(self, purpose: Purpose, indices: Tensor) -> Tensor:
        """float64 in (0, 1), shape of `indices` (int64, 0..2**40-1): one draw per absolute index, of no particular
        source.
        """
        samples_B3 = torch.stack([torch.full_like(indices, _LOW), indices, torch.zeros_like(indices)], dim=-1)
        return self.uniform(purpose, samples_B3.reshape(-1, 3), 1).reshape(indices.shape)

    @property
    def _key(self) -> tuple[int, int]:
        return self.seed & _LOW, (self.seed >> 32) & _LOW
