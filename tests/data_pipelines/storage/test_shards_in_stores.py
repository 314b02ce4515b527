"""Samples of sets in stores and on disks that fail: each comes, or its failure does, by name and in its place."""

import json
import os

import numpy as np
import pytest
from flaky_store import HANGS, FlakyFiles, PatientClock, flaky_store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triptych.data_pipelines.shards.codes import pack_codes
from triptych.data_pipelines.shards.errors import Failure, UnreadableShard
from triptych.data_pipelines.shards.index import pack_index, read_layout, spans_of, unpack_rows
from triptych.data_pipelines.shards.manifest import TokenizerRecord
from triptych.data_pipelines.shards.reader import ReadConfig, ShardSet
from triptych.data_pipelines.shards.verify import verify
from triptych.data_pipelines.shards.writer import ShardConfig, ShardWriter
from triptych.data_pipelines.storage.retry import RetryConfig

_NUM_SAMPLES = 10
_TAR, _INDEX = "shard-000001.tar", "shard-000001.index.npy"  # of samples 4..7
_IMPATIENT = ReadConfig(retry=RetryConfig(timeout_seconds=0.2, attempts=2))


def _codes(sample):
    return np.arange(sample, 3 * sample + 1)


@pytest.fixture
def folder(tmp_path):
    with ShardWriter(tmp_path, ShardConfig(max_shard_samples=4), provenance={}) as writer:
        for sample in range(_NUM_SAMPLES):
            text, image = _codes(sample), _codes(sample)[::-1]
            members = {"text.npy": pack_codes(text, 256), "image.npy": pack_codes(image, 70_000), "json": b"{}"}
            writer.write(f"s{sample}", members, {"text": len(text), "image": len(image)})
        records = {kind: TokenizerRecord(fingerprint="f", vocab_size=size) for kind, size in _SIZES.items()}
        writer.set_tokenizers(records)
    yield tmp_path
    HANGS.set()


_SIZES = {"text": 256, "image": 70_000}


def _is_whole(found, sample):
    return [found[kind].tolist() for kind in ("text", "image")] == [
        _codes(sample).tolist(),
        _codes(sample)[::-1].tolist(),
    ]


def _open(folder, faults=None, config=None):
    return ShardSet.open(flaky_store(folder, faults), config, PatientClock().clock())


@pytest.mark.parametrize("before", ["", "simplecache::"])
def test_a_store_gives_what_a_disk_gives(folder, before):
    shards = ShardSet.open(before + flaky_store(folder))
    assert shards.read(9) == ShardSet.open(folder).read(9)
    assert all(_is_whole(found, sample) for sample, found in enumerate(shards.read_codes(range(10), ("text", "image"))))
    assert shards.num_codes("text", 1, 9).tolist() == [2 * sample + 1 for sample in range(1, 9)]


def test_a_set_in_a_store_is_verified(folder):
    url = flaky_store(folder)
    assert verify(url).num_samples == _NUM_SAMPLES
    FlakyFiles.store[f"/set/{_TAR}"].seek(2000)
    FlakyFiles.store[f"/set/{_TAR}"].write(b"x")
    with pytest.raises(ValueError, match=rf"^flaky://set/{_TAR} has SHA-256"):
        verify(url)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_sample_comes_whole_or_as_its_failure(folder, data):
    kinds = st.sampled_from([None, OSError("reset"), "cut", "spoil"])
    names = st.sampled_from(["shard-000000.tar", _TAR, _INDEX, "shard-000002.index.npy"])
    faults = data.draw(st.dictionaries(names, st.lists(kinds, max_size=12)))
    order = data.draw(st.lists(st.integers(0, _NUM_SAMPLES - 1), max_size=12))
    shards = _open(folder)
    FlakyFiles.faults = faults
    for asked in (order, order[::-1]):
        for sample, found in zip(asked, shards.read_codes(asked, ("text", "image")), strict=True):
            if isinstance(found, Failure):
                assert (found.sample, found.shard) == (sample, f"shard-{sample // 4:06d}.tar")
                assert found.key in ("", f"s{sample}")
                assert found.detail
                assert "\n" not in found.detail
            else:
                assert _is_whole(found, sample)


