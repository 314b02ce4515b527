"""Fixtures of the tests that run commands: one tiny world and one trained run for all of them, and how to call."""

import errno
import os
import shutil
from dataclasses import dataclass

import pytest
from tiny_world import listing, make_world

from triptych.launch.cli import main


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Shared: tests that damage something take `own_world`."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def trained(world):
    """Directory of a finished run. Shared: tests that damage it take `own_run`."""
    with pytest.raises(SystemExit) as ended:
        main(world.training(world.runs / "trained"))
    assert not ended.value.code
    return world.runs / "trained"


@pytest.fixture
def own_world(world, tmp_path):
    """A copy of the world without runs, to damage."""
    shutil.copytree(world.data, tmp_path / "own" / "data")
    return type(world)(tmp_path / "own")


@pytest.fixture
def own_run(trained, tmp_path):
    """A copy of the trained run, to damage."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """`command(*arguments)`: `triptych` in this process, in an empty folder of its own."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def call(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Done(ended.value.code or 0, printed.out, printed.err)

    return call


@pytest.fixture
def assert_refused(command, world, trained, tmp_path):
    """`assert_refused(*arguments, says=(...))`: one line that holds all of `says`, exit code 2, nothing written."""

    def check(*arguments, says):
        before = listing(tmp_path, world.data, trained)
        done = command(*arguments)
        assert done.code == 2, done
        lines = done.err.splitlines()
        assert len(lines) == 1, done.err
        assert lines[0].startswith("triptych: error: ")
        assert "; " in lines[0], f"no mend: {lines[0]}"
        for words in says if isinstance(says, tuple) else (says,):
            assert str(words) in lines[0]
        assert listing(tmp_path, world.data, trained) == before

    return check


@pytest.fixture
def full_disk(monkeypatch):
    """From here on the disk takes no more: what is written is refused when it has to reach the disk."""

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
