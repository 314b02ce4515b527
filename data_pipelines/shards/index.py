"""The sidecar index of a shard: where each member of each sample lies.

A `.npy` table with one fixed-size row per sample, so that row i is found without reading the others: `key`, then per
extension its byte offset in the tar, its size, its CRC-32, and how many codes it holds (0 if it holds none). Offset 0,
where a tar always has a header, means that the sample lacks it.
"""

import io
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MEMBER = np.dtype([("offset", "<u8"), ("size", "<u8"), ("crc32", "<u4"), ("num_codes", "<u4")])
MAX_HEADER_BYTES = 1 << 14
"""A prefix of the file of this length holds the whole header."""
_MAX_ROW_BYTES = 1 << 16
# Headers are matched with what `np.save` writes rather than evaluated: nothing in them can be costly.
_FIELD = re.escape(repr(MEMBER.descr)).encode()
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': \[\('key', '\|S([0-9]{1,5})'\)((?:, \('[a-z0-9.]{1,32}', "
    + _FIELD
    + rb"\))*)\], 'fortran_order': False, 'shape': \(([0-9]{1,15}),\), \} *\n",
    re.DOTALL,
)
_EXTENSION = re.compile(rb", \('([a-z0-9.]+)', \[")


class Span(NamedTuple):
    """A member within its tar. offset and size in bytes. num_codes: 0 for what is no codes."""

    offset: int
    size: int
    crc32: int
    num_codes: int = 0


class IndexLayout(NamedTuple):
    """How to find a row: `start` is the byte offset of row 0 in the index file."""

    row: np.dtype[Any]
    num_rows: int
    start: int

    @property
    def end(self) -> int:
        """Bytes of the file."""
        return self.start + self.num_rows * self.row.itemsize


def pack_index(rows: Sequence[tuple[str, Mapping[str, Span]]]) -> bytes:
    """The index file of these samples (key, extension to span), in order."""
    extensions = sorted({extension for _, spans in rows for extension in spans})
    width = max((len(key) for key, _ in rows), default=1)
    table = np.zeros(len(rows), _row(width, extensions))
    table["key"] = [key.encode("ascii") for key, _ in rows]
    for extension in extensions:
        table[extension] = [tuple(spans.get(extension, Span(0, 0, 0))) for _, spans in rows]
    buffer = io.BytesIO()
    np.save(buffer, table, allow_pickle=False)
    return buffer.getvalue()


def read_layout(prefix: bytes) -> IndexLayout:
    """The layout of an index file that begins so; `MAX_HEADER_BYTES` are enough. ValueError if it is not one."""
    return _parsed(prefix[: 10 + int.from_bytes(prefix[8:10], "little")][:MAX_HEADER_BYTES])


@lru_cache(maxsize=64)  # shards of a set differ in their number of rows, if at all
def _parsed(header: bytes) -> IndexLayout:
    found = _HEADER.fullmatch(header)
    if found is None:
        raise ValueError("not an index of a shard")
    extensions = [name.decode() for name in _EXTENSION.findall(found[3])]
    if len(set(extensions)) != len(extensions):
        raise ValueError("not an index of a shard")
    row = _row(int(found[2]), extensions)
    if not 0 < row.itemsize <= _MAX_ROW_BYTES:
        raise ValueError("not an index of a shard")
    return IndexLayout(row=row, num_rows=int(found[4]), start=len(header))


def _row(width: int, extensions: Sequence[str]) -> np.dtype[Any]:
    return np.dtype([("key", f"S{width}"), *((extension, MEMBER) for extension in extensions)])


def unpack_rows(data: bytes, row: np.dtype[Any]) -> NDArray[Any]:
    """A structured array over the bytes of whole rows."""
    return np.frombuffer(data, dtype=row)


def key_of(record: Any) -> str:
    """Key of one row of an index, "" if it is none."""
    key = record["key"]
    return key.decode("ascii") if key.isascii() and key.decode("ascii").isprintable() else ""


def spans_of(record: Any) -> dict[str, Span]:
    """Members of one row of an index."""
    _, *members = record.item()
    return {name: Span(*member) for name, member in zip(record.dtype.names[1:], members, strict=True) if member[0]}
