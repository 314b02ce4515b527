"""What is written: plain, deterministic tars that webdataset reads."""

import tarfile

import pytest
import webdataset
from sample_sets import TEXT_SAMPLES, make_set

from triptych.data_pipelines.shards.manifest import read_manifest
from triptych.data_pipelines.shards.writer import ShardConfig, ShardWriter


def _all_bytes(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_samples_give_the_same_bytes(tmp_path):
    first, second = make_set(tmp_path, "first", TEXT_SAMPLES), make_set(tmp_path, "second", TEXT_SAMPLES)
    assert _all_bytes(first) == _all_bytes(second)


def test_webdataset_reads_the_same_samples(tmp_path):
    folder = make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_samples=4)
    urls = [str(folder / shard.name) for shard in read_manifest(folder).shards]
    samples = [
        (sample["__key__"], {name: data for name, data in sample.items() if not name.startswith("__")})
        for sample in webdataset.WebDataset(urls, shardshuffle=False)
    ]
    assert samples == TEXT_SAMPLES


def test_members_are_plain_files_of_nobody(tmp_path):
    folder = make_set(tmp_path, "set", TEXT_SAMPLES)
    with tarfile.open(folder / "shard-000000.tar") as tar:
        about = {(member.mtime, member.uid, member.gid, member.uname, member.gname, member.isreg()) for member in tar}
    assert about == {(0, 0, 0, "", "", True)}


def test_begins_a_shard_at_the_bound_of_samples(tmp_path):
    folder = make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_samples=4)
    assert [shard.num_samples for shard in read_manifest(folder).shards] == [4, 4, 2]


def test_begins_a_shard_at_the_bound_of_bytes(tmp_path):
    folder = make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_bytes=5 * 2048)  # each sample fills four blocks
    assert [shard.num_samples for shard in read_manifest(folder).shards] == [5, 5]


def test_counts_bytes_by_extension(tmp_path):
    manifest = read_manifest(make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_samples=3))
    assert manifest.member_bytes("txt") == sum(len(members["txt"]) for _, members in TEXT_SAMPLES)


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "../a", "a b", "é", "x" * 65])
def test_refuses_a_key_that_would_not_come_back(tmp_path, key):
    with pytest.raises(ValueError, match=r"^key .*; use up to 64 letters"):
        ShardWriter(tmp_path, ShardConfig(), provenance={}).write(key, {"txt": b"1"})


@pytest.mark.parametrize("extension", ["", ".txt", "TXT", "a/b", "x" * 33])
def test_refuses_an_extension_that_would_not_come_back(tmp_path, extension):
    with pytest.raises(ValueError, match=r"^extension .* of a does not fit"):
        ShardWriter(tmp_path, ShardConfig(), provenance={}).write("a", {extension: b"1"})


def test_refuses_a_key_twice(tmp_path):
    with pytest.raises(ValueError, match="a comes twice"):
        make_set(tmp_path, "set", [("a", {"txt": b"1"}), ("a", {"txt": b"2"})])


def test_refuses_a_sample_without_members(tmp_path):
    with pytest.raises(ValueError, match="a has no members"):
        make_set(tmp_path, "set", [("a", {})])
