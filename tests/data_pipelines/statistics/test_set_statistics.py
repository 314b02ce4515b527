"""What a set holds is told by its manifest and index; no tar is opened for it."""

import json
from pathlib import Path

import numpy as np
import pytest

from triptych.data_pipelines.shards.codes import pack_codes
from triptych.data_pipelines.shards.manifest import Damaged, TokenizerRecord
from triptych.data_pipelines.shards.reader import ShardSet
from triptych.data_pipelines.shards.writer import ShardConfig, ShardWriter
from triptych.data_pipelines.statistics.packing import packing_statistics
from triptych.data_pipelines.statistics.sets import set_statistics
from triptych.data_pipelines.stream.windows import PackingConfig

TEXTS = (3, 8, 1, 5, 5, 20, 2)


class Sizes:
    """A source of documents of these sizes, of which at most `longest` go into one piece."""

    task, overhead, longest_piece = "text", 1, 9

    def __init__(self, sizes):
        self._sizes = np.array(sizes, np.int64)

    def __len__(self):
        return len(self._sizes)

    def sizes(self, blocks):
        return np.concatenate([self._sizes[start:stop] for start, stop in blocks])


@pytest.fixture
def folder(tmp_path):
    """Seven samples in three shards; the third has no image."""
    with ShardWriter(tmp_path, ShardConfig(max_shard_samples=3), provenance={}) as writer:
        for number, size in enumerate(TEXTS):
            codes = {"text": np.arange(size), "image": np.arange(4)}
            if number == 2:
                del codes["image"]
            members = {f"{side}.npy": pack_codes(values, 100) for side, values in codes.items()}
            writer.write(f"s-{number}", {**members, "json": b"{}"}, {side: len(v) for side, v in codes.items()})
        writer.set_tokenizers({"text": TokenizerRecord(fingerprint="ab", vocab_size=100)})
        for reason in ("image", "image", "empty text"):
            writer.record_damaged(Damaged(key="x", reason=reason))
    return tmp_path


def test_what_a_set_holds_is_counted(folder):
    found = set_statistics(ShardSet.open(folder))
    assert (found.num_samples, found.num_shards) == (7, 3)
    assert found.damaged == {"image": 2, "empty text": 1}
    assert found.codes["text"].num_codes == sum(TEXTS)
    assert found.codes["text"].summary.median == 5
    assert found.codes["text"].tokenizer.vocab_size == 100
    assert found.member_bytes["json"] == 14
    assert found.num_bytes == sum(path.stat().st_size for path in folder.glob("*.tar"))


def test_a_sample_without_a_side_is_counted_apart(folder):
    image = set_statistics(ShardSet.open(folder)).codes["image"]
    assert (image.num_without, image.summary.number, image.summary.minimum) == (1, 6, 4)


def test_no_sample_is_read(folder):
    for path in folder.glob("*.tar"):
        path.write_bytes(bytes(path.stat().st_size))
    assert set_statistics(ShardSet.open(folder)).codes["text"].num_codes == sum(TEXTS)


def test_it_is_json(folder):
    found = json.loads(json.dumps(set_statistics(ShardSet.open(folder)).as_json()))
    assert (found["samples"], found["codes"]["text"]["lengths"]["maximum"]) == (7, 20)


def test_an_index_that_counts_otherwise_is_refused(folder):
    path = Path(folder) / "manifest.json"
    content = json.loads(path.read_text())
    content["shards"][0]["num_codes"]["text"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="the index counts 44 text codes, the manifest 45; copy"):
        set_statistics(ShardSet.open(folder))


def test_packing_counts_every_position():
    sizes = [4, 9, 9, 13, 1, 6]
    found = packing_statistics("a", Sizes(sizes), PackingConfig(window_samples=64), row_length=10)
    assert (found.num_samples, found.num_documents) == (6, 7)  # the one of 13 is cut
    assert found.num_tokens == sum(sizes) + 7
    assert found.padding == pytest.approx(1 - found.num_tokens / (found.num_rows * 10))


def test_packing_plans_some_windows_of_many():
    found = packing_statistics(
        "a", Sizes([3] * 640), PackingConfig(window_samples=4, block_samples=4), row_length=8, max_windows=5
    )
    assert (found.windows_per_epoch, found.num_windows, found.num_samples) == (160, 5, 20)
    assert found.padding == 0


def test_an_empty_source_is_refused():
    with pytest.raises(ValueError, match="has no samples; nothing"):
        packing_statistics("a", Sizes([]), PackingConfig(), row_length=8)
