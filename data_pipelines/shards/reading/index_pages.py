"""Rows of the indices of a set, fetched a page at a time; pages that were read lately stay."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.shards.index import MAX_HEADER_BYTES, IndexLayout, read_layout, unpack_rows
from triptych.data_pipelines.shards.manifest import Shard
from triptych.data_pipelines.storage.folder import Range
from triptych.data_pipelines.storage.retry import PatientFolder, Unread

_PAGE_BYTES = 8 << 10  # some 100 rows: about a block of consecutive samples, and little to read for one of them
_MAX_PAGES = 1024  # 8 MiB
_MAX_LAYOUTS = 8192
_MAX_KEPT_BYTES = 1 << 20  # more rows than that are read past the pages


class _Slot:
    """Holds what was read, once it is."""

    def __init__(self, *_: int) -> None:
        self.content: Any = None


class IndexPages:
    """Rows by shard and row number. Memory: `_MAX_PAGES` pages, and a few hundred bytes for each shard touched."""

    def __init__(self, folder: PatientFolder, shards: tuple[Shard, ...]) -> None:
        self._folder = folder
        self._shards = shards
        # These caches are safe with threads, and across a fork, where a lock would not be.
        self._layouts = lru_cache(_MAX_LAYOUTS)(_Slot)
        self._pages = lru_cache(_MAX_PAGES)(_Slot)

    def rows(
        self, wanted: Mapping[int, NDArray[np.int64]], attempts: int | None = None
    ) -> dict[int, NDArray[Any] | Unread]:
        """Of each shard the rows with these numbers (ascending, below its number of samples), or why there are none.

        attempts: as in `PatientFolder.read_ranges`.
        """
        layouts = self._layouts_of([*wanted], attempts)
        found: dict[int, NDArray[Any] | Unread] = {}
        pages: dict[int, NDArray[np.int64]] = {}
        for number, rows in wanted.items():
            layout = layouts[number]
            if isinstance(layout, Unread):
                found[number] = layout
            elif len(rows) * layout.row.itemsize > _MAX_KEPT_BYTES and rows[-1] - rows[0] < len(rows):
                found[number] = self._run(number, layout, int(rows[0]), int(rows[-1]) + 1, attempts)
            else:
                pages[number] = np.unique(rows // _rows_of_page(layout))
        kept = self._pages_of(pages, layouts, attempts)
        for number, numbers in pages.items():
            layout, parts = layouts[number], kept[number]
            assert isinstance(layout, IndexLayout)
            if isinstance(parts, Unread):
                found[number] = parts
                continue
            page, within = np.divmod(wanted[number], _rows_of_page(layout))
            starts = np.cumsum([0, *(len(part) for part in parts)])
            rows = np.concatenate(parts)[starts[np.searchsorted(numbers, page)] + within]
            found[number] = rows.view(layout.row)
        return found

    def _layouts_of(self, numbers: list[int], attempts: int | None) -> dict[int, IndexLayout | Unread]:
        slots = {number: self._layouts(number) for number in numbers}
        missing = [number for number, slot in slots.items() if slot.content is None]
        found = {number: slot.content for number, slot in slots.items() if slot.content is not None}
        ranges = [Range(self._shards[number].index, 0, MAX_HEADER_BYTES, exact=False) for number in missing]
        prefixes = dict(zip(missing, self._folder.read_ranges(ranges, attempts), strict=True))
        found.update({number: self._parsed(number, prefix) for number, prefix in prefixes.items()})
        ends = {number: layout.end for number in missing if isinstance(layout := found[number], IndexLayout)}
        probes = [Range(self._shards[number].index, end - 1, end + 1, exact=False) for number, end in ends.items()]
        for number, probe in zip(ends, self._folder.read_ranges(probes, attempts), strict=True):
            if isinstance(probe, Unread):
                found[number] = probe
            elif len(probe) != 1:
                found[number] = self._unfit(number)
            else:
                slots[number].content = found[number]
        return found

    def _parsed(self, number: int, prefix: bytes | Unread) -> IndexLayout | Unread:
        if isinstance(prefix, Unread):
            return prefix
        try:
            layout = read_layout(prefix)
        except ValueError:
            path = self._folder.path(self._shards[number].index)
            return Unread(reason="index", detail=f"{path} is not an index", attempts=1)
        return layout if layout.num_rows == self._shards[number].num_samples else self._unfit(number)

    def _unfit(self, number: int) -> Unread:
        path = self._folder.path(self._shards[number].index)
        return Unread(reason="index", detail=f"{path} does not fit its manifest", attempts=1)

    def _run(
        self, number: int, layout: IndexLayout, start: int, stop: int, attempts: int | None
    ) -> NDArray[Any] | Unread:
        size = layout.row.itemsize
        asked = Range(self._shards[number].index, layout.start + start * size, layout.start + stop * size)
        (data,) = self._folder.read_ranges([asked], attempts)
        return data if isinstance(data, Unread) else unpack_rows(data, layout.row)

    def _pages_of(
        self,
        wanted: Mapping[int, NDArray[np.int64]],
        layouts: Mapping[int, IndexLayout | Unread],
        attempts: int | None,
    ) -> dict[int, list[NDArray[Any]] | Unread]:
        """The contents of these pages of each shard; neighbours that are missing come in one range."""
        slots = {number: [self._pages(number, page) for page in pages.tolist()] for number, pages in wanted.items()}
        # Kept apart from the slots, which other threads may drop meanwhile.
        found: dict[int, Any] = {number: [slot.content for slot in row] for number, row in slots.items()}
        runs: list[tuple[int, list[int]]] = []
        for number, pages in wanted.items():
            missing = [place for place, content in enumerate(found[number]) if content is None]
            for place in missing:
                if runs and runs[-1][0] == number and pages[runs[-1][1][-1]] + 1 == pages[place]:
                    runs[-1][1].append(place)
                else:
                    runs.append((number, [place]))
        ranges = []
        for number, places in runs:
            layout = layouts[number]
            assert isinstance(layout, IndexLayout)
            step, size = _rows_of_page(layout), layout.row.itemsize
            first, last = int(wanted[number][places[0]]), int(wanted[number][places[-1]])
            stop = min((last + 1) * step, layout.num_rows)
            ranges.append(
                Range(self._shards[number].index, layout.start + first * step * size, layout.start + stop * size)
            )
        for (number, places), data in zip(runs, self._folder.read_ranges(ranges, attempts), strict=True):
            layout = layouts[number]
            if isinstance(data, Unread) or not isinstance(layout, IndexLayout):
                found[number] = data
            elif not isinstance(found[number], Unread):
                step = _rows_of_page(layout) * layout.row.itemsize
                plain = np.dtype((np.void, layout.row.itemsize))  # which numpy joins ten times as fast
                for turn, place in enumerate(places):
                    part = np.frombuffer(data[turn * step : (turn + 1) * step], plain)
                    found[number][place] = slots[number][place].content = part
        return found


def _rows_of_page(layout: IndexLayout) -> int:
    return max(1, _PAGE_BYTES // layout.row.itemsize)
