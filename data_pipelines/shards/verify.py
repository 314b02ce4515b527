"""Whether a folder of shards still holds, byte for byte, what was written, and whether that fits together."""

import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from triptych.data_pipelines.shards.codes import code_extension, unpack_codes
from triptych.data_pipelines.shards.errors import DamagedSample, UnreadableShard
from triptych.data_pipelines.shards.index import (
    MAX_HEADER_BYTES,
    IndexLayout,
    Span,
    key_of,
    read_layout,
    spans_of,
    unpack_rows,
)
from triptych.data_pipelines.shards.manifest import Manifest, Shard, read_manifest
from triptych.data_pipelines.shards.reader import ReadConfig
from triptych.data_pipelines.shards.reading.sequential import SequentialFile
from triptych.data_pipelines.storage.folder import Range
from triptych.data_pipelines.storage.location import open_folder
from triptych.data_pipelines.storage.retry import Clock, PatientFolder, Unread
from triptych.data_pipelines.vocabulary import MODALITIES, Modality

_COPY_AGAIN = "copy it again, or make the folder again"
_MAKE_AGAIN = "make the folder again"
_ROWS_AT_ONCE = 4096
_PIECE_BYTES = 1 << 20
_CODES: dict[str, Modality] = {code_extension(modality): modality for modality in MODALITIES}


def verify(folder: str | Path, config: ReadConfig | None = None, clock: Clock | None = None) -> Manifest:
    """Read every byte, some megabytes at a time, and compare all that is known twice.

    That is: every tar and index with its size and SHA-256 in the manifest; every row of an index with the header in the
    tar before the member (key, extension, size) and with the bytes there (CRC-32, number of codes); codes with the size
    of the vocabulary; sums with the manifest. ValueError, naming the first thing that is wrong.
    """
    config = config or ReadConfig()
    manifest = read_manifest(folder, config.retry, clock)
    files = PatientFolder(open_folder(folder), config.retry, clock or Clock())
    vocab_sizes: dict[Modality, int] = {modality: record.vocab_size for modality, record in manifest.tokenizers.items()}
    for shard in manifest.shards:
        _ShardCheck(files, shard, vocab_sizes, config.max_member_bytes).run()
    return manifest


class _Misfit(Exception):
    """What does not fit, in one line, without the mend."""


