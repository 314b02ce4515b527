"""Philox-4x32-10 on int64 tensors (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3",
section 3.3).

Thirty-two-bit words are held in the low half of int64, so the same code runs on CPU and GPU and needs no unsigned type.
"""

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF


def _signed(word: int) -> int:
    """The int64 with the same 64 bits; torch refuses Python integers above 2**63."""
    return word - (1 << 64) if word >= 1 << 63 else word


def _multiply(words: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of the 64-bit product. It wraps in int64, whose bits are those of the unsigned one."""
    product = words * _signed(multiplier)
    return (product >> 32) & _LOW, product & _LOW


def philox_4x32(
    counters: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int], rounds: int = 10
) -> tuple[Tensor, ...]:
    """Four random 32-bit words per counter.

    counters: four int64 tensors that broadcast together, each holding 0..2**32-1; key: two such integers.
    Returns four int64 tensors of the broadcast shape, each 0..2**32-1.
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counters)
    k0, k1 = key
    for _ in range(rounds):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


def uniform(counters: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> Tensor:
    """float64 in the open interval (0, 1), 52 random bits each, one per counter; shape as the counters broadcast."""
    word0, word1, _, _ = philox_4x32(counters, key)
    bits = (word0 << 20) | (word1 >> 12)
    return (bits.double() + 0.5) * 2.0**-52
