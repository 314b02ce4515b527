"""Raw shards to shards of codes."""

import numpy as np
import pytest
from sample_sets import TEXT_SAMPLES, TOKENIZERS, make_set, mixed_samples

from triptych.data_pipelines.shards.codes import load_codes, load_labels
from triptych.data_pipelines.shards.encode import EncodeConfig, encode_shards
from triptych.data_pipelines.shards.manifest import Damaged
from triptych.data_pipelines.shards.reader import ShardSet


def test_codes_are_the_tokenizers_own(tmp_path):
    encode_shards(
        make_set(tmp_path, "raw", mixed_samples()), tmp_path / "codes", TOKENIZERS, EncodeConfig(batch_samples=3)
    )
    codes = load_codes(tmp_path / "codes", "text")
    assert [bytes(codes.item(i).astype(np.uint8)) for i in range(8)] == [m["txt"] for _, m in mixed_samples()]


def test_keys_and_labels_stay(tmp_path):
    encode_shards(make_set(tmp_path, "raw", mixed_samples()), tmp_path / "codes", TOKENIZERS)
    keys = [sample.key for sample in ShardSet.open(tmp_path / "codes")]
    assert (keys, load_labels(tmp_path / "codes")) == (
        [k for k, _ in mixed_samples()],
        [{"label": i} for i in range(8)],
    )


def test_batches_do_not_change_the_bytes(tmp_path):
    raw = make_set(tmp_path, "raw", mixed_samples())
    for size in (1, 5):
        encode_shards(raw, tmp_path / f"by{size}", TOKENIZERS, EncodeConfig(batch_samples=size))
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("by1", "by5"))
    assert first == second


def test_manifest_states_fingerprints_and_counts(tmp_path):
    manifest = encode_shards(make_set(tmp_path, "raw", mixed_samples()), tmp_path / "codes", TOKENIZERS)
    fingerprints = {modality: record.fingerprint for modality, record in manifest.tokenizers.items()}
    assert fingerprints == {modality: tokenizer.fingerprint for modality, tokenizer in TOKENIZERS.items()}
    assert [manifest.num_codes(modality) for modality in ("text", "image", "audio")] == [72, 128, 32]


def test_only_tokenizers_that_were_needed_are_named(tmp_path):
    manifest = encode_shards(make_set(tmp_path, "raw", TEXT_SAMPLES), tmp_path / "codes", TOKENIZERS)
    assert list(manifest.tokenizers) == ["text"]


def test_a_set_that_no_tokenizer_takes(tmp_path):
    with pytest.raises(ValueError, match=r"/raw has nothing for a tokenizer of image; give another one"):
        encode_shards(make_set(tmp_path, "raw", TEXT_SAMPLES), tmp_path / "codes", {"image": TOKENIZERS["image"]})
    assert not (tmp_path / "codes").exists()


def _damaged_samples():
    samples = mixed_samples()
    samples[1][1]["png"] = samples[1][1]["png"][:-40]
    samples[2][1]["txt"] = b" "
    samples[4][1]["flac"] = b"fLaC"
    samples[6][1]["json"] = b"{"
    return samples


def test_damaged_samples_are_left_out_and_named(tmp_path):
    raw = make_set(tmp_path, "raw", _damaged_samples())
    manifest = encode_shards(raw, tmp_path / "codes", TOKENIZERS, EncodeConfig(max_damaged=4))
    assert manifest.damaged == (
        Damaged(key="mixed-1", reason="image"),
        Damaged(key="mixed-2", reason="empty text"),
        Damaged(key="mixed-4", reason="audio"),
        Damaged(key="mixed-6", reason="json"),
    )
    assert [sample.key for sample in ShardSet.open(tmp_path / "codes")] == [f"mixed-{i}" for i in (0, 3, 5, 7)]


def test_one_more_than_the_limit_ends_it_in_one_line(tmp_path):
    raw = make_set(tmp_path, "raw", _damaged_samples())
    with pytest.raises(ValueError, match=r"/raw: more than max_damaged=3 samples are damaged, .*mixed-6") as caught:
        encode_shards(raw, tmp_path / "codes", TOKENIZERS, EncodeConfig(max_damaged=3))
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_a_shard_that_is_not_there(tmp_path):
    raw = make_set(tmp_path, "raw", mixed_samples(), max_shard_samples=3)
    with pytest.raises(ValueError, match=r"/raw has 3 shards, not range\(2, 4\); give numbers below 3"):
        encode_shards(raw, tmp_path / "codes", TOKENIZERS, shard_numbers=range(2, 4))


def test_flipped_byte_in_a_shard_counts_as_damaged(tmp_path):
    path = make_set(tmp_path, "raw", mixed_samples()) / "shard-000000.tar"
    data = bytearray(path.read_bytes())
    data[data.index(b"caption 5")] ^= 1
    path.write_bytes(data)
    manifest = encode_shards(path.parent, tmp_path / "codes", TOKENIZERS, EncodeConfig(max_damaged=1))
    assert manifest.damaged_by_reason == {"checksum": 1}
