"""The order of one source: every piece once an epoch, any window without the others, memory that does not grow."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_streams import LAYOUT, PACKING, ROW_LENGTH, MadeUpCodes, source

from triptych.data_pipelines.stream.sources import TextSource
from triptych.data_pipelines.stream.windows import ROW_BITS, PackingConfig, SourceOrder

CONFIGS = st.builds(PackingConfig, window_samples=st.integers(1, 40), block_samples=st.integers(1, 40))


def order_of(size, config=PACKING, task="text", seed=0, longest=40, row_length=ROW_LENGTH):
    return SourceOrder("s", source(task, MadeUpCodes(size, longest), row_length), config, row_length, seed)


def pieces(window):
    """(sample, first own token, own tokens) of a window of texts."""
    return list(zip(window.samples_P.tolist(), window.firsts_P.tolist(), (window.lengths_P - 1).tolist(), strict=True))


def epoch(order, number):
    each = order.windows_per_epoch
    return [order.window(number * each + within) for within in range(each)]


@settings(max_examples=60)
@given(size=st.integers(1, 150), config=CONFIGS, seed=st.integers(0, 2**63), number=st.integers(0, 5))
def test_every_epoch_holds_every_token_of_every_sample_once(size, config, seed, number):
    order = order_of(size, config, seed=seed)
    found = sorted(piece for window in epoch(order, number) for piece in pieces(window))
    wanted = []
    for sample, length in enumerate(MadeUpCodes(size).lengths(range(size)).tolist()):
        firsts = range(0, length + 1, ROW_LENGTH // 2 - 1)
        wanted += [(sample, first, min(length + 1 - first, ROW_LENGTH // 2 - 1)) for first in firsts]
    assert found == wanted


@settings(max_examples=60)
@given(size=st.integers(1, 150), config=CONFIGS, rows=st.sampled_from(["best_fit", "none"]), number=st.integers(0, 400))
def test_rows_hold_what_they_say_and_no_more_than_fits(size, config, rows, number):
    config = PackingConfig(rows=rows, window_samples=config.window_samples, block_samples=config.block_samples)
    window = order_of(size, config).window(number)
    held = [window.lengths_P[window.documents(row)] for row in range(len(window))]
    assert sum(map(len, held)) == len(window.lengths_P)
    assert [int(lengths.sum()) for lengths in held] == window.tokens_R.tolist()
    assert all(0 < len(lengths) and lengths.sum() <= ROW_LENGTH for lengths in held)


def test_epochs_differ_in_their_order_and_in_what_is_packed_together():
    order = order_of(120)
    first, second = (epoch(order, number) for number in (0, 1))
    assert [pieces(window) for window in first] != [pieces(window) for window in second]
    assert {frozenset(w.samples_P.tolist()) for w in first}.isdisjoint(frozenset(w.samples_P.tolist()) for w in second)


def test_windows_differ_by_at_most_a_block():
    """None is left small at the end, where packing would have little to choose from."""
    sizes = [len(set(window.samples_P.tolist())) for window in epoch(order_of(997, longest=4), 0)]
    assert sum(sizes) == 997
    assert max(sizes) - min(sizes) <= 2 * PACKING.block_samples


def test_a_block_of_one_sample_shuffles_all():
    """How far from its place in the set a sample is read, against a third of the set for a uniform shuffle."""
    config = PackingConfig(window_samples=50, block_samples=1)
    samples = np.concatenate([window.samples_P for window in epoch(order_of(3000, config, longest=4), 0)])
    distance = np.abs(samples - np.arange(3000)).mean() / 3000
    assert distance == pytest.approx(1 / 3, rel=0.05)


@pytest.mark.parametrize("place", [10**9, 10**12 - 1])
def test_any_window_is_planned_from_its_own_lengths_alone(place):
    codes = MadeUpCodes(10**12)
    order = SourceOrder("s", source("text", codes), PackingConfig(), ROW_LENGTH, 0)
    window = order.window(place * order.windows_per_epoch // 10**12)
    counted = [index for block in codes.blocks for index in range(*block)]
    assert sorted(counted) == sorted(set(window.samples_P.tolist()))
    assert len(counted) <= 4096


def test_memory_does_not_grow_with_the_data():
    def peak(size):
        order = order_of(size, PackingConfig(window_samples=1024))
        tracemalloc.start()
        try:
            for number in range(6):
                order.window(number * order.windows_per_epoch // 6)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(10**9) < 1.2 * peak(10**4)


@pytest.mark.parametrize(
    ("task", "longest", "row_length", "limit"),
    [("text", 10, 512, 0.01), ("text", 300, 512, 0.03), ("text", 5000, 512, 0.03), ("t2i", 4, 512, 0.02)],
)
def test_padding_is_under_3_percent(task, longest, row_length, limit):
    """Short, middling and long texts, and pairs of 9 to 11 positions."""
    windows = epoch(order_of(4096, PackingConfig(), task, longest=longest, row_length=row_length), 0)
    tokens, rows = (sum(of(window) for window in windows) for of in (lambda w: int(w.tokens_R.sum()), len))
    assert 1 - tokens / (rows * row_length) < limit


@pytest.mark.parametrize(
    "other",
    [
        {"size": 51},
        {"seed": 1},
        {"row_length": 64},
        {"task": "t2i"},
        {"config": PackingConfig(window_samples=12, block_samples=4)},
        {"config": PackingConfig(window_samples=15, block_samples=3)},
        {"config": PackingConfig(window_samples=12, block_samples=3, rows="none")},
    ],
)
def test_what_decides_the_order_is_in_its_fingerprint(other):
    assert order_of(**{"size": 50} | other).fingerprint != order_of(50).fingerprint == order_of(50).fingerprint


def test_more_documents_than_can_be_numbered_are_refused():
    long = MadeUpCodes(4, longest=1 << (ROW_BITS + 3))
    order = SourceOrder("s", TextSource(long, LAYOUT, 2), PackingConfig(window_samples=4), 8, 0)
    with pytest.raises(ValueError, match=r"lower data\.packing\.window_samples"):
        order.window(0)


@pytest.mark.parametrize("field", ["row_length", "window_samples", "block_samples"])
def test_a_size_below_1_is_refused(field):
    with pytest.raises(ValueError, match=rf"data\.packing\.{field} is 0"):
        PackingConfig(**{field: 0})