class _ShardCheck:
    """One tar and its index."""

    def __init__(
        self, files: PatientFolder, shard: Shard, vocab_sizes: dict[Modality, int], max_member_bytes: int
    ) -> None:
        self._files = files
        self._shard = shard
        self._vocab_sizes = vocab_sizes
        self._max_member_bytes = max_member_bytes
        self._num_codes: Counter[str] = Counter()
        self._member_bytes: Counter[str] = Counter()
        self._keys: set[str] = set()

    def run(self) -> None:
        """ValueError for the first thing that is wrong."""
        shard = self._shard
        self._require_size()
        index = SequentialFile(self._files, shard.index, self._size(shard.index))
        self._require_digest(shard.index, index.sha256(), shard.index_sha256)
        layout = self._layout()
        tar = SequentialFile(self._files, shard.name, shard.num_bytes)
        misfit = ""
        try:
            for record in self._records(layout):
                self._check_sample(tar, record)
        except _Misfit as error:
            misfit = str(error)
        self._require_digest(shard.name, tar.sha256(), shard.sha256, misfit)
        if misfit:  # it is as it was written, and was written so
            raise ValueError(f"{self._files.path(shard.name)}: {misfit}; {_MAKE_AGAIN}")
        self._require_sums("codes", self._num_codes, shard.num_codes)
        self._require_sums("bytes in members", self._member_bytes, shard.member_bytes)

    def _require_sums(self, what: str, found: Mapping[str, int], promised: Mapping[str, int]) -> None:
        for name in sorted({*found, *promised}):
            if found.get(name, 0) != promised.get(name, 0):
                raise ValueError(
                    f"{self._files.path(self._shard.name)} holds {found.get(name, 0)} {name} {what}, the manifest says "
                    f"{promised.get(name, 0)}; {_MAKE_AGAIN}"
                )

    def _size(self, name: str) -> int:
        size = self._files.size(name)
        if size is None:
            self._read(Range(name, 0, 1))  # says what is wrong, if it still is
            raise UnreadableShard("unreachable", f"{self._files.path(name)} has a size that is not told", 1)
        return size

    def _require_size(self) -> None:
        promised, size = self._shard.num_bytes, self._size(self._shard.name)
        if size != promised:
            what = "truncated" if size < promised else "too long"
            detail = f"{self._files.path(self._shard.name)} is {what}: {size} bytes, the manifest says {promised}"
            raise UnreadableShard("wrong size", detail, 1)

    def _layout(self) -> IndexLayout:
        path = self._files.path(self._shard.index)
        prefix = self._read(Range(self._shard.index, 0, MAX_HEADER_BYTES, exact=False))
        try:
            layout = read_layout(prefix)
        except ValueError as error:
            raise ValueError(f"{path} is not an index; {_COPY_AGAIN}") from error
        if layout.num_rows != self._shard.num_samples or layout.end != self._size(self._shard.index):
            raise ValueError(f"{path} does not fit its manifest; {_COPY_AGAIN}")
        return layout

    def _require_digest(self, name: str, found: str, promised: str, misfit: str = "") -> None:
        if found != promised:
            first = f" (first, {misfit})" if misfit else ""
            raise ValueError(
                f"{self._files.path(name)} has SHA-256 {found[:12]}.., the manifest says {promised[:12]}..{first}; "
                f"{_COPY_AGAIN}"
            )

    def _records(self, layout: IndexLayout) -> Iterator[Any]:
        size = layout.row.itemsize
        for first in range(0, layout.num_rows, _ROWS_AT_ONCE):
            last = min(first + _ROWS_AT_ONCE, layout.num_rows)
            data = self._read(Range(self._shard.index, layout.start + first * size, layout.start + last * size))
            yield from unpack_rows(data, layout.row)

    def _check_sample(self, tar: SequentialFile, record: Any) -> None:
        key = key_of(record)
        if not key or key in self._keys:
            raise _Misfit(f"the index has {'a sample without a key' if not key else f'the key {key} twice'}")
        self._keys.add(key)
        for extension, span in sorted(spans_of(record).items(), key=lambda item: item[1].offset):
            self._check_member(tar, key, extension, span)

    def _check_member(self, tar: SequentialFile, key: str, extension: str, span: Span) -> None:
        name = f"{key}.{extension}"
        start = span.offset - tarfile.BLOCKSIZE
        if start < tar.position or span.offset + span.size > self._shard.num_bytes:
            raise _Misfit(f"the index leads {name} to where no member can be")
        tar.skip(start)
        try:
            header = tarfile.TarInfo.frombuf(tar.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise _Misfit(f"no header of a tar is where {name} should be") from error
        if (header.name, header.size, header.isreg()) != (name, span.size, True):
            raise _Misfit(f"the tar has another member where {name} should be")
        crc, pieces = 0, []
        for first in range(0, span.size, _PIECE_BYTES):
            piece = tar.read(min(_PIECE_BYTES, span.size - first))
            crc = zlib.crc32(piece, crc)
            if extension in _CODES and span.size <= self._max_member_bytes:
                pieces.append(piece)
        if crc != span.crc32:
            raise _Misfit(f"{name} holds other bytes than were written")
        self._member_bytes[extension] += span.size
        if extension in _CODES:
            self._check_codes(name, _CODES[extension], b"".join(pieces), span)
        elif span.num_codes:
            raise _Misfit(f"the index counts codes in {name}")

    def _check_codes(self, name: str, modality: Modality, data: bytes, span: Span) -> None:
        if len(data) < span.size:
            raise _Misfit(f"{name} has {span.size} bytes, more than max_member_bytes={self._max_member_bytes}")
        try:
            codes = unpack_codes(name, data, self._vocab_sizes.get(modality))
        except DamagedSample as error:
            raise _Misfit(f"{name}: {error.detail}") from error
        if len(codes) != span.num_codes:
            raise _Misfit(f"{name} holds {len(codes)} codes, the index says {span.num_codes}")
        self._num_codes[modality] += len(codes)

    def _read(self, asked: Range) -> bytes:
        (data,) = self._files.read_ranges([asked])
        if isinstance(data, Unread):
            raise UnreadableShard(data.reason, data.detail, data.attempts)
        return data