@pytest.mark.parametrize(
    ("name", "fault", "reason", "attempts"),
    [
        (_TAR, OSError("reset"), "unreachable", 4),
        (_INDEX, OSError("reset"), "unreachable", 4),
        (_TAR, FileNotFoundError(), "missing", 1),
        (_INDEX, FileNotFoundError(), "missing", 1),
        (_INDEX, "spoil", "index", 1),
        (_TAR, "cut", "wrong size", 1),
    ],
)
def test_a_shard_that_cannot_be_read_takes_none_with_it(folder, name, fault, reason, attempts):
    shards = _open(folder, {name: [fault] * 99})
    found = shards.read_codes([3, 4, 7, 8], ("text",))
    assert [isinstance(part, Failure) for part in found] == [False, True, True, False]
    assert [(part.reason, part.attempts) for part in found[1:3]] == [(reason, attempts)] * 2


def test_a_store_that_hangs_does_not_hang_its_reader(folder):
    shards = _open(folder, config=_IMPATIENT)
    assert shards.num_codes("text", 0, 10).sum() == 100
    FlakyFiles.faults = {_TAR: ["hang"] * 99}
    found = shards.read_codes([4, 9], ("text",))
    assert (found[0].reason, found[0].key) == ("timeout", "s4")
    assert isinstance(found[1], dict)


def test_bytes_that_were_spoilt_on_the_way_are_read_again(folder):
    shards = _open(folder)
    shards.read_codes([4], ("text",))
    FlakyFiles.faults = {_TAR: ["spoil"]}
    assert all(isinstance(found, dict) for found in shards.read_codes([5, 6], ("text",)))


def test_bytes_that_stay_spoilt_are_a_failure_of_their_sample(folder):
    data = bytearray((folder / _TAR).read_bytes())
    data[data.index(pack_codes(_codes(5), 256)[-8:])] ^= 1
    (folder / _TAR).write_bytes(data)
    found = ShardSet.open(folder).read_codes([4, 5, 6], ("text",))
    assert [type(part) for part in found] == [dict, Failure, dict]
    assert (found[1].key, found[1].reason, found[1].attempts) == ("s5", "checksum", 2)


def test_neighbours_come_in_one_request(folder):
    shards = _open(folder)
    shards.read_codes(range(10), ("text",))
    FlakyFiles.num_reads.clear()
    shards.read_codes([7, 4, 6, 5], ("text", "image"))
    assert FlakyFiles.num_reads == {_TAR: 1}  # the index is still there


def test_members_far_apart_come_apart(folder):
    shards = _open(folder, config=ReadConfig(max_gap_bytes=0))
    shards.read_codes(range(10), ("text",))
    FlakyFiles.num_reads.clear()
    shards.read_codes([4, 5], ("text",))
    assert FlakyFiles.num_reads == {_TAR: 2}


def test_counts_of_blocks_come_with_one_request_for_each_shard(folder):
    shards = _open(folder)
    blocks = [(8, 10), (0, 2), (3, 6), (4, 5)]
    counts = shards.num_codes_of_blocks("text", blocks)
    assert counts.tolist() == [2 * sample + 1 for start, stop in blocks for sample in range(start, stop)]
    FlakyFiles.num_reads.clear()
    shards.num_codes_of_blocks("text", blocks)
    assert not FlakyFiles.num_reads


def test_a_plan_is_patient_with_an_index(folder):
    shards = _open(folder, {_INDEX: [OSError("down")] * 15})
    assert shards.num_codes("text", 4, 8).tolist() == [9, 11, 13, 15]


def test_a_plan_ends_where_an_index_cannot_be_read(folder):
    shards = _open(folder, {_INDEX: [OSError("down")] * 99})
    with pytest.raises(
        UnreadableShard, match=rf"^flaky://set/{_INDEX} is not read: down; see whether the store answers"
    ):
        shards.num_codes("text", 0, 10)


