"""What the loader is made of: memory that two processes share, copies ahead of the step, plans without reading."""

from contextlib import contextmanager
from functools import partial

import lossy_streams
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lossy_streams import equal

from triptych.data_pipelines.raw import RawData
from triptych.trainer.loader.config import LoaderConfig
from triptych.trainer.loader.device import AheadCopies
from triptych.trainer.loader.loader import Loader
from triptych.trainer.loader.losses import counts
from triptych.trainer.loader.slots import Slot, tensors_of
from triptych.trainer.loader.stream_data import StreamData
from triptych.trainer.loader.worker import Request
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

DATA = StreamData(partial(lossy_streams.mixture, copies=2), copies=2)


def raw():
    draw = np.random.default_rng(0)
    return RawData([draw.random((2 + item % 3, 3), dtype=np.float32) for item in range(7)], [1] * 7, seed=1)


@pytest.mark.parametrize("data", [DATA, raw()], ids=["stream", "raw"])
def test_rows_go_through_a_slot_bit_for_bit(data):
    """One slot, batches that grow and shrink, and one without rows; what was read is not what is written next."""
    writer = Slot.new()
    reader = Slot(writer.descriptor)
    batches, read = [], []
    cursor = {}
    for size in (2, 8, 2, 32, 4):
        batch, cursor = data.batch(cursor, size, 0, 1)
        for rows in (batch, batch.rows(0, 0), batch.rows(1, 2)):
            batches.append(rows)
            read.append(reader.read(writer.write(rows), pinned=False))
    assert all(equal(first, second) for first, second in zip(read, batches, strict=True))
    writer.close()


@given(
    sizes=st.lists(st.integers(1, 12).map(lambda half: 2 * half), max_size=6),
    size=st.integers(1, 12).map(lambda half: 2 * half),
)
@settings(max_examples=40)
def test_a_plan_ends_where_the_batch_does(sizes, size):
    cursor = {}
    for before in sizes:
        cursor = DATA.advance(cursor, before)
    assert DATA.advance(cursor, size) == DATA.batch(cursor, size, 0, 1)[1]
    assert raw().advance({"raw": size}, size) == raw().batch({"raw": size}, size, 0, 1)[1]


def test_a_copy_of_a_row_is_not_another_sample():
    unreadable = partial(lossy_streams.mixture, unreadable=range(30))
    once, _ = unreadable(copies=1).batch({}, 8, 0, 1)
    twice, _ = unreadable(copies=2).batch({}, 16, 0, 1)
    tokens, planned, lost = counts(once).tolist()
    assert counts(twice).tolist() == [2 * tokens, planned, lost]
    assert 0 < lost < planned
    rows, _ = raw().batch({}, 4, 0, 1)
    assert counts(rows).tolist() == [4, 0, 0]


class RecordedStream:
    """Stands for a GPU's stream: says what happens, in order."""

    def __init__(self):
        self.events = []

    @contextmanager
    def entered(self):
        self.events.append("in")
        yield
        self.events.append("out")

    def mark(self):
        self.events.append("mark")
        return "mark"

    def let_computation_wait(self, mark):
        self.events.append(f"wait for {mark}")

    def used_by_computation(self, tensor):
        self.events.append("used")


def test_copies_run_beside_the_computation_which_waits_for_them():
    stream = RecordedStream()

    def copy(tensor):
        stream.events.append("copy")
        return tensor.clone()

    copies = AheadCopies(stream, copy)
    rows, _ = DATA.batch({}, 4, 0, 1)
    num_tensors = len(tensors_of(rows))
    arriving = copies.begin(rows)
    assert stream.events == ["in", *["copy"] * num_tensors, "out", "mark"]
    assert arriving.source is rows
    stream.events.clear()
    assert equal(copies.end(arriving), rows)
    assert stream.events == ["wait for mark", *["used"] * num_tensors]


class ReadyWorkers:
    """Stands for worker processes: batches that are there at once; the third cannot be made."""

    def __init__(self):
        self.taken = []

    def is_ready(self, request):
        return True

    def take(self, request, give_up=None):
        self.taken.append(request)
        if len(self.taken) == 3:
            raise ValueError("planted")
        return DATA.batch(*request)


def test_the_next_batch_is_on_its_way_while_this_one_computes(monkeypatch):
    """One that is not asked for is dropped; an error comes when its batch is asked for, not before."""
    stream, workers = RecordedStream(), ReadyWorkers()
    with process_groups(Placement()) as groups:
        loader = Loader(DATA, LoaderConfig(), groups, lambda event, facts: None)
        monkeypatch.setattr(loader, "_copies", AheadCopies(stream, torch.clone))
        monkeypatch.setattr(loader, "_workers", workers)
        first, after = loader.batch({}, 4, 0, 1)
        assert [request.cursor for request in workers.taken] == [{}, after]
        second, after_second = loader.batch(after, 4, 0, 1)  # the third is taken ahead, and fails unseen
        assert workers.taken[2] == Request(after_second, 4, 0, 1)
        third, _ = loader.batch(after, 8, 0, 1)
    assert equal(first, DATA.batch({}, 4, 0, 1)[0])
    assert equal(second, DATA.batch(after, 4, 0, 1)[0])
    assert equal(third, DATA.batch(after, 8, 0, 1)[0])
    assert workers.taken[3] == Request(after, 8, 0, 1)
    assert stream.events.count("wait for mark") == 1
