"""A folder is a path or a URL, and what cannot be read is one line."""

from pathlib import Path

import pytest

from triptych.data_pipelines.storage.folder import Range
from triptych.data_pipelines.storage.location import is_url, join_folder, local_path, open_folder


@pytest.mark.parametrize("url", ["s3://bucket/set", "memory://set", "simplecache::s3://bucket/set", "https://host/set"])
def test_urls_are_for_fsspec(url):
    assert is_url(url)
    assert join_folder(url + "/", "codes", "train") == f"{url}/codes/train"


@pytest.mark.parametrize("path", ["data/set", "/data/set", "file:///data/set", Path("set")])
def test_paths_are_not(path):
    assert not is_url(path)
    assert join_folder(path, "train") == local_path(path) / "train"


def test_a_url_that_went_through_path():
    with pytest.raises(ValueError, match=r"^s3:/bucket/set is a URL that lost a slash; write s3://.., and do not"):
        open_folder(Path("s3://bucket/set"))


def test_a_package_that_is_missing():
    with pytest.raises(ValueError, match=r"^s3://bucket/set needs a package that is missing \(.*s3fs.*\); install it$"):
        open_folder("s3://bucket/set")


def test_a_protocol_that_nobody_knows():
    with pytest.raises(ValueError, match=r"^nowhere://set: .*; give a path or a URL that fsspec knows$"):
        open_folder("nowhere://set")


def test_local_ranges(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    folder = open_folder(tmp_path)
    found = folder.read_ranges([Range("a", 2, 4), Range("missing", 0, 1), Range("a", 8, 99)])
    assert [type(part) if isinstance(part, OSError) else part for part in found] == [b"23", FileNotFoundError, b"89"]


def test_a_file_that_is_forgotten_is_opened_anew(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    folder = open_folder(tmp_path)
    assert folder.read_ranges([Range("a", 0, 3)]) == [b"old"]
    (tmp_path / "b").write_bytes(b"new")
    (tmp_path / "b").replace(tmp_path / "a")
    folder.forget("a")
    assert folder.read_ranges([Range("a", 0, 3)]) == [b"new"]
