"""The members of a tar, read in one pass without extracting anything: foreign archives are not trusted.

POSIX ustar, pax and GNU archives, in their order. What could name a place outside of the archive (absolute paths,
`..`), stand for something else (links, devices) or be larger than it may is refused, member by member. Members are
grouped to samples as webdataset does: by the name up to the first dot of its last part.
"""

import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from triptych.data_pipelines.prepare.inputs.streams import DAMAGED_STREAM, Stream
from triptych.data_pipelines.shards.errors import DamagedSample

_BLOCK = tarfile.BLOCKSIZE
_ZEROS = bytes(_BLOCK)
_MAX_EXTENDED_BYTES = 1 << 16  # of one header with a long name or pax records
_MAX_MEMBERS = 64  # of one sample
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_KINDS = {
    tarfile.LNKTYPE: "a link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


@dataclass(slots=True)
class TarSample:
    """Consecutive members of one key. members: extension to bytes, of those that were asked for.

    damage: why it cannot be used, or None. num_bytes: of the tar.
    """

    key: str
    members: dict[str, bytes] = field(default_factory=dict)
    num_members: int = 0
    damage: DamagedSample | None = None
    num_bytes: int = 0

    def refuse(self, reason: str, detail: str) -> None:
        self.damage = self.damage or DamagedSample(self.key, reason, detail)


class _BrokenTar(Exception):
    """The rest of the archive cannot be read."""


@dataclass(slots=True)
class _Header:
    """Names and sizes that headers before a member give it. num_bytes: of all its headers."""

    name: str
    size: int
    kind: bytes
    num_bytes: int


def read_samples(stream: Stream, extensions: Collection[str], max_member_bytes: int) -> Iterator[TarSample]:
    """The samples, one in memory at a time; members of other extensions are passed over.

    Where the archive is cut off or no tar goes on, a last damaged sample says so: it is the one that was being read, or
    has the key "end".
    """
    sample: TarSample | None = None
    try:
        while (header := _next_header(stream)) is not None:
            key, extension = _split(header.name)
            if header.kind == tarfile.DIRTYPE or extension is None:
                _pass_over(stream, _padded(header.size))
                continue
            if sample is None or sample.key != key:
                if sample is not None:
                    yield sample
                sample = TarSample(key)
            _take(stream, header, sample, extension, extensions, max_member_bytes)
    except (_BrokenTar, *DAMAGED_STREAM) as error:
        if isinstance(error, OSError) and (error.errno is not None or not stream.compressed):
            raise
        sample = sample or TarSample("end")
        sample.refuse("tar", f"the tar ends early or is damaged here ({' '.join(str(error).split())})")
    if sample is not None:
        yield sample


def _take(
    stream: Stream, header: _Header, sample: TarSample, extension: str, wanted: Collection[str], max_bytes: int
) -> None:
    """Read a member into its sample, or note why not."""
    sample.num_members += 1
    sample.num_bytes += header.num_bytes
    path, kind = PurePosixPath(header.name), header.kind
    if path.is_absolute() or ".." in path.parts:
        sample.refuse("tar path", f"member {header.name[:100]!r} names a place outside of the tar")
    elif kind not in _FILES:
        sample.refuse("tar member", f"member .{extension} is {_KINDS.get(kind, f'of kind {kind!r}')}, not a file")
    elif sample.num_members > _MAX_MEMBERS:
        sample.refuse("tar member", f"it has more than {_MAX_MEMBERS} members")
    elif extension in sample.members:
        sample.refuse("tar member", f"it has two members .{extension}")
    elif extension in wanted and header.size > max_bytes:
        sample.refuse("tar member", f"member .{extension} is longer than max_member_bytes={max_bytes}")
    elif extension in wanted:
        sample.members[extension] = _read(stream, header.size)
        _pass_over(stream, -header.size % _BLOCK)
        sample.num_bytes += _padded(header.size)
        return
    _pass_over(stream, _padded(header.size))
    sample.num_bytes += _padded(header.size)  # not before: it is what a header claims


def _next_header(stream: Stream) -> _Header | None:
    """The next member's header, with those that lengthen it; None at the end. Blocks of zeros, which end an archive,
    are passed over: another may follow.
    """
    name, size, num_bytes, ended = None, None, 0, False
    while True:
        block = stream.reader.read(_BLOCK)
        num_bytes += len(block)
        if not block:
            if ended:
                return None
            raise _BrokenTar("its end mark is missing")
        if block == _ZEROS:
            ended = True
            continue
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
        except (tarfile.HeaderError, ValueError, IndexError):
            raise _BrokenTar("a header is damaged") from None
        if header.size < 0:
            raise _BrokenTar("a size is below 0")
        if header.type in _LONG or header.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE):
            if header.size > _MAX_EXTENDED_BYTES:
                raise _BrokenTar(f"a header is longer than {_MAX_EXTENDED_BYTES} bytes")
            data = _read(stream, header.size)
            num_bytes += len(_read(stream, -header.size % _BLOCK)) + len(data)
            if header.type == tarfile.GNUTYPE_LONGNAME:
                name = data.rstrip(b"\0").decode("utf-8", "backslashreplace")
            elif header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                records = _pax_records(data)
                name, size = records.get("path", name), _pax_size(records, size)
            continue
        has_data = header.type not in (tarfile.LNKTYPE, tarfile.SYMTYPE, *_EMPTY)
        own_size = header.size if size is None else size
        return _Header(header.name if name is None else name, own_size if has_data else 0, header.type, num_bytes)


_EMPTY = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)


def _pax_records(data: bytes) -> dict[str, str]:
    """`length key=value\\n`, the length in decimal digits and of the whole record (POSIX.1-2001, pax)."""
    records: dict[str, str] = {}
    while data:
        digits, _, _ = data[:12].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = data[len(digits) + 1 : length - 1]
        if not len(digits) + 2 < length <= len(data) or b"=" not in record or data[length - 1 : length] != b"\n":
            raise _BrokenTar("a pax header is damaged")
        key, _, value = record.partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "backslashreplace")
        data = data[length:]
    return records


def _pax_size(records: dict[str, str], size: int | None) -> int | None:
    if "size" not in records:
        return size
    if not records["size"].isdecimal() or len(records["size"]) > 20:
        raise _BrokenTar("a pax header is damaged")
    return int(records["size"])


def _split(name: str) -> tuple[str, str | None]:
    """Key and extension, lower-case, of a member's name; no extension for what webdataset passes over."""
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    return f"{folder}{slash}{stem}", extension.lower() if stem and dot and extension else None


def _pass_over(stream: Stream, num_bytes: int) -> None:
    if not stream.skip(num_bytes):
        raise _BrokenTar("a member ends early")


def _read(stream: Stream, size: int) -> bytes:
    data = stream.reader.read(size)
    if len(data) < size:
        raise _BrokenTar("a member ends early")
    return data


def _padded(size: int) -> int:
    return size + -size % _BLOCK
