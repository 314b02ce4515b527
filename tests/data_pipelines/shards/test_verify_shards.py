"""Every byte of a set is covered by a checksum, and what a writer got wrong is found behind right checksums."""

import hashlib
import json

import numpy as np
import pytest
from sample_sets import TEXT_SAMPLES, make_set

from triptych.data_pipelines.shards.codes import pack_codes
from triptych.data_pipelines.shards.index import Span, pack_index, read_layout, spans_of, unpack_rows
from triptych.data_pipelines.shards.manifest import TokenizerRecord, read_manifest
from triptych.data_pipelines.shards.verify import verify
from triptych.data_pipelines.shards.writer import ShardConfig, ShardWriter


def test_a_whole_set_passes(tmp_path):
    folder = make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_samples=4)
    assert verify(folder) == read_manifest(folder)


@pytest.mark.parametrize("name", ["shard-000001.tar", "shard-000001.index.npy"])
@pytest.mark.parametrize("place", [0, 100, -1])
def test_one_flipped_bit_is_found(tmp_path, name, place):
    path = make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_samples=4) / name
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"/set/{name} has SHA-256 \w+\.\., the manifest says \w+\.\..*; copy it"):
        verify(path.parent)


def test_missing_shard_is_found(tmp_path):
    folder = make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_samples=4)
    (folder / "shard-000002.tar").unlink()
    with pytest.raises(ValueError, match=r"/set/shard-000002.tar is missing"):
        verify(folder)


def test_the_first_damaged_sample_is_named(tmp_path):
    path = make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_samples=4) / "shard-000001.tar"
    path.write_bytes(path.read_bytes().replace(b"text number 6", b"text number 9"))
    with pytest.raises(ValueError, match=r"\(first, text-006.txt holds other bytes than were written\); copy it again"):
        verify(path.parent)


def _coded(folder, *, counted=3, vocab_size=256, data=None):
    with ShardWriter(folder, ShardConfig(), provenance={}) as writer:
        writer.write("a", {"text.npy": pack_codes(np.arange(3), 256) if data is None else data}, {"text": counted})
        writer.write("b", {"json": b"{}"})
        writer.set_tokenizers({"text": TokenizerRecord(fingerprint="f", vocab_size=vocab_size)})
    return folder


def test_codes_pass(tmp_path):
    assert verify(_coded(tmp_path)).num_codes("text") == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"counted": 4}, "a.text.npy holds 3 codes, the index says 4"),
        ({"vocab_size": 2}, r"a.text.npy: a code is not in 0..1, what the manifest says of the tokenizer"),
        ({"data": b"no codes"}, "a.text.npy: the codes are no array of uint16 or int32"),
    ],
)
def test_codes_that_were_written_wrong(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=rf"/shard-000000.tar: {message}; make the folder again$"):
        verify(_coded(tmp_path, **wrong))


def _with_index(folder, change):
    """The set with another index, and its checksum in the manifest."""
    path, manifest = folder / "shard-000000.index.npy", folder / "manifest.json"
    data = path.read_bytes()
    layout = read_layout(data)
    rows = [(row["key"].decode(), spans_of(row)) for row in unpack_rows(data[layout.start :], layout.row)]
    index = pack_index(change(rows))
    path.write_bytes(index)
    content = json.loads(manifest.read_bytes())
    content["shards"][0]["index_sha256"] = hashlib.sha256(index).hexdigest()
    manifest.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [rows[1], rows[0]], "the index leads a.text.npy to where no member can be"),
        (lambda rows: [("c", rows[0][1]), rows[1]], "the tar has another member where c.text.npy should be"),
        (lambda rows: [rows[0], ("a", rows[1][1])], "the index has the key a twice"),
        (lambda rows: [("a", {"text.npy": Span(1024, 3, 0, 3)}), rows[1]], "no header of a tar is where a.text.npy"),
        (lambda rows: [("a", {"text.npy": Span(512, 1 << 60, 0, 3)}), rows[1]], "the index leads a.text.npy to where"),
    ],
)
def test_an_index_that_does_not_fit_its_tar(tmp_path, change, message):
    _with_index(_coded(tmp_path), change)
    with pytest.raises(ValueError, match=rf"/shard-000000.tar: {message}.*; make the folder again$"):
        verify(tmp_path)


@pytest.mark.parametrize(("field", "value"), [("num_codes", {"text": 2}), ("member_bytes", {"json": 2})])
def test_sums_that_differ_from_the_manifest(tmp_path, field, value):
    path = _coded(tmp_path) / "manifest.json"
    content = json.loads(path.read_bytes())
    content["shards"][0][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"holds \d+ text(.npy)? (codes|bytes in members), the manifest says \d; make"):
        verify(tmp_path)
