"""Input files as streams of bytes, decompressed where their name says so."""

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, Protocol

# What reading a damaged or cut-off compressed stream raises. An OSError with a number is the disk's.
DAMAGED_STREAM = (EOFError, zlib.error, OSError)
_BUFFER_BYTES = 1 << 20


class Reader(Protocol):
    """The part of a binary file that is needed here."""

    def read(self, size: int = -1, /) -> bytes: ...

    def readline(self, size: int = -1, /) -> bytes: ...


class Stream:
    """An open input. `compressed`: it cannot be searched, and its own bytes differ in number from what is read."""

    def __init__(self, reader: Reader, raw: BinaryIO, *, compressed: bool) -> None:
        self.reader = reader
        self.compressed = compressed
        self._raw = raw
        self._size = os.fstat(raw.fileno()).st_size

    def seek(self, position: int) -> None:
        """Go on at a byte of a file that is not compressed."""
        self._raw.seek(position)

    def skip(self, size: int) -> bool:
        """Leave out some bytes; False if the end came before."""
        if not self.compressed:
            if size > self._size - self._raw.tell():  # asked first: a tar may claim more than a seek can take
                return False
            self._raw.seek(size, io.SEEK_CUR)
            return True
        while size and (data := self.reader.read(min(size, _BUFFER_BYTES))):
            size -= len(data)
        return size == 0

    def tell(self) -> int:
        """How many bytes of the file itself have been read, of a compressed one about."""
        return self._raw.tell()


@contextmanager
def open_stream(path: Path) -> Iterator[Stream]:
    """Read a file; .gz and .tgz through gzip, .zst through pyarrow. ValueError if that is not installed."""
    with open(path, "rb", buffering=_BUFFER_BYTES) as raw:
        if path.suffix in (".gz", ".tgz"):
            unzipped = io.BufferedReader(gzip.GzipFile(fileobj=raw), _BUFFER_BYTES)
            yield Stream(unzipped, raw, compressed=True)
        elif path.suffix == ".zst":
            yield Stream(_zstandard(raw), raw, compressed=True)
        else:
            yield Stream(raw, raw, compressed=False)


def _zstandard(raw: BinaryIO) -> Reader:
    pyarrow = import_pyarrow(".zst files")
    return io.BufferedReader(pyarrow.CompressedInputStream(raw, "zstd"), _BUFFER_BYTES)


def import_pyarrow(what: str) -> ModuleType:
    """The package, with its parquet. ValueError if it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError(f"{what} need pyarrow, which is missing; pip install 'triptych[prepare]'") from None
    return pyarrow