def test_files_that_go_while_they_are_read(folder):
    shards = ShardSet.open(folder, ReadConfig(retry=RetryConfig(first_delay_seconds=0.0)))
    assert isinstance(shards.read_codes([4], ("text",))[0], dict)
    os.truncate(folder / _TAR, 512)
    (folder / "shard-000002.tar").unlink()
    found = shards.read_codes([0, 5, 9], ("text",))
    assert [part.reason for part in found if isinstance(part, Failure)] == ["truncated", "missing"]


def _with_index(folder, change):
    """Change the rows of an index: each (key, spans)."""
    data = (folder / _INDEX).read_bytes()
    layout = read_layout(data)
    rows = [(row["key"].decode(), spans_of(row)) for row in unpack_rows(data[layout.start :], layout.row)]
    (folder / _INDEX).write_bytes(pack_index([change(*row) for row in rows]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"offset": 1 << 60}, "index"),
        ({"size": 1 << 60}, "index"),
        ({"size": (1 << 64) - 1}, "index"),
        ({"offset": (1 << 64) - 1, "size": 8}, "index"),
        ({"num_codes": 3}, "codes"),
        ({"crc32": 0}, "checksum"),
        ({"offset": 0}, "no codes"),
    ],
)
def test_rows_that_lead_astray(folder, change, reason):
    _with_index(folder, lambda key, spans: (key, {**spans, "text.npy": spans["text.npy"]._replace(**change)}))
    (found,) = ShardSet.open(folder).read_codes([5], ("image", "text"))
    assert (found.reason, found.key) == (reason, "s5")


def test_a_member_beyond_the_bound_is_not_read(folder):
    (found,) = ShardSet.open(folder, ReadConfig(max_member_bytes=64)).read_codes([5], ("text",))
    assert (found.reason, found.detail) == ("too large", "150 bytes are more than max_member_bytes=64")


def test_codes_beyond_the_vocabulary_are_a_failure(folder):
    path = folder / "manifest.json"
    content = json.loads(path.read_bytes())
    content["tokenizers"]["text"]["vocab_size"] = 14
    path.write_text(json.dumps(content))
    found = ShardSet.open(folder).read_codes([4, 7], ("text",))
    assert [type(part) for part in found] == [dict, Failure]
    assert found[1].detail.startswith("a code is not in 0..13")


def test_a_billion_samples_are_as_near_as_ten(tmp_path):
    """Ten thousand shards of 100,000 samples, of which one exists: a file with holes."""
    num_samples = 100_000
    with ShardWriter(tmp_path, ShardConfig(), provenance={}) as writer:
        writer.write("a", {"text.npy": pack_codes(np.arange(5), 256)}, {"text": 5})
    data = (tmp_path / "shard-000000.index.npy").read_bytes()
    layout = read_layout(data)
    header = data[: layout.start].replace(b"(1,)", b"(100000,)").replace(b"     \n", b"\n")
    with open(tmp_path / "shard-009999.index.npy", "wb") as file:
        file.write(header)
        file.seek(layout.row.itemsize * (num_samples - 1), os.SEEK_CUR)
        file.write(data[layout.start :])
    os.rename(tmp_path / "shard-000000.tar", tmp_path / "shard-009999.tar")
    content = json.loads((tmp_path / "manifest.json").read_bytes())
    shard = {**content["shards"][0], "num_samples": num_samples}
    names = [(f"shard-{number:06d}.tar", f"shard-{number:06d}.index.npy") for number in range(10_000)]
    content["shards"] = [{**shard, "name": name, "index": index} for name, index in names]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    shards = ShardSet.open(tmp_path)
    assert len(shards) == 10**9
    assert shards.num_codes("text", 10**9 - 2, 10**9).tolist() == [0, 5]
    assert shards.read_codes([10**9 - 1], ("text",))[0]["text"].tolist() == [0, 1, 2, 3, 4]
