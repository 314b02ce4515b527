"""A folder that fsspec reads: an object store, a web server, an archive, memory, or any of them behind a cache."""

import os
from collections.abc import Sequence
from typing import Any

from triptych.data_pipelines.storage.folder import Range

_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


class RemoteFolder:
    """Files under a URL, such as `s3://bucket/folder` or `simplecache::https://host/folder`. Credentials and other
    options come from where the store's package looks for them, and from fsspec's own configuration.

    ValueError if fsspec does not know the protocol, or a package that it needs is not installed.
    """

    max_gap_bytes = 256 << 10  # about what a request costs: 10 ms at 25 MB/s

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._opened: tuple[int, Any, str] | None = None
        self._files()

    @property
    def ranges_at_once(self) -> int:
        """Many where they are fetched at the same time, else one, so that each has the whole of its time."""
        return 64 if getattr(self._files()[0], "async_impl", False) else 1

    def path(self, name: str) -> str:
        return f"{self._url}/{name}"

    def size(self, name: str) -> int:
        files, root = self._files()
        try:
            size = files.size(f"{root}/{name}")
        except Exception as error:
            raise _as_os_error(error, self.path(name)) from error
        if size is None:
            raise OSError(f"{self.path(name)} has a size that the store does not tell")
        return size

    def read_ranges(self, ranges: Sequence[Range]) -> list[bytes | OSError]:
        files, root = self._files()
        names, starts, stops = ([*column] for column in list(zip(*ranges, strict=True))[:3])
        found = files.cat_ranges([f"{root}/{name}" for name in names], starts, stops, on_error="return")
        return [
            _as_os_error(part, self.path(name)) if isinstance(part, BaseException) else bytes(part)
            for part, name in zip(found, names, strict=True)
        ]

    def forget(self, name: str) -> None:
        """Nothing: each read is a request of its own."""

    def _files(self) -> tuple[Any, str]:
        """fsspec's file system and the folder's path within it; a forked process makes its own connections."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), *_open(self._url))
        return self._opened[1:]

    def __reduce__(self) -> tuple[type["RemoteFolder"], tuple[str]]:
        return type(self), (self._url,)


def _open(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        files, root = fsspec.url_to_fs(url)
    except ImportError as error:
        raise ValueError(f"{url} needs a package that is missing ({_one_line(error)}); install it") from error
    except ValueError as error:
        raise ValueError(f"{url}: {_one_line(error)}; give a path or a URL that fsspec knows") from error
    return files, root.rstrip("/")


def _as_os_error(error: BaseException, path: str) -> OSError:
    """Stores raise errors of their own kinds; what is not surely for good counts as passing."""
    if isinstance(error, OSError):
        return error if isinstance(error, _PERMANENT) else OSError(_one_line(error))
    if not isinstance(error, Exception):
        raise error
    return OSError(f"{path}: {type(error).__name__}: {_one_line(error)}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
