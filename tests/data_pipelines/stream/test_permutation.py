import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from triptych.data_pipelines.stream.permutation import permuted


@given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_every_number_comes_once(size, key):
    assert sorted(permuted(np.arange(size), size, key)) == list(range(size))


@given(size=st.integers(2, 2**40), key=st.integers(0, 2**64 - 1))
def test_large_sizes_stay_in_range_and_need_no_table(size, key):
    found = permuted(np.array([0, size // 2, size - 1]), size, key)
    assert found.min() >= 0 and found.max() < size
    assert len(set(found.tolist())) == len({0, size // 2, size - 1})


def test_places_are_uniform_over_keys():
    """Where item 0 of 50 lands over 5,000 keys: chi-square with 49 degrees of freedom, 99.9th percentile 85.4."""
    places = np.array([permuted(np.array([0]), 50, key)[0] for key in range(5000)])
    counts = np.bincount(places, minlength=50)
    assert ((counts - 100) ** 2 / 100).sum() < 85.4


def test_neighbours_part():
    order = permuted(np.arange(10_000), 10_000, key=1)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
