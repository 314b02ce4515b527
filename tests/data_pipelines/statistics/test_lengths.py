"""Lengths are counted exactly, however they come."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.data_pipelines.statistics.lengths import LengthCounts

LENGTHS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=60)


def counts_of(*parts):
    return LengthCounts.of(np.array(part, np.int64) for part in parts)


@given(LENGTHS, st.sampled_from([0.01, 0.3, 0.5, 0.99, 1.0]))
def test_a_quantile_is_the_smallest_that_so_many_do_not_exceed(lengths, share):
    found = counts_of(lengths).quantile(share)
    assert np.mean(np.array(lengths) <= found) >= share - 1e-9
    assert np.mean(np.array(lengths) < found) < share


@given(LENGTHS, LENGTHS)
def test_parts_count_as_one(first, second):
    whole, parts = counts_of(first + second), counts_of(first, second)
    np.testing.assert_array_equal(whole.values, parts.values)
    np.testing.assert_array_equal(whole.counts, parts.counts)


@given(LENGTHS)
def test_a_summary_is_of_all(lengths):
    summary = counts_of(lengths).summary()
    assert (summary.number, summary.total) == (len(lengths), sum(lengths))
    assert (summary.minimum, summary.maximum) == (min(lengths), max(lengths))
    assert summary.mean == pytest.approx(sum(lengths) / len(lengths))


def test_longer_ones_are_counted():
    assert [counts_of([1, 5, 5, 9]).number_above(limit) for limit in (0, 1, 5, 9)] == [4, 3, 1, 0]


def test_zeros_can_be_left_out():
    assert counts_of([0, 0, 3]).without_zeros().summary().number == 1


def test_nothing_has_no_summary():
    assert counts_of().summary() is None


def test_nothing_has_no_quantile():
    with pytest.raises(ValueError, match="no lengths were counted; give"):
        counts_of().quantile(0.5)
