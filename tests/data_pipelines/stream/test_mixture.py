"""The stream as planned: the same rows whatever the batches, ranks and stops; shares kept at every moment."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_streams import (
    LAYOUT,
    ROW_LENGTH,
    TASKS,
    VOCABULARY,
    MadeUpCodes,
    contents,
    documents,
    mixture,
    source,
)

from triptych.data_pipelines.stream.cursor import places_of, total_tokens
from triptych.data_pipelines.stream.mixture import Mixture, WeightedSource
from triptych.data_pipelines.stream.shares import SHARE_BITS, WeightSchedule
from triptych.data_pipelines.stream.sources import PairSource
from triptych.data_pipelines.stream.windows import PackingConfig, source_id

WEIGHTS = {"prose": 2.0, "drawn": WeightSchedule(tokens=(0, 2000), weights=(1.0, 3.0)), "heard": 0.5}
LEGS = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from([1, 2, 3]), st.permutations(sorted(WEIGHTS)), st.booleans()),
    min_size=1,
    max_size=6,
)
"""Batches: rows per rank, ranks, the order of sources in the configuration, whether the run stops behind it."""


def read(data, cursor, size, num_ranks=1):
    """All ranks' rows of a batch in order, and the cursor that they agree on."""
    parts = [data.batch(cursor, size, rank, num_ranks) for rank in range(num_ranks)]
    assert all(after == parts[0][1] for _, after in parts)
    return [row for batch, _ in parts for row in contents(batch)], parts[0][1]


@settings(max_examples=40)
@given(legs=LEGS, copies=st.sampled_from([1, 2]), seed=st.integers(0, 3))
def test_the_stream_is_the_same_for_any_batches_ranks_stops_and_orders_of_sources(legs, copies, seed):
    data, cursor, seen = mixture(WEIGHTS, copies=copies, seed=seed, unreadable=[3, 8]), {}, []
    for per_rank, num_ranks, names, stops in legs:
        rows, cursor = read(data, cursor, per_rank * num_ranks * copies, num_ranks)
        seen += rows
        if stops:
            cursor = json.loads(json.dumps(cursor))
            data = mixture({name: WEIGHTS[name] for name in names}, copies=copies, seed=seed, unreadable=[3, 8])
    wanted, at_once = read(mixture(WEIGHTS, copies=copies, seed=seed, unreadable=[3, 8]), {}, len(seen))
    assert seen == wanted
    assert cursor == at_once


@settings(max_examples=20)
@given(sizes=st.lists(st.integers(1, 5), min_size=4, max_size=12), num_workers=st.integers(1, 4))
def test_workers_that_plan_all_and_read_their_own_batches_make_the_same_stream(sizes, num_workers):
    """Worker w reads batches w, w + num_workers, ..., from a mixture of its own."""
    found = {}
    for worker in range(num_workers):
        data, cursor = mixture(WEIGHTS), {}
        for number, size in enumerate(sizes):
            if number % num_workers == worker:
                found[number] = contents(data.batch(cursor, size, 0, 1)[0])
            cursor = data.plan(cursor, size)[1]
    seen = [row for number in range(len(sizes)) for row in found[number]]
    assert seen == read(mixture(WEIGHTS), {}, sum(sizes))[0]


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_epoch_has_every_piece_of_a_source_once(name):
    data = mixture({name: 1.0})
    rows, cursor, epochs = data.epoch_of(name), {}, []
    first = documents(data.rows(rows))
    while data.epochs(cursor)[name] < 3:
        batch, cursor = data.batch(cursor, 1, 0, 1)
        epochs += documents(batch)
    for epoch in range(3):
        of_epoch = [(sample, offset) for _, sample, number, offset in epochs if number == epoch]
        assert sorted(of_epoch) == sorted((sample, offset) for _, sample, _, offset in first)
        assert len(set(of_epoch)) == len(of_epoch)
        assert {sample for sample, _ in of_epoch} == set(range(TASKS[name][1]))


@pytest.mark.parametrize("window_samples", [12, 4096], ids=["windows", "one window"])
def test_epochs_grow_with_every_row_and_are_whole_at_their_ends(window_samples):
    data = mixture({"prose": 1.0}, packing=PackingConfig(window_samples=window_samples, block_samples=3))
    num_rows, cursor, found = len(data.epoch_of("prose")), {}, [0.0]
    while data.epochs(cursor)["prose"] < 2:
        cursor = data.plan(cursor, 1)[1]
        found.append(data.epochs(cursor)["prose"])
    assert found == sorted(set(found))
    assert found[num_rows] == 1.0
    assert max(np.diff(found)) < 4 / num_rows


