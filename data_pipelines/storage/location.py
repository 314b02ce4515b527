"""Where a folder is: a local path, or a URL that fsspec understands."""

import re
from pathlib import Path

from triptych.data_pipelines.storage.folder import Folder

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)")
_BROKEN_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:)/[^/]")
_LOCAL = ("file://", "local://")


def is_url(folder: str | Path) -> bool:
    """Whether fsspec is to read it."""
    return _URL.match(str(folder)) is not None and not str(folder).startswith(_LOCAL)


def local_path(folder: str | Path) -> Path:
    """The path of a folder that is not read by fsspec. ValueError for a URL that went through `Path`."""
    text = str(folder)
    if broken := _BROKEN_URL.match(text):
        raise ValueError(f"{text} is a URL that lost a slash; write {broken[1]}//.., and do not make it a Path")
    for scheme in _LOCAL:
        text = text.removeprefix(scheme)
    return Path(text)


def join_folder(folder: str | Path, *names: str) -> str | Path:
    """A folder within a folder: of a path a path, of a URL a URL."""
    if not is_url(folder):
        return local_path(folder).joinpath(*names)
    return "/".join((str(folder).rstrip("/"), *names))


def open_folder(folder: str | Path) -> Folder:
    """What reads a folder. ValueError for a URL whose protocol is unknown or needs a package that is not installed."""
    if is_url(folder):
        from triptych.data_pipelines.storage.remote import RemoteFolder

        return RemoteFolder(str(folder))
    from triptych.data_pipelines.storage.local import LocalFolder

    return LocalFolder(local_path(folder))
