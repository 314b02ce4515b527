"""Reads a folder of shards: any sample by its absolute index, or all of them in order.

Nothing is held but the manifest and a bounded number of open files, so the size of the set does not matter. Reads name
their offset (`pread`), so threads and forked processes share the open files; a pickled `ShardSet` opens its own.
"""

import bisect
import itertools
import os
import weakref
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.shards.codes import code_extension, unpack_codes
from triptych.data_pipelines.shards.errors import DamagedSample, Failure
from triptych.data_pipelines.shards.index import IndexLayout, Span, read_layout, spans_of, unpack_rows
from triptych.data_pipelines.shards.manifest import Manifest, Shard, read_manifest
from triptych.data_pipelines.vocabulary import Modality

_MAX_OPEN_SHARDS = 64  # two files each; well under the usual limit of 1024
_ROWS_AT_ONCE = 4096


class Sample(NamedTuple):
    """key: unique within its shard. members: extension to bytes."""

    key: str
    members: dict[str, bytes]


class ShardSet:
    """Samples 0..len-1 of a folder of shards, in the order in which they were written."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._ends = list(itertools.accumulate(shard.num_samples for shard in manifest.shards))
        # Shards drop out of this cache by age; their files close when the last reader lets go. No cycle goes through
        # `self`, or the files of a forgotten set would stay open until the garbage collector comes by.
        self._shard = lru_cache(_MAX_OPEN_SHARDS)(partial(_open_shard, folder, manifest.shards))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the manifest and look at the size of every file.

        ValueError, naming the file, for a manifest that is missing, not JSON, or of another version, and for a shard
        that is missing or not of the size that the manifest states. Contents are checked as they are read, or all at
        once by `verify`.
        """
        manifest = read_manifest(folder)
        for shard in manifest.shards:
            check_size(folder, shard)
        return cls(folder, manifest)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, index: int) -> Sample:
        """Sample `index` (0..len-1; negative counts from the end).

        IndexError outside; DamagedSample if a member's checksum differs; ValueError if the shard became shorter or
        unreadable.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)} in {self.folder}")
        index %= len(self)
        number = bisect.bisect_right(self._ends, index)
        return self._shard(number).sample(index - self.samples_of_shard(number).start)

    def num_codes(self, modality: Modality, start: int, stop: int) -> NDArray[np.int64]:
        """int64 [stop - start]: codes of this modality in samples start..stop-1, 0 where one has none, from the index
        alone.

        IndexError outside 0..len; ValueError if an index is damaged.
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"samples {start}..{stop} of {len(self)} in {self.folder}")
        counts = np.zeros(stop - start, np.int64)
        number = bisect.bisect_right(self._ends, start)
        at = start
        while at < stop:
            samples = self.samples_of_shard(number)
            until = min(stop, samples.stop)
            if at < until:
                rows = range(at - samples.start, until - samples.start)
                counts[at - start : until - start] = self._shard(number).num_codes(code_extension(modality), rows)
            at, number = until, number + 1
        return counts

    def read_codes(
        self, indices: Sequence[int], modalities: Sequence[Modality]
    ) -> list[dict[Modality, NDArray[np.int32]] | Failure]:
        """Codes of samples, in the order asked for: int32 [n] of each modality, or why a sample cannot be used.

        IndexError for an index outside 0..len-1; nothing else is raised.
        """
        return [self._codes_of(index, modalities) for index in indices]

    def _codes_of(self, index: int, modalities: Sequence[Modality]) -> dict[Modality, NDArray[np.int32]] | Failure:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)} in {self.folder}")
        shard = self.manifest.shards[bisect.bisect_right(self._ends, index)].name
        try:
            key, members = self.read(index)
        except DamagedSample as error:
            return Failure(
                sample=index, key=error.key, shard=shard, reason=error.reason, detail=error.detail, attempts=1
            )
        except (ValueError, OSError) as error:
            return Failure(sample=index, key="", shard=shard, reason="unreadable", detail=str(error), attempts=1)
        codes: dict[Modality, NDArray[np.int32]] = {}
        for modality in modalities:
            try:
                codes[modality] = unpack_codes(key, members[code_extension(modality)])
            except KeyError:
                detail = f"no {modality} codes"
                return Failure(sample=index, key=key, shard=shard, reason="no codes", detail=detail, attempts=1)
            except DamagedSample as error:
                return Failure(sample=index, key=key, shard=shard, reason=error.reason, detail=error.detail, attempts=1)
        return codes

    def __iter__(self) -> Iterator[Sample]:
        """All samples in order. A DamagedSample ends the iteration: use `read` to go on after it."""
        return (self.read(index) for index in range(len(self)))

    def samples_of_shard(self, number: int) -> range:
        """Absolute indices of the samples in one shard."""
        return range(self._ends[number - 1] if number else 0, self._ends[number])

    def members(self, extension: str) -> Iterator[tuple[str, bytes | None]]:
        """Key and one member of every sample in order, without reading the others; None where a sample lacks it."""
        for number in range(len(self.manifest.shards)):
            yield from self._shard(number).members(extension)

    def __reduce__(self) -> tuple[type["ShardSet"], tuple[Path, Manifest]]:
        return type(self), (self.folder, self.manifest)


