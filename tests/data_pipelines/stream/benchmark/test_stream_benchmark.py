"""What the benchmark compares: peers get every token, and a set of many names is one that reads."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.data_pipelines.shards.reader import ShardSet
from triptych.data_pipelines.stream.benchmark import packing, report
from triptych.data_pipelines.stream.benchmark.documents import END, ROW_LENGTH, ROWS, Texts
from triptych.data_pipelines.stream.benchmark.peers.triptych import Triptych
from triptych.data_pipelines.stream.benchmark.texts import text_mixture
from triptych.data_pipelines.vocabulary import NUM_SPECIALS

SIZE = ROWS * ROW_LENGTH


@settings(max_examples=15)
@given(lengths=st.lists(st.one_of(st.integers(0, 3), st.integers(0, 2 * SIZE)), min_size=1, max_size=12))
def test_strung_together_documents_hold_every_token_and_say_where_they_end(lengths):
    documents = [np.full(length, number, np.uint16) for number, length in enumerate(lengths)]
    batches = list(packing.packed(documents))
    flat = np.concatenate([np.append(document.astype(np.int64), END) for document in documents])
    assert len(batches) == len(flat) // SIZE
    for number, batch in enumerate(batches):
        part = flat[number * SIZE : (number + 1) * SIZE]
        assert np.array_equal(batch["tokens"].numpy().reshape(-1), part)
        assert np.array_equal(batch["ends"].numpy(), np.flatnonzero(part == END) + 1)


def test_a_set_of_many_names_for_one_shard_is_read_at_any_place(tmp_path):
    peer = Triptych()
    peer.write(tmp_path, Texts(number=30, mean_tokens=8, per_shard=30))
    peer.multiply(tmp_path, 200)
    assert len(ShardSet.open(tmp_path)) == 6000
    batch, _ = text_mixture(tmp_path).batch({"text": 1 << 24}, 4, 0, 1)
    assert not batch.lost_BD.any()
    assert int(batch.samples_BD3[..., 1].max()) > 30
    assert int(batch.tokens_BS.max()) > NUM_SPECIALS + 1000


def test_the_table_says_what_was_not_measured_and_why():
    facts = {topic: topic for topic in ("format", "shuffle", "packing", "resume", "elastic")}
    run = {"repeat": 0, "load_before": 0.5, "samples": 0}
    speed = {"tokens_per_second": 2e6, "tokens_per_cpu_second": 1e6, "pss_mib": 100.0, "first_batch_seconds": 0.25}
    runs = [run | speed | {"peer": "fast", "purpose": purpose} for purpose in ("speed", "start", "seek")]
    runs.append(run | {"peer": "slow", "purpose": "seek", "failed": "not within 300 s"})
    document = {
        "runs": runs,
        "facts": {"fast": facts, "slow": facts},
        "hardware": {"processor": "p", "cores": 2, "memory_gib": 1.0},
        "shapes": {"num_workers": 2, "rows": 4, "row_length": 8, "far_samples": 9, "speed": {"mean_tokens": 5}},
        "versions": {"python": "3"},
        "commit": "0123456789abcdef",
    }
    fast, slow = report.table(json.loads(json.dumps(document))).splitlines()[2:4]
    assert fast.count("2.00 (2.00 to 2.00)") == 1 and fast.count("0.25 (0.25 to 0.25)") == 2
    assert slow == "| slow | not measured | not measured | not measured | not measured | not within 300 s |"
