"""Best-fit packing: whole documents, few rows, the same everywhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.data_pipelines.stream.packing import best_fit, one_each

CAPACITY = 24
LENGTHS = st.lists(st.integers(1, CAPACITY), max_size=60)


def filled(lengths, rows):
    return np.bincount(rows, weights=lengths, minlength=1) if len(lengths) else np.zeros(0)


@given(LENGTHS)
def test_every_document_has_one_row_and_no_row_is_too_full_or_empty(lengths):
    lengths_N = np.array(lengths, np.int64)
    rows_N = best_fit(lengths_N, CAPACITY)
    assert rows_N.shape == lengths_N.shape
    full = filled(lengths_N, rows_N)
    assert ((full >= 1) & (full <= CAPACITY)).all()


@given(st.lists(st.integers(1, CAPACITY), min_size=1, max_size=7))
def test_at_most_11_9_of_the_fewest_rows_and_one(lengths):
    """Johnson 1973; the fewest by trying all."""
    rows_N = best_fit(np.array(lengths, np.int64), CAPACITY)
    assert rows_N.max() + 1 <= 11 / 9 * fewest(tuple(lengths)) + 1


def fewest(lengths):
    best = len(lengths)

    def place(rest, rooms):
        nonlocal best
        if len(rooms) >= best and rest:
            return
        if not rest:
            best = min(best, len(rooms))
            return
        for row in range(len(rooms)):
            if rooms[row] >= rest[0]:
                place(rest[1:], (*rooms[:row], rooms[row] - rest[0], *rooms[row + 1 :]))
        place(rest[1:], (*rooms, CAPACITY - rest[0]))

    place(tuple(sorted(lengths, reverse=True)), ())
    return best


def test_a_packing_written_out():
    """Longest first, each into the fullest row that has room."""
    assert best_fit(np.array([3, 9, 5, 2, 7, 1]), 10).tolist() == [1, 0, 2, 2, 1, 0]


def test_no_documents_take_no_rows():
    assert best_fit(np.zeros(0, np.int64), 5).tolist() == one_each(np.zeros(0, np.int64), 5).tolist() == []


@pytest.mark.parametrize("pack", [best_fit, one_each])
def test_a_document_longer_than_a_row_fits_none(pack):
    with pytest.raises(AssertionError, match="fits no row"):
        pack(np.array([3, 6]), 5)


def test_one_each_shares_no_row():
    assert one_each(np.array([3, 1, 2]), 4).tolist() == [0, 1, 2]
