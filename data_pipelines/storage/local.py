"""A folder on a disk. Reads name their offset (`pread`), so threads and forked processes share the open files."""

import os
import weakref
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from triptych.data_pipelines.storage.folder import Range

_MAX_OPEN_FILES = 128  # well under the usual limit of 1024


class LocalFolder:
    """Files under a path."""

    ranges_at_once = 1
    max_gap_bytes = 8 << 10

    def __init__(self, path: Path) -> None:
        self._path = path
        self._prefix = f"{path}/"
        # Files drop out of this cache by age and close when the last reader lets go. No cycle goes through `self`, or
        # the files of a forgotten folder would stay open until the garbage collector comes by.
        self._open = lru_cache(_MAX_OPEN_FILES)(_OpenFile)
        self._openings: dict[str, int] = {}  # of the few files that were opened again

    def path(self, name: str) -> str:
        return str(self._path / name)

    def size(self, name: str) -> int:
        return os.stat(self._path / name).st_size

    def read_ranges(self, ranges: Sequence[Range]) -> list[bytes | OSError]:
        return [self._read(*asked) for asked in ranges]

    def forget(self, name: str) -> None:
        self._openings[name] = self._openings.get(name, 0) + 1

    def _read(self, name: str, start: int, stop: int, _exact: bool) -> bytes | OSError:
        try:
            return self._open(self._prefix + name, self._openings.get(name, 0)).read(start, stop - start)
        except OSError as error:
            return error

    def __reduce__(self) -> tuple[type["LocalFolder"], tuple[Path]]:
        return type(self), (self._path,)


class _OpenFile:
    """A file that closes when nobody holds it. opening: tells one that was opened again from the one before."""

    def __init__(self, path: str, opening: int) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes, or fewer where the file ends."""
        data = os.pread(self._descriptor, size, offset)
        if len(data) == size:
            return data
        parts, missing = [data], size - len(data)  # the kernel gives at most 2 GiB at once
        while missing and parts[-1]:
            parts.append(os.pread(self._descriptor, missing, offset + size - missing))
            missing -= len(parts[-1])
        return b"".join(parts)