def test_epochs_of_a_far_place_plan_the_first_window_alone():
    codes = MadeUpCodes(10**6)
    sources = {"prose": WeightedSource(source=source("text", codes), weight=1.0)}
    data = Mixture(sources, seed=3, row_length=ROW_LENGTH, pad=1, packing=PackingConfig(block_samples=4096))
    assert data.epochs({"prose": (100 << 24) + 7})["prose"] > 100 / 245
    assert len(codes.blocks) == 1


def test_epoch_of_is_the_first_epoch_as_the_run_sees_it():
    data = mixture({"prose": 1.0})
    planned = data.epoch_of("prose")
    assert planned == data.plan({}, len(planned))[0]


@pytest.mark.parametrize("copies", [1, 2])
def test_copies_follow_their_original_and_have_numbers_of_their_own(copies):
    batch, _ = mixture(copies=copies).batch({}, 12, 0, 1)
    plain, _ = mixture().batch({}, 12 // copies, 0, 1)
    held = plain.lengths_BD > 0
    assert batch.copies_B.tolist() == [i % copies for i in range(12)]
    for copy in range(copies):
        assert (batch.tokens_BS[copy::copies] == plain.tokens_BS).all()
        assert (batch.numbers_BD[copy::copies][held] == plain.numbers_BD[held] * copies + copy).all()
        assert (batch.numbers_BD[copy::copies][~held] == 0).all()


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="use a multiple of 6"):
        mixture(copies=2).batch({}, 8, 0, 3)


class Taken:
    """Tokens of each source, row by row, as a mixture is followed through changes."""

    def __init__(self):
        self.cursor = {}

    def follow(self, data, names, shares_at, num_rows):
        """Most rows that any source is off its share since here, and its rows."""
        before = {name: place.tokens for name, place in places_of(self.cursor, names).items()}
        wanted, worst, rows = dict.fromkeys(names, 0.0), 0.0, []
        for _ in range(num_rows):
            shares, start = shares_at(total_tokens(self.cursor)), total_tokens(self.cursor)
            planned, self.cursor = data.plan(self.cursor, 1)
            rows += planned
            for name, place in places_of(self.cursor, names).items():
                wanted[name] += shares[name] * (total_tokens(self.cursor) - start)
                worst = max(worst, abs(place.tokens - before[name] - wanted[name]) / ROW_LENGTH)
        return worst, rows


def shares_of(weights):
    def at(tokens):
        now = {name: w.at(tokens) if isinstance(w, WeightSchedule) else w for name, w in weights.items()}
        return {name: weight / sum(now.values()) for name, weight in now.items()}

    return at


