"""Parts that were encoded apart are one set after joining."""

import errno
import os

import pytest
from sample_sets import TEXT_SAMPLES, TOKENIZERS, make_set, mixed_samples

from triptych.data_pipelines.shards.encode import encode_shards
from triptych.data_pipelines.shards.join import join_sets
from triptych.data_pipelines.shards.reader import ShardSet
from triptych.data_pipelines.shards.verify import verify


@pytest.fixture
def raw(tmp_path):
    return make_set(tmp_path, "raw", mixed_samples(), max_shard_samples=3)


@pytest.fixture
def parts(raw, tmp_path):
    """Three shards, encoded by two processes that know nothing of each other."""
    for name, numbers in (("part0", range(2)), ("part1", range(2, 3))):
        encode_shards(raw, tmp_path / name, TOKENIZERS, shard_numbers=numbers)
    return [tmp_path / "part0", tmp_path / "part1"]


def test_joined_parts_equal_the_whole(raw, parts, tmp_path):
    join_sets(parts, tmp_path / "joined")
    encode_shards(raw, tmp_path / "whole", TOKENIZERS)
    assert list(ShardSet.open(tmp_path / "joined")) == list(ShardSet.open(tmp_path / "whole"))


def test_joined_set_verifies_when_the_parts_are_gone(parts, tmp_path):
    joined = join_sets(parts, tmp_path / "joined")
    for path in (path for part in parts for path in part.iterdir()):
        path.unlink()
    assert verify(tmp_path / "joined") == joined


def test_other_tokenizers_are_refused(raw, parts, tmp_path):
    encode_shards(raw, tmp_path / "texts", {"text": TOKENIZERS["text"]})
    with pytest.raises(ValueError, match=r"/texts and .*/part0 are of different tokenizers; encode one of them again"):
        join_sets([parts[0], tmp_path / "texts"], tmp_path / "joined")


def test_truncated_part_is_refused_and_nothing_is_left(tmp_path):
    folder = make_set(tmp_path, "part", TEXT_SAMPLES)
    os.truncate(folder / "shard-000000.tar", 512)
    with pytest.raises(ValueError, match=r"/part/shard-000000.tar is truncated"):
        join_sets([folder], tmp_path / "joined")
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_another_file_system_is_named(parts, tmp_path, monkeypatch):
    def elsewhere(source, target):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", elsewhere)
    with pytest.raises(ValueError, match=r"shard-000000.tar is on another file system; choose a folder beside it"):
        join_sets(parts, tmp_path / "joined")
