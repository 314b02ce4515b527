"""Any sample by its index, from threads and processes, and one line for a set that is not whole."""

import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_sets import TEXT_SAMPLES, make_set

from triptych.data_pipelines.shards.codes import pack_codes
from triptych.data_pipelines.shards.errors import DamagedSample, UnreadableShard
from triptych.data_pipelines.shards.reader import ReadConfig, ShardSet
from triptych.data_pipelines.shards.writer import ShardConfig, ShardWriter
from triptych.data_pipelines.storage import local
from triptych.data_pipelines.storage.retry import RetryConfig

_KEYS = st.text("abcXYZ019_-", min_size=1, max_size=64)
_MEMBERS = st.dictionaries(st.sampled_from(["txt", "json", "text.npy"]), st.binary(max_size=1100), min_size=1)


@settings(max_examples=30)
@given(st.dictionaries(_KEYS, _MEMBERS, max_size=9), st.integers(1, 4))
def test_what_is_written_is_read(samples, max_shard_samples):
    with tempfile.TemporaryDirectory() as folder:
        config = ShardConfig(max_shard_samples=max_shard_samples)
        with ShardWriter(Path(folder), config, provenance={}) as writer:
            for key, members in samples.items():
                writer.write(key, members)
        shards = ShardSet.open(Path(folder))
        assert [shards.read(i) for i in range(len(shards))] == list(samples.items())


def test_random_access_equals_the_order_of_writing(tmp_path):
    shards = ShardSet.open(make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_samples=3))
    order = [7, 0, 9, 3, 2, 7, 5]
    assert [tuple(shards.read(i)) for i in order] == [TEXT_SAMPLES[i] for i in order]


def test_iteration_gives_all_samples(tmp_path):
    assert list(ShardSet.open(make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_samples=3))) == TEXT_SAMPLES


def test_negative_indices_count_from_the_end(tmp_path):
    assert ShardSet.open(make_set(tmp_path, "set", TEXT_SAMPLES)).read(-1).key == "text-009"


@pytest.mark.parametrize("index", [10, -11])
def test_outside_is_an_index_error(tmp_path, index):
    with pytest.raises(IndexError, match=f"sample {index} of 10"):
        ShardSet.open(make_set(tmp_path, "set", TEXT_SAMPLES)).read(index)


def test_members_skips_the_other_extensions(tmp_path):
    folder = make_set(tmp_path, "set", [("a", {"txt": b"1"}), ("b", {"json": b"2"})])
    assert list(ShardSet.open(folder).members("txt")) == [("a", b"1"), ("b", None)]


def test_open_files_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_MAX_OPEN_FILES", 4)
    folder = make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_samples=1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    shards = ShardSet.open(folder)
    list(shards)
    assert len(list(Path("/proc/self/fd").iterdir())) - before == 4


def test_threads_share_one_set(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_MAX_OPEN_FILES", 4)  # so that files close while others read
    shards = ShardSet.open(make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_samples=1))
    order = [(7 * i) % 10 for i in range(400)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda i: shards.read(i).key, order)) == [f"text-{i:03d}" for i in order]


def test_spawned_processes_take_a_set_along(tmp_path):
    shards = ShardSet.open(make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_samples=3))
    shards.read(0)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        assert processes.submit(shards.read, 8).result() == shards.read(8)


def test_forked_processes_share_the_open_files(tmp_path):
    shards = ShardSet.open(make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_samples=3))
    shards.read(8)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as processes:
        samples = list(processes.map(shards.read, [8, 6, 7] * 20))
    assert samples == [shards.read(i) for i in [8, 6, 7] * 20]


def test_opening_looks_at_no_shard(tmp_path):
    folder = make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_samples=4)
    for path in folder.glob("shard-*"):
        path.unlink()
    assert len(ShardSet.open(folder)) == 10


@pytest.mark.parametrize("name", ["shard-000001.tar", "shard-000001.index.npy"])
def test_missing_file_is_told_when_it_is_read(tmp_path, name):
    folder = make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_samples=4)
    (folder / name).unlink()
    shards = ShardSet.open(folder)
    assert shards.read(3).key == "text-003"
    with pytest.raises(UnreadableShard, match=rf"/set/{name} is missing; copy it again, or make the folder again$"):
        shards.read(4)


