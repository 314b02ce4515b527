"""Philox-4x32-10 on int64 tensors (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3",
section 3.3).

Thirty-two-bit words are held in the low half of int64, so the same code runs on CPU and GPU and needs no unsigned type.
Only integer operations, and float64 ones whose result is exact, so that every device gives the same bits.
"""

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF

Words = tuple[Tensor, Tensor, Tensor, Tensor]
"""Four int64 tensors that hold 0..2**32-1."""


def philox_4x32(
    counters: Words,
    key: tuple[int, int] | tuple[Tensor, Tensor],
    rounds: int = 10,
) -> Words:
    """Four random 32-bit words per counter.

    counters: broadcast together. key: two integers 0..2**32-1, or int64 tensors of such that broadcast to the shape of
    the third counter and to that of the fourth.
    Returns words of the broadcast shape.

    The counters are not expanded first: until the words have mixed, a round costs as much as the smaller shapes. The
    products wrap in int64, whose bits are those of the unsigned ones.
    """
    c0, c1, c2, c3 = counters
    k0, k1 = key
    for _ in range(rounds):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        # c1 and c3 keep the high halves of their products; the mask on the sum clears them.
        c0 = _xor(product1 >> 32, c1).bitwise_xor_(k0).bitwise_and_(_LOW)
        c2 = _xor(product0 >> 32, c3).bitwise_xor_(k1).bitwise_and_(_LOW)
        c1, c3 = product1, product0
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    w0, w1, w2, w3 = torch.broadcast_tensors(c0, c1 & _LOW, c2, c3 & _LOW)
    return w0, w1, w2, w3


def uniform(counters: Words, key: tuple[int, int]) -> Tensor:
    """float64 in the open interval (0, 1), 52 random bits each, one per counter; shape as the counters broadcast."""
    word0, word1, _, _ = philox_4x32(counters, key)
    bits = (word0 << 20) | (word1 >> 12)
    return (bits.double() + 0.5) * 2.0**-52


def _xor(fresh: Tensor, other: Tensor) -> Tensor:
    """In place where the shape allows it: the working memory is what limits the speed."""
    return fresh.bitwise_xor_(other) if fresh.shape == other.shape else fresh ^ other
