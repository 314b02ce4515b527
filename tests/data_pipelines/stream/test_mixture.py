"""The stream as planned: the same sequences whatever the batch, ranks and stops; shares kept at every moment."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.data_pipelines.batch import Role
from triptych.data_pipelines.stream.mixture import Mixture, WeightedSource

LENGTH = 6


class Numbered:
    """A source whose sequence i says i; `num_tokens` of its positions are real."""

    def __init__(self, size, num_tokens=LENGTH):
        self.size, self.num_tokens = size, num_tokens

    def __len__(self):
        return self.size

    def sequence(self, index):
        roles = np.full(LENGTH, Role.TARGET, np.uint8)
        roles[self.num_tokens :] = Role.PADDING
        return np.full(LENGTH, index, np.int64), roles


def mixture(sizes=(7, 11, 5), weights=(1.0, 2.0, 0.5), copies=1, seed=3):
    sources = {
        f"source{i}": WeightedSource(source=Numbered(size, LENGTH - i), weight=weight)
        for i, (size, weight) in enumerate(zip(sizes, weights, strict=True))
    }
    return Mixture(sources, seed=seed, copies=copies)


def ids(batch):
    return [tuple(row) for row in batch.samples_B3.tolist()]


def whole(data, total):
    return ids(data.batch({}, total, 0, 1)[0])


@settings(max_examples=40)
@given(batches=st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_batch_sizes_do_not_change_the_order(batches):
    data, cursor, seen = mixture(), {}, []
    for size in batches:
        batch, cursor = data.batch(cursor, size, 0, 1)
        seen += ids(batch)
    assert seen == whole(data, sum(batches))


@given(num_ranks=st.sampled_from([1, 2, 3, 4, 6, 12]), copies=st.sampled_from([1, 2]))
def test_ranks_hold_the_whole_batch_in_order(num_ranks, copies):
    data = mixture(copies=copies)
    parts = [data.batch({"source1": 4}, 24, rank, num_ranks) for rank in range(num_ranks)]
    everything, cursor = data.batch({"source1": 4}, 24, 0, 1)
    assert torch.equal(torch.cat([part.tokens_BS for part, _ in parts]), everything.tokens_BS)
    assert torch.equal(torch.cat([part.numbers_B for part, _ in parts]), 4 * copies + torch.arange(24))
    assert all(after == cursor for _, after in parts)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="use a multiple of 6"):
        mixture(copies=2).batch({}, 8, 0, 3)


@pytest.mark.parametrize("copies", [1, 2])
def test_copies_follow_their_original(copies):
    batch, cursor = mixture(copies=copies).batch({}, 12, 0, 1)
    assert batch.copies_B.tolist() == [i % copies for i in range(12)]
    assert torch.equal(batch.samples_B3[::copies], batch.samples_B3[copies - 1 :: copies])
    assert sum(cursor.values()) == 12 // copies


def test_every_epoch_sees_every_sequence_once_in_another_order():
    data = mixture(sizes=(13,), weights=(1.0,))
    rows = whole(data, 39)
    orders = [[index for _, index, epoch in rows if epoch == e] for e in range(3)]
    assert all(sorted(order) == list(range(13)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


@given(weights=st.lists(st.floats(0.1, 10), min_size=3, max_size=3), total=st.integers(1, 200))
def test_shares_of_tokens_hold_at_every_moment(weights, total):
    data = mixture(weights=tuple(weights))
    _, cursor = data.batch({}, total, 0, 1)
    tokens = np.array([cursor[f"source{i}"] * (LENGTH - i) for i in range(3)])
    wanted = np.array(weights) / sum(weights) * tokens.sum()
    assert np.abs(tokens - wanted).max() <= 2 * LENGTH


def test_a_new_source_leaves_the_others_in_place():
    few, more = mixture(sizes=(7, 11), weights=(1.0, 1.0)), mixture(sizes=(7, 11, 5), weights=(1.0, 1.0, 1.0))
    first = [row for row in whole(few, 30) if row[0] != whole(more, 1)[0][0]]
    of_source = {row[0] for row in first}
    order = [row for row in whole(more, 60) if row[0] in of_source]
    for source in of_source:
        short, long = ([row for row in rows if row[0] == source] for rows in (first, order))
        shared = min(len(short), len(long))
        assert short[:shared] == long[:shared]
        assert shared > 5


@pytest.mark.parametrize(
    ("size", "weight", "message"), [(0, 1.0, "source0 is empty"), (3, 0.0, "weight 0.0"), (3, -1.0, "weight -1.0")]
)
def test_sources_that_cannot_be_drawn_from_are_refused(size, weight, message):
    with pytest.raises(ValueError, match=message):
        Mixture({"source0": WeightedSource(source=Numbered(size), weight=weight)}, seed=0)
