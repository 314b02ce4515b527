import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from triptych.data_pipelines.raw import RawData


def _data(number: int, seed: int = 0) -> RawData:
    items = [np.full((1 + index % 3, 2), index, dtype=np.float32) for index in range(number)]
    return RawData(items, [1 + index % 3 for index in range(number)], seed)


@given(number=st.integers(1, 9), start=st.integers(0, 40), first=st.integers(1, 5), second=st.integers(1, 5))
def test_batches_do_not_depend_on_how_the_stream_is_cut(number, start, first, second):
    data = _data(number)
    one, middle = data.batch({"raw": start}, first, 0, 1)
    two, end = data.batch(middle, second, 0, 1)
    whole, expected = data.batch({"raw": start}, first + second, 0, 1)
    assert torch.equal(torch.cat([one.samples_B3, two.samples_B3]), whole.samples_B3) and end == expected


def test_an_epoch_holds_every_item_once():
    batch, _ = _data(7).batch({"raw": 7}, 7, 0, 1)
    assert sorted(batch.samples_B3[:, 1].tolist()) == list(range(7)) and set(batch.samples_B3[:, 2].tolist()) == {1}


def test_epochs_differ_in_order():
    batch, _ = _data(50).batch({}, 100, 0, 1)
    assert not torch.equal(batch.samples_B3[:50, 1], batch.samples_B3[50:, 1])


def test_ranks_share_a_batch_in_order():
    parts = [_data(9).batch({"raw": 3}, 6, rank, 3)[0].samples_B3 for rank in range(3)]
    assert torch.equal(torch.cat(parts), _data(9).batch({"raw": 3}, 6, 0, 1)[0].samples_B3)


def test_a_row_is_its_item_and_then_zeros():
    batch, _ = _data(6).batch({}, 6, 0, 1)
    for row, length, (_, item, _) in zip(batch.values, batch.lengths_B, batch.samples_B3, strict=True):
        assert (row[:length] == item).all() and not row[length:].any() and int(length) == 1 + int(item) % 3


def test_the_clock_counts_codes():
    batch, _ = _data(6).batch({}, 6, 0, 1)
    assert int(batch.num_tokens) == 12 and int(batch.rows(2, 4).num_tokens) == int(batch.codes_B[2:4].sum())


def test_ranks_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(ValueError, match="does not divide"):
        _data(4).batch({}, 5, 0, 2)


def test_no_items_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        RawData([], [], 0)
