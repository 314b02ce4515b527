"""Codes come back exactly, one by one and all at once."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_sets import TEXT_SAMPLES, TOKENIZERS, make_set, mixed_samples

from triptych.data_pipelines.shards.codes import load_codes, load_labels, pack_codes, unpack_codes
from triptych.data_pipelines.shards.encode import encode_shards
from triptych.data_pipelines.shards.errors import DamagedSample
from triptych.data_pipelines.shards.manifest import read_manifest, write_manifest
from triptych.data_pipelines.shards.reader import ShardSet


@given(st.lists(st.integers(0, 65_535)), st.sampled_from([65_536, 65_537]))
def test_codes_come_back(codes, vocab_size):
    unpacked = unpack_codes("k", pack_codes(np.array(codes, np.int64), vocab_size))
    assert unpacked.dtype == np.int32
    assert unpacked.tolist() == codes


def test_small_vocabularies_take_two_bytes_a_code():
    long, short = (pack_codes(np.arange(n), 65_536) for n in (20, 10))
    assert len(long) - len(short) == 20


@settings(max_examples=300)
@given(st.data())
def test_damaged_codes_are_told(data):
    packed = bytearray(pack_codes(np.arange(5), 256))
    packed[data.draw(st.integers(0, 127))] ^= data.draw(st.integers(1, 255))  # in the header
    dtype = np.dtype(np.int32)
    with contextlib.suppress(DamagedSample):  # anything else is a failure
        dtype = unpack_codes("k", bytes(packed)).dtype
    assert dtype == np.int32


@pytest.mark.parametrize("cut", [0, 5, 60, -1])
def test_truncated_codes_are_told(cut):
    with pytest.raises(DamagedSample, match="the codes are"):
        unpack_codes("k", pack_codes(np.arange(5), 256)[:cut])


def test_all_at_once_equals_one_by_one(tmp_path):
    encode_shards(make_set(tmp_path, "raw", mixed_samples(), max_shard_samples=3), tmp_path / "codes", TOKENIZERS)
    codes = load_codes(tmp_path / "codes", "text")
    shards = ShardSet.open(tmp_path / "codes")
    for index in range(len(shards)):
        key, members = shards.read(index)
        np.testing.assert_array_equal(codes.item(index), unpack_codes(key, members["text.npy"]))
    assert len(codes) == len(shards)


def test_labels_in_order(tmp_path):
    labels = load_labels(make_set(tmp_path, "raw", [*mixed_samples(), ("last", {"txt": b"no label"})]))
    assert labels == [*({"label": i} for i in range(8)), {}]


def test_codes_that_a_set_lacks(tmp_path):
    with pytest.raises(ValueError, match=r"/raw: text-000 has no audio codes; encode the shards with that tokenizer"):
        load_codes(make_set(tmp_path, "raw", TEXT_SAMPLES), "audio")


@pytest.mark.parametrize(("change", "word"), [(1, "fewer"), (-1, "more")])
def test_manifest_that_miscounts(tmp_path, change, word):
    encode_shards(make_set(tmp_path, "raw", mixed_samples()), tmp_path / "codes", TOKENIZERS)
    manifest = read_manifest(tmp_path / "codes")
    manifest.shards[0].num_codes["image"] += change
    (tmp_path / "codes" / "manifest.json").unlink()
    write_manifest(tmp_path / "codes", manifest)
    with pytest.raises(ValueError, match=rf"holds {word} image codes than its manifest says"):
        load_codes(tmp_path / "codes", "image")
