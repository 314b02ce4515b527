"""A folder that is there whole or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside `target`; rename it to `target` at the end, or remove it if anything is raised.

    The temporary folder has the same parent, so the rename stays within one file system. After a kill -9 or a power
    cut it stays behind as `.<name>.partial-*`, which nothing reads. ValueError if `target` exists; OSError naming it
    if the disk is full.
    """
    if target.exists():
        raise ValueError(f"{target} already exists; remove it or choose another folder")
    partial = target.parent / f".{target.name}.partial-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        partial.mkdir(parents=True)
        yield partial
        _flush_folder(partial)
        _rename(partial, target)
        _flush_folder(target.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if error.errno in _FULL:
            reason = f"{os.strerror(error.errno)}, nothing was kept; free some space or choose another folder"
            raise OSError(error.errno, reason, str(target)) from error
        raise
    except BaseException:  # Ctrl-C too
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_file(path: Path, data: bytes) -> None:
    """Write a small file and force it to the disk."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Write a file that may exist already: it is the old one or the whole new one, at every moment."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write_file(part, data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _rename(partial: Path, target: Path) -> None:
    try:
        os.rename(partial, target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):  # another process was faster
            raise ValueError(f"{target} was made meanwhile; remove it or choose another folder") from error
        raise


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
