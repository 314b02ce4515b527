from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.data_pipelines.stream.permutation import permuted

KEYS = np.random.default_rng(0).integers(0, 2**64, 6_000, dtype=np.uint64).tolist()


@given(size=st.one_of(st.integers(1, 300), st.integers(4090, 6000)), key=st.integers(0, 2**64 - 1))
def test_every_number_comes_once(size, key):
    assert np.array_equal(np.sort(permuted(np.arange(size), size, key)), np.arange(size))


@given(size=st.integers(5000, 2**62), key=st.integers(0, 2**64 - 1))
def test_large_sizes_stay_in_range_and_need_no_table(size, key):
    found = permuted(np.array([0, size // 2, size - 1]), size, key)
    assert found.min() >= 0 and found.max() < size
    assert len(set(found.tolist())) == 3


@pytest.mark.parametrize(("size", "limit"), [(2, 10.8), (3, 20.5), (4, 49.7)])
def test_all_orders_of_few_are_equally_likely(size, limit):
    """Chi-square over 6,000 keys with size! - 1 degrees of freedom, 99.9th percentiles."""
    counts = Counter(tuple(permuted(np.arange(size), size, key)) for key in KEYS)
    expected = len(KEYS) / len(list(permutations(range(size))))
    assert sum((counts[order] - expected) ** 2 / expected for order in permutations(range(size))) < limit


@pytest.mark.parametrize("size", [50, 5000])
def test_places_are_uniform_over_keys(size):
    """Where item 0 lands over 2,000 keys, in 50 bins: chi-square with 49 degrees of freedom, 99.9th percentile 85.4."""
    places = np.array([permuted(np.array([0]), size, key)[0] for key in KEYS[:2000]])
    counts = np.bincount(places * 50 // size, minlength=50)
    assert ((counts - 40) ** 2 / 40).sum() < 85.4


def test_neighbours_part():
    order = permuted(np.arange(10_000), 10_000, key=1)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
