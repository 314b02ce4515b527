"""Draws that are pure functions of (seed, purpose, sample, position): Philox-4x32-10 (Salmon, Moraes, Dror, Shaw 2011).

Thirty-two-bit words are held in the low half of int64; the same bits on every device.

Shape legend: B sequences, S positions.
"""

import torch
from torch import Tensor

SAMPLING, REVEAL = 5, 6
"""What a draw is for; numbers are those that the model's own library uses."""

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF


def uniform(seed: int, purpose: int, samples_B: Tensor, step: int, num_positions: int) -> Tensor:
    """float64 [B, S] in (0, 1). samples_B: int64 below 2**40, the key of each row's randomness."""
    position_S = torch.arange(num_positions, device=samples_B.device)
    high_B = (samples_B >> 32) | (step << 8) | (purpose << 24)
    zero = torch.zeros((), dtype=torch.int64, device=samples_B.device)
    counters = torch.broadcast_tensors(position_S, (samples_B & _LOW)[:, None], high_B[:, None], zero)
    word0, word1 = _philox(counters, seed & _LOW, (seed >> 32) & _LOW)
    return (((word0 << 20) | (word1 >> 12)).double() + 0.5) * 2.0**-52


def _philox(counters: tuple[Tensor, ...], key0: int, key1: int) -> tuple[Tensor, Tensor]:
    """The first two words of each counter's four. Products wrap in int64, whose bits are those of the unsigned ones."""
    c0, c1, c2, c3 = counters
    for _ in range(10):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0 = ((product1 >> 32) ^ c1 ^ key0) & _LOW
        c2 = ((product0 >> 32) ^ c3 ^ key1) & _LOW
        c1, c3 = product1 & _LOW, product0 & _LOW
        key0, key1 = (key0 + _WEYL[0]) & _LOW, (key1 + _WEYL[1]) & _LOW
    return c0, c1
