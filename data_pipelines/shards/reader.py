"""Reads a folder of shards, on a disk or in a store: any samples by their absolute indices, or all of them in order.

Nothing is held but the manifest, a bounded number of open files and of pages of indices, so the size of the set does
not matter. Threads share a `ShardSet`, forked processes take it along, and a pickled one opens its own files.

Shape legend: N samples asked for, R rows of one shard, M members.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.shards.codes import code_extension
from triptych.data_pipelines.shards.errors import DamagedSample, Failure, UnreadableShard
from triptych.data_pipelines.shards.index import MEMBER, key_of
from triptych.data_pipelines.shards.manifest import Manifest, Shard, read_manifest
from triptych.data_pipelines.shards.reading.code_batches import CodeBatches
from triptych.data_pipelines.shards.reading.index_pages import IndexPages
from triptych.data_pipelines.shards.reading.members import LACKING, MemberReader
from triptych.data_pipelines.storage.location import is_url, local_path, open_folder
from triptych.data_pipelines.storage.retry import Clock, PatientFolder, RetryConfig, Unread
from triptych.data_pipelines.vocabulary import Modality

_OF_SAMPLE = ("checksum", "too large")
_ROWS_AT_ONCE = 1024
_BYTES_AT_ONCE = 16 << 20


@dataclass(kw_only=True, slots=True, frozen=True)
class ReadConfig:
    """How shards are read. retry: of reads that fail. index_attempts: of reads of an index by `num_codes`, on which a
    plan depends that cannot do without. max_gap_bytes: up to how many unwanted bytes between two members are read
    along; None: as suits the store. max_member_bytes: a larger member is not read.
    """

    retry: RetryConfig = field(default_factory=RetryConfig)
    index_attempts: int = 16
    max_gap_bytes: int | None = None
    max_member_bytes: int = 256 << 20


class Sample(NamedTuple):
    """key: unique within its shard. members: extension to bytes."""

    key: str
    members: dict[str, bytes]


class ShardSet:
    """Samples 0..len-1 of a folder of shards, in the order in which they were written."""

    def __init__(
        self, folder: str | Path, manifest: Manifest, config: ReadConfig | None = None, clock: Clock | None = None
    ) -> None:
        self.folder = folder if is_url(folder) else local_path(folder)
        self.manifest = manifest
        self._config, self._clock = config or ReadConfig(), clock or Clock()
        self._ends = np.cumsum([shard.num_samples for shard in manifest.shards], dtype=np.int64)
        self._files = files = PatientFolder(open_folder(folder), self._config.retry, self._clock)
        self._index = IndexPages(files, manifest.shards)
        self._members = MemberReader(files, manifest.shards, self._config.max_gap_bytes, self._config.max_member_bytes)
        self._codes = CodeBatches(self._index, self._members, manifest)

    @classmethod
    def open(cls, folder: str | Path, config: ReadConfig | None = None, clock: Clock | None = None) -> Self:
        """Read the manifest of a folder: a path, or a URL that fsspec understands.

        ValueError, naming the file, for a manifest that is missing, not JSON, or of another version, and for a protocol
        that is unknown or needs a package that is not installed. Shards are looked at when they are first read, or all
        at once by `verify`.
        """
        return cls(folder, read_manifest(folder, config.retry if config else None, clock), config, clock)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, index: int) -> Sample:
        """Sample `index` (0..len-1; negative counts from the end).

        IndexError outside; DamagedSample if a member's checksum differs; UnreadableShard (a ValueError) if its shard
        cannot be read.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)} in {self.folder}")
        number, row = self._place(index % len(self))
        return next(self._samples(number, self._records(number, np.array([row])), None))

    def num_codes(self, modality: Modality, start: int, stop: int) -> NDArray[np.int64]:
        """int64 [stop - start]: codes of this modality in samples start..stop-1, 0 where one has none, from the index
        alone.

        IndexError outside 0..len; UnreadableShard (a ValueError) if an index cannot be read.
        """
        return self.num_codes_of_blocks(modality, [(start, stop)])

    def num_codes_of_blocks(self, modality: Modality, blocks: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
        """As `num_codes`, of several blocks (start, stop) one after the other: a store is asked for all at once."""
        counts_N = np.zeros(sum(stop - start for start, stop in blocks), np.int64)
        wanted: dict[int, list[tuple[int, range]]] = {}  # of each shard, where in the result which rows go
        at = 0
        for start, stop in blocks:
            if not 0 <= start <= stop <= len(self):
                raise IndexError(f"samples {start}..{stop} of {len(self)} in {self.folder}")
            for number, rows in self._runs(start, stop):
                wanted.setdefault(number, []).append((at, rows))
                at += len(rows)
        extension = code_extension(modality)
        rows = {number: _union([part for _, part in parts]) for number, parts in wanted.items()}
        for some in _batches(rows, _ROWS_AT_ONCE * 64):
            for number, records_R in self._index.rows(some, self._config.index_attempts).items():
                if isinstance(records_R, Unread):
                    raise UnreadableShard(records_R.reason, records_R.detail, records_R.attempts)
                counts_R = _counts(records_R, extension)
                for place, part in wanted[number]:
                    first = int(np.searchsorted(some[number], part.start))
                    counts_N[place : place + len(part)] = counts_R[first : first + len(part)]
        return counts_N

    def read_codes(
        self, indices: Sequence[int], modalities: Sequence[Modality]
    ) -> list[dict[Modality, NDArray[np.int32]] | Failure]:
        """Codes of samples, in the order asked for: int32 [n] of each modality, or why a sample cannot be used.

        Samples that lie close together are read together, and those of several shards at once. IndexError for an index
        outside 0..len-1; nothing else is raised.
        """
        asked_N = np.asarray(indices, dtype=np.int64)
        if len(asked_N) and not 0 <= asked_N.min() <= asked_N.max() < len(self):
            raise IndexError(f"samples {asked_N.min()}..{asked_N.max()} of {len(self)} in {self.folder}")
        numbers_N = np.searchsorted(self._ends, asked_N, side="right")
        rows_N = asked_N - np.concatenate([[0], self._ends])[numbers_N]
        return self._codes.read(asked_N, numbers_N, rows_N, modalities)

    def __iter__(self) -> Iterator[Sample]:
        """All samples in order. A DamagedSample ends the iteration: use `read` to go on after it."""
        return self._in_order(None)

    def samples_of_shard(self, number: int) -> range:
        """Absolute indices of the samples in one shard."""
        return range(int(self._ends[number - 1]) if number else 0, int(self._ends[number]))

    def members(self, extension: str) -> Iterator[tuple[str, bytes | None]]:
        """Key and one member of every sample in order, without reading the others; None where a sample lacks it.

        Raises as `read` does.
        """
        return ((sample.key, sample.members.get(extension)) for sample in self._in_order((extension,)))

    def __reduce__(self) -> tuple[type["ShardSet"], tuple[str | Path, Manifest, ReadConfig, Clock]]:
        return type(self), (self.folder, self.manifest, self._config, self._clock)

    def _in_order(self, extensions: Sequence[str] | None) -> Iterator[Sample]:
        for number, shard in enumerate(self.manifest.shards):
            for start in range(0, shard.num_samples, _ROWS_AT_ONCE):
                rows_R = np.arange(start, min(start + _ROWS_AT_ONCE, shard.num_samples))
                yield from self._samples(number, self._records(number, rows_R), extensions)

    def _place(self, index: int) -> tuple[int, int]:
        """Number of a sample's shard, and its row there."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        return number, index - self.samples_of_shard(number).start

    def _runs(self, start: int, stop: int) -> Iterator[tuple[int, range]]:
        """Samples start..stop-1 as rows of shards."""
        while start < stop:
            number, row = self._place(start)
            size = min(stop - start, self.manifest.shards[number].num_samples - row)
            yield number, range(row, row + size)
            start += size

    def _records(self, number: int, rows_R: NDArray[np.int64]) -> NDArray[Any]:
        records_R = self._index.rows({number: rows_R})[number]
        if isinstance(records_R, Unread):
            raise UnreadableShard(records_R.reason, records_R.detail, records_R.attempts)
        return records_R

    def _samples(self, number: int, records_R: NDArray[Any], extensions: Sequence[str] | None) -> Iterator[Sample]:
        """Samples of one shard with these of their members, or all; some megabytes at once."""
        names = [name for name in records_R.dtype.names or () if name != "key"]
        names = [name for name in names if extensions is None or name in extensions]
        sizes_R = sum((records_R[name]["size"].astype(np.float64) for name in names), np.zeros(len(records_R)))
        parts = np.floor(np.cumsum(sizes_R) / _BYTES_AT_ONCE)  # bounds on integers that may be damaged
        for some in np.split(records_R, np.flatnonzero(np.diff(parts)) + 1):
            spans = np.concatenate([some[name] for name in names]) if names else np.zeros(0, MEMBER)
            found = self._members.read(np.full(len(spans), number), spans)
            for row, record in enumerate(some):
                members = dict(zip(names, found[row :: len(some)], strict=True))
                yield self._sample(number, record, members)

    def _sample(self, number: int, record: Any, members: Mapping[str, memoryview | Unread]) -> Sample:
        """ValueErrors for what is damaged."""
        shard, key = self.manifest.shards[number], key_of(record)
        if not key:
            raise UnreadableShard("index", f"{self._files.path(shard.index)} is damaged", 1)
        found: dict[str, bytes] = {}
        for extension, data in members.items():
            if isinstance(data, memoryview):
                found[extension] = bytes(data)
            elif data.reason in _OF_SAMPLE:
                raise DamagedSample(key, data.reason, f"{key}.{extension}: {data.detail}")
            elif data.reason != LACKING:
                raise UnreadableShard(data.reason, data.detail, data.attempts)
        return Sample(key, found)


def _union(parts: Sequence[range]) -> NDArray[np.int64]:
    """The numbers of all these ranges, ascending."""
    if len(parts) == 1:
        return np.arange(parts[0].start, parts[0].stop)
    return np.unique(np.concatenate([np.arange(part.start, part.stop) for part in parts]))


def _counts(records_R: NDArray[Any], extension: str) -> NDArray[np.int64]:
    if extension not in (records_R.dtype.names or ()):
        return np.zeros(len(records_R), np.int64)
    return records_R[extension]["num_codes"].astype(np.int64)


def _batches(rows: Mapping[int, NDArray[np.int64]], num_rows: int) -> Iterator[dict[int, NDArray[np.int64]]]:
    """These shards' rows, about `num_rows` at once."""
    batch: dict[int, NDArray[np.int64]] = {}
    for number, rows_R in rows.items():
        batch[number] = rows_R
        if sum(map(len, batch.values())) >= num_rows:
            yield batch
            batch = {}
    if batch:
        yield batch


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
