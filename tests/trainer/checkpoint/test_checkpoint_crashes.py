"""A save that is refused or killed at any of its operations on the disk leaves the checkpoint before it whole."""

import errno
import io
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import traceback

import pytest
import torch
from fabricated_runs import Split, advance, folder_at, is_at, open_store, state_of
from torch import distributed

from triptych.trainer.checkpoint.disk import storage
from triptych.trainer.checkpoint.disk.reading import verify_checkpoint

_SEAMS = [(os, "fsync"), (os, "mkdir"), (os, "rename"), (os, "unlink"), (os, "rmdir"), (pathlib.Path, "open")]


def _count_down(operations, act):
    """Let `act` happen in the place of the operation with that number (from 0), the half of it if it is a write."""
    left = [operations]

    def wrapped(original):
        def operation(*arguments, **options):
            if original.__name__ == "mkdir" and os.path.isdir(arguments[0]):
                return original(*arguments, **options)  # refused in any case, which changes nothing
            left[0] -= 1
            if left[0] == -1:
                act()
            return original(*arguments, **options)

        return operation

    class HalfWritten(io.BufferedWriter):
        def write(self, data):
            left[0] -= 1
            if left[0] == -1:
                super().write(bytes(data)[: len(data) // 2])
                self.flush()
                act()
            return super().write(data)

    def opened(path, mode="r", *arguments, **options):
        if mode != "xb":
            return real_open(path, mode, *arguments, **options)
        return HalfWritten(io.FileIO(path, "xb"))

    real_open = pathlib.Path.open
    for owner, name in _SEAMS:
        setattr(owner, name, wrapped(opened if name == "open" else getattr(owner, name)))
    return left


def _open_one_process():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)


def _saved_until(folder, operations, act, version):
    """One save more, stopped at an operation; operations that were left to go."""
    _open_one_process()
    state = state_of(version=1)
    with open_store(folder, keep_last=1) as store:
        store.load_newest(state)
        advance(state, version)
        left = _count_down(operations, act)
        store.save(state)
    return left[0]


def _kill():
    os.kill(os.getpid(), signal.SIGKILL)


def _refuse():
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def _every_operation(start, act, code, told):
    """In a process that has imported everything and joined nothing: fork, stop at operation 0, 1, ... until a save
    comes through; tell how many were stopped.
    """
    torch.set_num_threads(1)
    for operations in range(1000):
        folder = start.with_name(f"{act.__name__}{operations}")
        shutil.copytree(start, folder)
        child = os.fork()
        if child == 0:
            try:
                left = _saved_until(folder, operations, act, 2)
                os._exit(0 if left >= 0 else 4)
            except OSError:
                os._exit(3)
            except BaseException:  # noqa: BLE001 - told through the exit code
                traceback.print_exc()
                os._exit(5)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if ended == 0:
            break
        assert ended == code, (operations, ended)
    told.put(operations)


def _load(folder):
    """The version that is there, after a save."""
    state = state_of()
    with open_store(folder) as store:
        store.load_newest(state)
    return next(version for version in (1, 2) if is_at(state, version))


def _first(folder):
    _open_one_process()
    with open_store(folder) as store:
        store.save(state_of(version=1))


def _stop_everywhere(tmp_path, act, code):
    spawn = multiprocessing.get_context("spawn")
    start = tmp_path / "start"
    for target, arguments in ((_first, (start,)), (_every_operation, (start, act, code, told := spawn.SimpleQueue()))):
        process = spawn.Process(target=target, args=arguments)
        process.start()
        process.join(240)
        assert process.exitcode == 0
    return told.get()


def _versions_after(tmp_path, name, number):
    _open_one_process()
    try:
        return [_load(tmp_path / f"{name}{operations}") for operations in range(number)]
    finally:
        distributed.destroy_process_group()


def _one_of_two(folder, rank, told):
    """Rank 1 is killed while it writes the second checkpoint."""
    store = distributed.FileStore(str(folder.with_name("store")), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    state = state_of(Split(data=2), 1)
    try:
        with open_store(folder) as checkpoints:
            checkpoints.save(state)
            checkpoints.wait()
            advance(state, 2)
            if rank == 1:
                storage.write_tensors = lambda *arguments: _kill()
            checkpoints.save(state)
    except RuntimeError as error:
        told.put(str(error))
    os._exit(0)  # the group cannot be closed in order: the other is gone


def test_a_rank_that_is_killed_fails_the_save_of_the_others_soon(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    folder, told = tmp_path / "checkpoints", spawn.SimpleQueue()
    ranks = [spawn.Process(target=_one_of_two, args=(folder, rank, told)) for rank in range(2)]
    for process in ranks:
        process.start()
    try:
        for process in ranks:
            process.join(60)
        assert [process.exitcode for process in ranks] == [0, -signal.SIGKILL]
    finally:
        for process in ranks:
            process.kill()
    assert re.search(r"tokens-0+200 could not be written: a rank is gone", told.get())
    verify_checkpoint(folder_at(folder, 1))
    assert not folder_at(folder, 2).exists()


@pytest.mark.parametrize(("act", "code"), [(_kill, -signal.SIGKILL), (_refuse, 3)])
def test_stopped_at_every_operation_the_last_whole_checkpoint_is_there(tmp_path, act, code):
    number = _stop_everywhere(tmp_path, act, code)
    versions = _versions_after(tmp_path, act.__name__, number)
    assert number >= 15
    assert versions == sorted(versions)  # first the old one, and from one operation on the new one
    assert set(versions) == {1, 2}
    for operations in range(number):
        for folder in (tmp_path / f"{act.__name__}{operations}").glob("tokens-*"):
            verify_checkpoint(folder)