def _open_shard(folder: Path, shards: tuple[Shard, ...], number: int) -> "_ShardFiles":
    return _ShardFiles(folder, shards[number])


class _ShardFiles:
    """One shard's tar and index, open."""

    def __init__(self, folder: Path, shard: Shard) -> None:
        self._tar_path, self._index_path = folder / shard.name, folder / shard.index
        self._num_bytes = shard.num_bytes
        self._layout = _layout(self._index_path, shard.num_samples)
        self._tar = _open_for_reading(self, self._tar_path)
        self._index = _open_for_reading(self, self._index_path)

    def sample(self, row: int) -> Sample:
        (key, spans) = next(self._read_rows(row, 1))
        return Sample(key, {extension: self._member(key, extension, span) for extension, span in spans.items()})

    def members(self, extension: str) -> Iterator[tuple[str, bytes | None]]:
        for start in range(0, self._layout.num_rows, _ROWS_AT_ONCE):
            for key, spans in self._read_rows(start, min(_ROWS_AT_ONCE, self._layout.num_rows - start)):
                span = spans.get(extension)
                yield key, None if span is None else self._member(key, extension, span)

    def num_codes(self, extension: str, rows: range) -> NDArray[np.int64]:
        row = self._layout.row
        if extension not in (row.names or ()):
            return np.zeros(len(rows), np.int64)
        offset = self._layout.start + rows.start * row.itemsize
        data = _read_at(self._index, len(rows) * row.itemsize, offset, self._index_path)
        return unpack_rows(data, row)[extension]["num_codes"].astype(np.int64)

    def _member(self, key: str, extension: str, span: Span) -> bytes:
        data = _read_at(self._tar, span.size, span.offset, self._tar_path)
        if zlib.crc32(data) != span.crc32:
            raise DamagedSample(
                key, "checksum", f"{self._tar_path.name} holds other bytes for {key}.{extension} than were written"
            )
        return data

    def _read_rows(self, start: int, count: int) -> Iterator[tuple[str, dict[str, Span]]]:
        size = self._layout.row.itemsize
        data = _read_at(self._index, count * size, self._layout.start + start * size, self._index_path)
        return (self._checked(record) for record in unpack_rows(data, self._layout.row))

    def _checked(self, record: Any) -> tuple[str, dict[str, Span]]:
        try:
            key, spans = spans_of(record)
        except UnicodeDecodeError as error:
            raise ValueError(f"{self._index_path} is damaged; copy it again, or make the folder again") from error
        if any(span.offset + span.size > self._num_bytes for span in spans.values()):
            raise ValueError(f"{self._index_path} is damaged; copy it again, or make the folder again")
        return key, spans


def check_size(folder: Path, shard: Shard) -> None:
    """ValueError if the tar or its index is missing, or the tar is not of its size."""
    path = folder / shard.name
    try:
        size = path.stat().st_size
        (folder / shard.index).stat()
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename} is missing; copy it again, or make the folder again") from error
    if size != shard.num_bytes:
        what = "truncated" if size < shard.num_bytes else "too long"
        raise ValueError(
            f"{path} is {what}: {size} bytes, the manifest says {shard.num_bytes}; "
            "copy it again, or make the folder again"
        )


def _layout(path: Path, num_samples: int) -> IndexLayout:
    try:
        with open(path, "rb") as file:
            layout = read_layout(file)
        size = path.stat().st_size
    except ValueError as error:
        raise ValueError(f"{path} is not an index; copy it again, or make the folder again") from error
    if layout.num_rows != num_samples or size != layout.start + layout.num_rows * layout.row.itemsize:
        raise ValueError(f"{path} does not fit its manifest; copy it again, or make the folder again")
    return layout


def _open_for_reading(owner: object, path: Path) -> int:
    """A file descriptor that closes with its owner."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    weakref.finalize(owner, os.close, descriptor)
    return descriptor


def _read_at(descriptor: int, size: int, offset: int, path: Path) -> bytes:
    data = os.pread(descriptor, size, offset)
    while len(data) < size:  # the kernel gives at most 2 GiB at once
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            raise ValueError(f"{path} ends early; copy it again, or make the folder again")
        data += more
    return data
