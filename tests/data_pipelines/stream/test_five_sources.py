"""Five sources in three modalities, 100,000 samples: their shares, and the same ids whatever stops and changes."""

import json

import numpy as np
import pytest
from made_up_streams import MadeUpCodes

from triptych.data_pipelines.stream.cursor import places_of, total_tokens
from triptych.data_pipelines.stream.mixture import Mixture, WeightedSource
from triptych.data_pipelines.stream.sequences import RegionSizes, SequenceLayout
from triptych.data_pipelines.stream.sources import PairSource, TextSource
from triptych.data_pipelines.vocabulary import Vocabulary

ROW_LENGTH = 1024
SHARES = {"prose": 0.4, "drawn": 0.25, "seen": 0.15, "spoken": 0.12, "heard": 0.08}
TASKS = {"prose": "text", "drawn": "t2i", "seen": "i2t", "spoken": "t2s", "heard": "s2t"}
SIZES = {"prose": 40_000, "drawn": 25_000, "seen": 15_000, "spoken": 12_000, "heard": 8_000}
LAYOUT = SequenceLayout(
    vocabulary=Vocabulary(text=20, image=8, audio=12),
    sequence_length=ROW_LENGTH,
    regions=RegionSizes(text=40, image=64, audio=100, condition_multiple=8),
)
NUM_ROWS, BATCH = 14_400, 96


def mixture():
    sources = {}
    for name, task in TASKS.items():
        codes = MadeUpCodes(SIZES[name], longest=160 if task == "text" else 60)
        source = TextSource(codes, LAYOUT, ROW_LENGTH) if task == "text" else PairSource(task, codes, LAYOUT)
        sources[name] = WeightedSource(source=source, weight=SHARES[name])
    return Mixture(sources, seed=0, row_length=ROW_LENGTH, pad=LAYOUT.vocabulary.special("pad"))


@pytest.fixture(scope="module")
def whole():
    """All rows at once, and where the run is after each batch of them."""
    data, cursor, rows, cursors = mixture(), {}, [], []
    for _ in range(NUM_ROWS // BATCH):
        planned, cursor = data.plan(cursor, BATCH)
        rows += planned
        cursors.append(cursor)
    return rows, cursors


def ids(batch):
    """Source, sample, epoch and offset of every document of every row."""
    held_BD = (batch.lengths_BD > 0).numpy()
    keys_N4 = np.concatenate([batch.samples_BD3.numpy()[held_BD], batch.offsets_BD.numpy()[held_BD][:, None]], 1)
    return np.split(keys_N4, np.cumsum(held_BD.sum(1))[:-1])


def test_shares_are_within_half_a_percent_at_every_million_tokens(whole):
    million = 0
    for cursor in whole[1]:
        total = total_tokens(cursor)
        if total // 1_000_000 == million:
            continue
        million = total // 1_000_000
        for name, place in places_of(cursor, SHARES).items():
            assert abs(place.tokens / total - SHARES[name]) < 0.005
    assert million == 14


def test_every_source_has_gone_through_its_first_epoch_in_its_own_order(whole):
    data = mixture()
    assert sum(SIZES.values()) == 100_000
    assert min(data.epochs(whole[1][-1]).values()) >= 1
    for name in SIZES:
        order = data.epoch_of(name)
        assert [row for row in whole[0] if row.source == name][: len(order)] == order


def test_other_ranks_workers_and_a_kill_give_the_same_ids_in_the_same_order(whole):
    """First 2 ranks of 3 workers that each read every third batch, killed on the way; then 4 ranks of 2 workers from
    the last step that was saved. Sixty batches of 96, of which every second is read.
    """
    wanted = [row for number in range(0, 60, 2) for row in ids(mixture().rows(whole[0][number * BATCH :][:BATCH]))]
    found, cursor = {}, {}
    for first, stop, saved, num_ranks, num_workers in ((0, 26, 24, 2, 3), (24, 60, 60, 4, 2)):
        cursor, start = json.loads(json.dumps(cursor)), cursor
        for worker in range(num_workers):
            data, at = mixture(), start
            for number in range(first, stop):
                if number == saved:
                    cursor = at
                if number % num_workers == worker and number % 2 == 0:
                    parts = [data.batch(at, BATCH, rank, num_ranks)[0] for rank in range(num_ranks)]
                    found[number] = [row for part in parts for row in ids(part)]
                at = data.plan(at, BATCH)[1]
    seen = [row for number in range(0, 60, 2) for row in found[number]]
    assert len(seen) == len(wanted)
    assert all(np.array_equal(one, other) for one, other in zip(seen, wanted, strict=True))