CHANGES = st.lists(
    st.tuples(st.dictionaries(st.sampled_from(sorted(TASKS)), st.floats(0.05, 20), min_size=1), st.integers(1, 60)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40)
@given(CHANGES)
def test_shares_hold_within_two_rows_since_any_change_and_sources_keep_their_order(changes):
    """Sources are added, removed, brought back and given other weights; nothing is caught up on."""
    taken, rows = Taken(), []
    for weights, num_rows in changes:
        worst, planned = taken.follow(mixture(weights), sorted(weights), shares_of(weights), num_rows)
        assert worst <= 2
        rows += planned
    for name in TASKS:
        found = [row for row in rows if row.source == name]
        assert found == mixture({name: 1.0}).plan({}, len(found))[0]


@pytest.mark.parametrize("between", ["linear", "hold"])
def test_shares_follow_a_schedule(between):
    """From all of one to all of the other and back, through a share of 0."""
    up = WeightSchedule(tokens=(1000, 5000, 6000, 8000), weights=(0.0, 1.0, 1.0, 0.0), between=between)
    weights = {"prose": up, "drawn": 0.5, "heard": WeightSchedule(tokens=(0, 4000), weights=(1.0, 0.0))}
    worst, rows = Taken().follow(mixture(weights), sorted(weights), shares_of(weights), 400)
    assert worst <= 2
    assert [row.source for row in rows].count("heard") > 40 and "prose" not in {row.source for row in rows[-20:]}


@pytest.mark.parametrize(("num_sources", "rows"), [(2, 1.0), (8, 2.0), (64, 4.0)])
def test_no_source_falls_behind_by_more_than_a_cup_game_allows(num_sources, rows):
    """Ahead by a row at most, behind by fewer rows than 1 + 1/2 + ... + 1/(n - 1)."""
    tasks = {f"s{number:02d}": ("text", 40) for number in range(num_sources)}
    weights = {name: 1.0 + number**1.5 for number, name in enumerate(tasks)}
    data, cursor = mixture(weights, tasks=tasks), {}
    for _ in range(40):
        _, cursor = data.plan(cursor, 17)
        owed = np.array([place.owed for place in places_of(cursor, tasks).values()]) / (ROW_LENGTH << SHARE_BITS)
        assert -1 <= owed.min() and owed.max() <= rows


def test_what_is_owed_is_0_together_whoever_comes_and_goes():
    cursor = {}
    for names in (["prose", "drawn"], ["prose"], ["prose", "heard", "drawn"], ["heard"], list(TASKS)):
        data = mixture(dict.fromkeys(names, 1 / 3))
        for _ in range(7):
            _, cursor = data.plan(cursor, 3)
            assert sum(place.owed for place in places_of(cursor, names).values()) == 0


@pytest.mark.parametrize("epoch", [0, 40])
def test_far_places_are_as_exact_as_near_ones(epoch):
    """The last samples of 10**12, in windows of one: more than floats and, in later epochs, int64 can number."""
    tasks = {"prose": ("text", 10**12), "heard": ("s2t", 10**9)}
    one_row = PackingConfig(window_samples=1)
    data = mixture({"prose": 1.0, "heard": 1.0}, tasks=tasks, packing=one_row, copies=2)
    start = {"prose": ((epoch + 1) * 10**12 - 9) << 24, "prose:tokens": 10**18 + 1, "heard:tokens": 10**18}
    rows, cursor = read(data, start, 80)
    earlier, between = read(data, start, 14)
    assert rows == earlier + read(data, json.loads(json.dumps(between)), 66)[0]
    batch, after = data.batch(start, 80, 0, 1)
    assert after == cursor
    assert total_tokens(cursor) - total_tokens(start) == int(batch.num_tokens) // 2
    assert data.epochs(cursor)["prose"] > epoch + 1
    assert batch.numbers_BD.min() >= 0


@pytest.mark.parametrize("rows", [3, 60])
def test_a_place_in_another_order_is_refused_and_a_new_name_begins_anew(rows):
    _, cursor = mixture({"prose": 1.0}).plan({}, rows)
    other = PackingConfig(window_samples=24, block_samples=3)
    with pytest.raises(ValueError, match=r"source prose is not in the order .* give the source a new name"):
        mixture({"prose": 1.0}, packing=other).plan(cursor, 1)
    renamed = mixture({"fresh": 1.0}, packing=other, tasks={"fresh": TASKS["prose"]})
    assert renamed.plan(cursor, 1)[0][0] == ("fresh", 0, 0)


@pytest.mark.parametrize(
    ("size", "weight", "message"),
    [
        (0, 1.0, "source one is empty"),
        *((3, weight, "source one has weight") for weight in (0.0, -1.0, np.inf, np.nan)),
    ],
)
def test_sources_that_cannot_be_drawn_from_are_refused(size, weight, message):
    with pytest.raises(ValueError, match=message):
        mixture({"one": weight}, tasks={"one": ("text", size)})


def test_names_of_one_number_are_refused():
    """Their noise would be the same."""
    first, second = "s3985819", "s4420602"
    assert source_id(first) == source_id(second)
    with pytest.raises(ValueError, match="rename one"):
        mixture({first: 1.0, second: 1.0}, tasks=dict.fromkeys((first, second), ("text", 3)))


def test_rows_shorter_than_a_pair_are_refused():
    entry = WeightedSource(source=PairSource("t2i", MadeUpCodes(3), LAYOUT), weight=1.0)
    with pytest.raises(ValueError, match=r"source drawn may take 11 positions, a row has 10; raise data\.packing"):
        Mixture({"drawn": entry}, seed=0, row_length=10, pad=VOCABULARY.special("pad"))


def test_text_pieces_fill_rows_beside_each_other():
    """Texts of twice the longest piece leave no padding."""
    entry = WeightedSource(source=source("text", LongTexts(40)), weight=1.0)
    data = Mixture({"long": entry}, seed=0, row_length=ROW_LENGTH, pad=VOCABULARY.special("pad"))
    batch, _ = data.batch({}, 10, 0, 1)
    assert batch.num_tokens == batch.tokens_BS.numel()


class LongTexts(MadeUpCodes):
    def lengths(self, indices_N):
        return np.full(len(indices_N), 2 * (ROW_LENGTH // 2 - 1) - 1)
