"""Which of many samples are the first of their kind.

Memory: 48 bytes a sample for exact duplicates, and as much for near ones while one band after the other is sorted; what
signatures are compared is read from the disk as it is needed.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

_PAIRS_AT_ONCE = 1 << 14


def first_of_each(digests: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether each row of uint64 [samples, 2] comes for the first time."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: equal rows stay in their order
    ordered = digests[order]
    begins = np.ones(len(digests), bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.zeros(len(digests), bool)
    first[order[begins]] = True
    return first


def first_of_each_cluster(
    num_samples: int,
    bands: Iterable[NDArray[np.uint64]],
    signatures: Callable[[NDArray[np.int64]], NDArray[np.uint32]],
    threshold: float,
) -> NDArray[np.bool_]:
    """Whether each sample is the first of its cluster.

    Samples that share a value in a band are candidates: each is compared with the one before it and with the first that
    has this value, so a crowd of n costs 2 n comparisons. A cluster is what pairs of at least `threshold` connect.
    bands: uint64 [samples] each. signatures: of samples by number, uint32 [n, permutations].
    """
    parent = np.arange(num_samples, dtype=np.int64)
    for values in bands:
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        again = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
        begins = np.ones(num_samples, bool)
        begins[again] = False
        first = np.maximum.accumulate(np.where(begins, np.arange(num_samples), 0))[again]
        _connect(parent, order[first], order[again], signatures, threshold)
        again = again[first != again - 1]
        _connect(parent, order[again - 1], order[again], signatures, threshold)
    return parent == np.arange(num_samples)


def _connect(
    parent: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    signatures: Callable[[NDArray[np.int64]], NDArray[np.uint32]],
    threshold: float,
) -> None:
    """Put pairs that are alike into one cluster. parent: of each sample its cluster's first, before and after."""
    for start in range(0, len(left), _PAIRS_AT_ONCE):
        a, b = left[start : start + _PAIRS_AT_ONCE], right[start : start + _PAIRS_AT_ONCE]
        apart = parent[a] != parent[b]
        a, b = a[apart], b[apart]
        if len(a) == 0:
            continue
        alike = (signatures(a) == signatures(b)).mean(axis=1) >= threshold
        for one, other in zip(a[alike].tolist(), b[alike].tolist(), strict=True):
            low, high = sorted((_root(parent, one), _root(parent, other)))
            parent[high] = low
    while (parent != (above := parent[parent])).any():
        parent[:] = above


def _root(parent: NDArray[np.int64], sample: int) -> int:
    while parent[sample] != sample:
        sample = int(parent[sample])
    return sample
