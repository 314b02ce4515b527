"""A keyed permutation of 0..n-1 that is computed, not stored: memory does not grow with the data.

A six-round balanced Feistel network over the smallest even number of bits that holds n, walked until the value falls
below n (Black and Rogaway 2002, "Ciphers with arbitrary finite domains", cycle walking). Shuffling, not secrecy: the
round function is the finalizer of splitmix64. Of few numbers a network of so few bits does not reach all permutations
alike; up to 4,096 of them are sorted by outputs of splitmix64 (Steele et al. 2014) instead.
"""

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 6
_MAX_SORTED = 4096
_GOLDEN = 0x9E3779B97F4A7C15


def permuted(indices: NDArray[np.int64], size: int, key: int) -> NDArray[np.int64]:
    """The images of `indices` (int64, 0..size-1) under the permutation of 0..size-1 that `key` (0..2**64-1) names."""
    if size <= _MAX_SORTED:
        draws = _mix(np.uint64(key) + np.arange(1, size + 1, dtype=np.uint64) * np.uint64(_GOLDEN))  # no two alike
        return np.argsort(draws)[indices]
    half_bits = ((size - 1).bit_length() + 1) // 2
    values = _feistel(indices.astype(np.uint64), half_bits, key)
    outside = values >= size
    while outside.any():
        values[outside] = _feistel(values[outside], half_bits, key)
        outside = values >= size
    return values.astype(np.int64)


def _feistel(values: NDArray[np.uint64], half_bits: int, key: int) -> NDArray[np.uint64]:
    """One pass of the network over 2 * half_bits bits."""
    mask = np.uint64((1 << half_bits) - 1)
    left, right = values >> np.uint64(half_bits), values & mask
    for number in range(_ROUNDS):
        round_key = np.uint64((key + (number + 1) * _GOLDEN) & 0xFFFFFFFFFFFFFFFF)
        left, right = right, left ^ (_mix(right ^ round_key) & mask)
    return (left << np.uint64(half_bits)) | right


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finalizer; uint64 arithmetic wraps, as it must."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
