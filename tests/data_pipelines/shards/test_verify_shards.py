"""Every byte of a set is covered by a checksum."""

import pytest
from sample_sets import TEXT_SAMPLES, make_set

from triptych.data_pipelines.shards.manifest import read_manifest
from triptych.data_pipelines.shards.verify import verify


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
    with pytest.raises(ValueError, match=rf"/set/{name} has SHA-256 \w+\.\., the manifest says \w+\.\.; copy it again"):
        verify(path.parent)


def test_missing_shard_is_found(tmp_path):
    folder = make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_samples=4)
    (folder / "shard-000002.tar").unlink()
    with pytest.raises(ValueError, match=r"/set/shard-000002.tar is missing"):
        verify(folder)
