"""Named random streams over Philox: a draw is a pure function of (seed, purpose, sample, position)."""

import hashlib
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from triptych.kernels.philox.philox import Words, philox_4x32, uniform

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
    DROPOUT = 8


@dataclass(kw_only=True, slots=True, frozen=True)
class Stream:
    """Random numbers of one run. `seed`: 0..2**64-1."""

    seed: int

    def uniform(self, purpose: Purpose, samples_B3: Tensor, num_positions: int) -> Tensor:
        """float64 [B, num_positions] in (0, 1).

        samples_B3: int64 (source id < 2**31, absolute sample index < 2**40, epoch < 2**16). Each value depends on seed,
        purpose, the row's key and the position alone: not on batch, rank or order.
        """
        position_P = torch.arange(num_positions, device=samples_B3.device)
        return uniform((position_P, *_sample_words(purpose, samples_B3)), self._key)

    def uniform_at(self, purpose: Purpose, samples_X3: Tensor, positions_X: Tensor) -> Tensor:
        """float64 in (0, 1), shape of `positions_X` (int64, 0..2**32-1, any shape X): the value that `uniform` has at
        each position of the row of that key.
        """
        low, high, source = (word[..., 0] for word in _sample_words(purpose, samples_X3))
        return uniform((positions_X, low, high, source), self._key)

    def row_words(self, purpose: Purpose, samples_B3: Tensor, copies_B: Tensor) -> Words:
        """Four int64 [B], 0..2**32-1: 128 random bits per row, a pure function of its key and copy (int64, < 2**32).

        One bijection maps all rows of a run, so two rows never have the same words.
        """
        copies_B1 = copies_B.to(torch.int64)[:, None]
        word0, word1, word2, word3 = philox_4x32((copies_B1, *_sample_words(purpose, samples_B3)), self._key)
        return word0[:, 0], word1[:, 0], word2[:, 0], word3[:, 0]

    def key_of(self, name: str) -> tuple[int, int]:
        """64 random bits, as two integers of 32, that depend on the seed and a name."""
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")

    def at(self, purpose: Purpose, indices: Tensor) -> Tensor:
        """float64 in (0, 1), shape of `indices` (int64, 0..2**40-1): one draw per absolute index, of no particular
        source.
        """
        samples_B3 = torch.stack([torch.full_like(indices, _LOW), indices, torch.zeros_like(indices)], dim=-1)
        return self.uniform(purpose, samples_B3.reshape(-1, 3), 1).reshape(indices.shape)

    @property
    def _key(self) -> tuple[int, int]:
        return self.seed & _LOW, (self.seed >> 32) & _LOW


def _sample_words(purpose: Purpose, samples_B3: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The counter's last three words, int64 [..., 1]: low and high of index, epoch and purpose, then the source."""
    source_B1, index_B1, epoch_B1 = (samples_B3[..., i : i + 1] for i in range(3))
    high_B1 = (index_B1 >> 32) | (epoch_B1 << 8) | (int(purpose) << 24)
    return index_B1 & _LOW, high_B1, source_B1