@pytest.mark.parametrize(("change", "word"), [(-512, "truncated"), (512, "too long")])
def test_shard_of_another_size(tmp_path, change, word):
    path = make_set(tmp_path, "set", TEXT_SAMPLES) / "shard-000000.tar"
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + bytes(change))
    wrong = rf"/set/shard-000000.tar is {word}: \d+ bytes, the manifest says \d+; copy"
    with pytest.raises(UnreadableShard, match=wrong):
        ShardSet.open(path.parent).read(0)


def test_shard_that_shrinks_while_it_is_read(tmp_path):
    folder = make_set(tmp_path, "set", TEXT_SAMPLES)
    shards = ShardSet.open(folder, ReadConfig(retry=RetryConfig(first_delay_seconds=0.0)))
    shards.read(2)
    os.truncate(folder / "shard-000000.tar", 0)
    with pytest.raises(UnreadableShard, match=r"shard-000000.tar ends early; copy it again"):
        shards.read(3)


def test_flipped_byte_damages_one_sample(tmp_path):
    path = make_set(tmp_path, "set", TEXT_SAMPLES) / "shard-000000.tar"
    data = bytearray(path.read_bytes())
    data[data.index(b"text number 4")] ^= 1
    path.write_bytes(data)
    shards = ShardSet.open(path.parent)
    with pytest.raises(DamagedSample, match=r"^sample text-004: .*text-004.txt") as caught:
        shards.read(4)
    assert caught.value.reason == "checksum"
    assert shards.read(5).key == "text-005"


@settings(max_examples=150)
@given(data=st.data())
def test_damaged_index_is_told_in_one_line(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    with ShardWriter(folder, ShardConfig(), provenance={}) as writer:
        for i in range(3):
            writer.write(f"key{i}", {"txt": b"text", "json": b"{}"})
    path = folder / "shard-000000.index.npy"
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    shards, problems = ShardSet.open(folder), []
    for i in range(3):
        try:
            shards.read(i)
        except ValueError as error:
            problems.append(str(error))
    assert not any("\n" in problem for problem in problems)


def _coded_set(folder, max_shard_samples=4):
    lengths = [(3 * i) % 11 for i in range(10)]
    with ShardWriter(folder, ShardConfig(max_shard_samples=max_shard_samples), provenance={}) as writer:
        for i, length in enumerate(lengths):
            members = {"text.npy": pack_codes(np.arange(length) + i, 256)}
            writer.write(f"s{i}", members, {"text": length})
    return lengths


@pytest.mark.parametrize(("start", "stop"), [(0, 10), (3, 5), (2, 9), (4, 8), (10, 10), (5, 5)])
def test_counts_of_consecutive_samples_come_from_the_index(tmp_path, start, stop):
    lengths = _coded_set(tmp_path)
    for path in tmp_path.glob("*.tar"):
        path.write_bytes(bytes(path.stat().st_size))  # nothing but the index is read
    counts = ShardSet.open(tmp_path).num_codes("text", start, stop)
    assert counts.dtype == np.int64
    assert counts.tolist() == lengths[start:stop]


def test_a_modality_that_a_set_lacks_counts_nothing(tmp_path):
    _coded_set(tmp_path)
    assert ShardSet.open(tmp_path).num_codes("audio", 1, 4).tolist() == [0, 0, 0]


def test_codes_come_in_the_order_asked_for(tmp_path):
    lengths = _coded_set(tmp_path)
    order = [9, 0, 5, 5, 3]
    found = ShardSet.open(tmp_path).read_codes(order, ["text"])
    assert [sample["text"].tolist() for sample in found] == [[*range(i, i + lengths[i])] for i in order]


def test_codes_that_cannot_be_used_come_as_their_failure(tmp_path):
    _coded_set(tmp_path)
    found = ShardSet.open(tmp_path).read_codes([6], ["audio"])
    assert [(f.sample, f.key, f.shard, f.reason, f.attempts) for f in found] == [
        (6, "s6", "shard-000001.tar", "no codes", 1)
    ]
