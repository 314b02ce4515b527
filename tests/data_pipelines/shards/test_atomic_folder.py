"""A folder is there whole or not at all."""

import errno
import os

import pytest

from triptych.data_pipelines.shards.atomic import atomic_folder, write_file


def _fail_within(target, error):
    with atomic_folder(target) as partial:
        write_file(partial / "a", b"1")
        raise error


def _make_another_within(target):
    with atomic_folder(target):
        target.mkdir()
        (target / "first").touch()


def test_appears_only_at_the_end(tmp_path):
    target = tmp_path / "deep" / "set"
    with atomic_folder(target) as partial:
        write_file(partial / "a", b"1")
        assert not target.exists()
    assert (target / "a").read_bytes() == b"1"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_leaves_nothing_behind_when_interrupted(tmp_path, error):
    with pytest.raises(error):
        _fail_within(tmp_path / "set", error())
    assert list(tmp_path.iterdir()) == []


def test_full_disk_names_the_folder_and_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match=r"free some space.*/set") as caught:
        _fail_within(tmp_path / "set", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert caught.value.errno == errno.ENOSPC
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_refuses_a_folder_that_exists(tmp_path):
    (tmp_path / "set").mkdir()
    with pytest.raises(ValueError, match=r"set already exists; remove it"), atomic_folder(tmp_path / "set"):
        pass


def test_the_slower_of_two_makers_is_refused(tmp_path):
    target = tmp_path / "set"
    with pytest.raises(ValueError, match=r"set was made meanwhile"):
        _make_another_within(target)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_permissions_follow_the_umask(tmp_path):
    (tmp_path / "plain").mkdir()
    with atomic_folder(tmp_path / "set"):
        pass
    assert (tmp_path / "set").stat().st_mode == (tmp_path / "plain").stat().st_mode
