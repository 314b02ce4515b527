"""Members of shards, many at once: those that lie close together come in one range, and each is held to its CRC-32.

Shape legend: M members.
"""

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.shards.manifest import Shard
from triptych.data_pipelines.storage.folder import Range
from triptych.data_pipelines.storage.retry import PatientFolder, Unread

LACKING = "lacking"
"""Why there is no member: the sample has none."""
_MAX_RANGE_BYTES = 8 << 20
_MAX_SHARDS_KNOWN = 65_536


class _Known:
    """What is known of a tar: whether it was seen to have its size, or what is wrong with it."""

    def __init__(self, _: int) -> None:
        self.whole = False
        self.problem: Unread | None = None


class MemberReader:
    """Fetches members of the tars of a set.

    max_gap_bytes: up to how many unwanted bytes between two members are read along; None: as suits the folder.
    max_member_bytes: a larger member is not read.
    """

    def __init__(
        self, folder: PatientFolder, shards: tuple[Shard, ...], max_gap_bytes: int | None, max_member_bytes: int
    ) -> None:
        self._folder = folder
        self._shards = shards
        self._num_bytes = np.array([shard.num_bytes for shard in shards], dtype=np.int64)
        self._max_gap_bytes = folder.max_gap_bytes if max_gap_bytes is None else max_gap_bytes
        self._max_member_bytes = max_member_bytes
        self._known = lru_cache(_MAX_SHARDS_KNOWN)(_Known)

    def read(self, numbers_M: NDArray[np.int64], spans_M: NDArray[Any]) -> list[memoryview | Unread]:
        """The bytes of each member, or why there are none. numbers_M: of shards. spans_M: `index.MEMBER`.

        A member whose checksum differs is read once more, by itself. Reasons besides those of `Unread`: "lacking" (a
        sample without this member), "index", "too large", "wrong size", "checksum".
        """
        offsets_M, sizes_M = spans_M["offset"].astype(np.int64), spans_M["size"].astype(np.int64)
        limits_M = self._num_bytes[numbers_M] - sizes_M
        sound_M = (offsets_M > 0) & (offsets_M <= limits_M) & (sizes_M >= 0) & (sizes_M <= self._max_member_bytes)
        found: list[Any] = [None] * len(spans_M)
        for place in np.flatnonzero(~sound_M).tolist():
            found[place] = self._refusal(int(numbers_M[place]), int(spans_M[place]["offset"]), int(sizes_M[place]))
        chosen = np.flatnonzero(sound_M)
        chosen = chosen[np.lexsort((offsets_M[chosen], numbers_M[chosen]))]
        self._read_sorted(chosen, numbers_M[chosen], offsets_M[chosen], sizes_M[chosen], spans_M["crc32"], found)
        return found

    def _read_sorted(
        self,
        places_M: NDArray[np.intp],
        numbers_M: NDArray[np.int64],
        offsets_M: NDArray[np.int64],
        sizes_M: NDArray[np.int64],
        crcs: NDArray[np.uint32],
        found: list[Any],
    ) -> None:
        """Fill in members, given in the order of shards and offsets; of `crcs` and `found` they have these places."""
        if not len(places_M):
            return
        firsts, stops = self._ranges(numbers_M, offsets_M, offsets_M + sizes_M)
        spoilt = self._spoilt(np.unique(numbers_M).tolist())
        columns = (numbers_M[firsts].tolist(), offsets_M[firsts].tolist(), stops.tolist())
        views = self._fetch(
            [
                spoilt.get(number) or Range(self._shards[number].name, start, stop)
                for number, start, stop in zip(*columns, strict=True)
            ]
        )
        group_M = np.repeat(np.arange(len(firsts)), np.diff(firsts, append=len(places_M)))
        begins = (offsets_M - offsets_M[firsts][group_M]).tolist()
        wrong: list[tuple[int, int, int]] = []
        for turn, (place, group, begin, size, crc) in enumerate(
            zip(places_M.tolist(), group_M.tolist(), begins, sizes_M.tolist(), crcs[places_M].tolist(), strict=True)
        ):
            view = views[group]
            found[place] = data = view if isinstance(view, Unread) else view[begin : begin + size]
            if not isinstance(data, Unread) and zlib.crc32(data) != crc:
                wrong.append((turn, place, crc))
        for turn, place, crc in wrong:
            number, start = int(numbers_M[turn]), int(offsets_M[turn])
            found[place] = self._read_again(number, start, start + int(sizes_M[turn]), crc)

    def _refusal(self, number: int, offset: int, size: int) -> Unread:
        shard = self._shards[number]
        if offset == 0:
            return Unread(reason=LACKING, detail=f"{shard.name} lacks it", attempts=0)
        if 0 <= size <= self._num_bytes[number] and 0 < offset <= self._num_bytes[number] - size:
            detail = f"{size} bytes are more than max_member_bytes={self._max_member_bytes}"
            return Unread(reason="too large", detail=detail, attempts=0)
        return Unread(reason="index", detail=f"{self._folder.path(shard.index)} is damaged", attempts=1)

    def _ranges(
        self, numbers_M: NDArray[np.int64], offsets_M: NDArray[np.int64], ends_M: NDArray[np.int64]
    ) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Which members begin a range, and where each range ends."""
        parts_M = offsets_M // _MAX_RANGE_BYTES
        begins = (
            (numbers_M[1:] != numbers_M[:-1])
            | (offsets_M[1:] > ends_M[:-1] + self._max_gap_bytes)
            | (parts_M[1:] != parts_M[:-1])
        )
        firsts = np.flatnonzero(np.concatenate([[True], begins]))
        return firsts, np.maximum.reduceat(ends_M, firsts)

    def _fetch(self, asked: Sequence[Range | Unread]) -> list[memoryview | Unread]:
        """The ranges; what is known not to be there stays as it is."""
        ranges = iter(self._folder.read_ranges([part for part in asked if isinstance(part, Range)]))
        parts = [next(ranges) if isinstance(part, Range) else part for part in asked]
        return [part if isinstance(part, Unread) else memoryview(part) for part in parts]

    def _spoilt(self, numbers: Sequence[int]) -> dict[int, Unread]:
        """Which of these shards cannot be read or are not of their size, looked at when they are first read."""
        known = {number: self._known(number) for number in numbers}
        unknown = [number for number, tar in known.items() if not (tar.whole or tar.problem)]
        ends = [(self._shards[number].name, self._shards[number].num_bytes) for number in unknown]
        probes = [Range(name, size - 1, size + 1, exact=False) for name, size in ends]
        spoilt = {number: tar.problem for number, tar in known.items() if tar.problem}
        for number, probe in zip(unknown, self._folder.read_ranges(probes), strict=True):
            if isinstance(probe, Unread):
                spoilt[number] = self._explained(number, probe)
            elif len(probe) != 1:
                spoilt[number] = known[number].problem = self._of_wrong_size(number, len(probe))
            else:
                known[number].whole = True
        return spoilt

    def _explained(self, number: int, probe: Unread) -> Unread:
        """Stores may refuse what lies past the end: then it is the size that is wrong."""
        if probe.reason != "unreachable" or probe.attempts == 0:
            return probe
        size = self._folder.size(self._shards[number].name)
        return probe if size is None or size >= self._shards[number].num_bytes else self._of_wrong_size(number, 0)

    def _of_wrong_size(self, number: int, found: int) -> Unread:
        shard = self._shards[number]
        size = self._folder.size(shard.name)
        what = "too long" if found else "truncated"
        detail = f"{self._folder.path(shard.name)} is {what}: {size} bytes, the manifest says {shard.num_bytes}"
        return Unread(reason="wrong size", detail=detail, attempts=1)

    def _read_again(self, number: int, start: int, stop: int, crc: int) -> memoryview | Unread:
        """A member whose checksum differed, from a file that is opened anew."""
        name = self._shards[number].name
        self._folder.forget(name)
        (data,) = self._folder.read_ranges([Range(name, start, stop)])
        if isinstance(data, Unread):
            return data
        if zlib.crc32(data) == crc:
            return memoryview(data)
        detail = f"{name} holds other bytes at {start} to {stop - 1} than were written"
        return Unread(reason="checksum", detail=detail, attempts=2)
