"""The sidecar index of a shard: where each member of each sample lies.

A `.npy` table with one fixed-size row per sample, so that row i is found without reading the others: `key`, then per
extension its byte offset in the tar, its size, its CRC-32, and how many codes it holds (0 if it holds none). Offset 0,
where a tar always has a header, means that the sample lacks it.
"""

import io
import tokenize
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MEMBER = np.dtype([("offset", "<u8"), ("size", "<u8"), ("crc32", "<u4"), ("num_codes", "<u4")])


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


def pack_index(rows: Sequence[tuple[str, Mapping[str, Span]]]) -> bytes:
    """The index file of these samples (key, extension to span), in order."""
    extensions = sorted({extension for _, spans in rows for extension in spans})
    width = max((len(key) for key, _ in rows), default=1)
    table = np.zeros(len(rows), np.dtype([("key", f"S{width}"), *((extension, _MEMBER) for extension in extensions)]))
    table["key"] = [key.encode("ascii") for key, _ in rows]
    for extension in extensions:
        table[extension] = [tuple(spans.get(extension, Span(0, 0, 0))) for _, spans in rows]
    buffer = io.BytesIO()
    np.save(buffer, table, allow_pickle=False)
    return buffer.getvalue()


def read_layout(file: BinaryIO) -> IndexLayout:
    """The layout of an index file. ValueError if it is not one."""
    try:
        return _read_layout(file)
    except (SyntaxError, TypeError, tokenize.TokenError) as error:  # numpy lets these through for some damaged headers
        raise ValueError("not an index of a shard") from error


def _read_layout(file: BinaryIO) -> IndexLayout:
    if np.lib.format.read_magic(file) != (1, 0):
        shape, _, row = np.lib.format.read_array_header_2_0(file)
    else:
        shape, _, row = np.lib.format.read_array_header_1_0(file)
    names = row.names or ()
    if len(shape) != 1 or names[:1] != ("key",) or any(row[name] != _MEMBER for name in names[1:]):
        raise ValueError("not an index of a shard")
    return IndexLayout(row=row, num_rows=shape[0], start=file.tell())


def unpack_rows(data: bytes, row: np.dtype[Any]) -> NDArray[Any]:
    """A structured array over the bytes of whole rows."""
    return np.frombuffer(data, dtype=row)


def spans_of(record: Any) -> tuple[str, dict[str, Span]]:
    """Key and members of one row of an index."""
    key, *members = record.item()
    spans = {name: Span(*member) for name, member in zip(record.dtype.names[1:], members, strict=True) if member[0]}
    return key.decode("ascii"), spans
