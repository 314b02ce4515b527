"""A mixture of sources as a pure function of one place per source.

The state says nothing of ranks, workers or batch sizes, so a run may change all three and still see every row as
planned. The plan comes from lengths in the index alone and is the same on every rank: what cannot be read is lost where
it stood, and moves nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triptych.data_pipelines.batch import Batch
from triptych.data_pipelines.stream.cursor import SourcePlace, cursor_of, places_of, require_name, total_tokens
from triptych.data_pipelines.stream.rows import PlannedRow, assemble
from triptych.data_pipelines.stream.shares import SHARE_BITS, Shares, Weight
from triptych.data_pipelines.stream.sources import Source
from triptych.data_pipelines.stream.windows import ROW_BITS, PackingConfig, SourceOrder, source_id


@dataclass(kw_only=True, slots=True, frozen=True)
class WeightedSource:
    """A source and its share of the tokens that are not padding; shares are relative to each other, and may follow a
    schedule over the run's tokens.
    """

    source: Source
    weight: Weight


class Mixture:
    """Batches from weighted sources, shuffled anew each epoch (the Data seam).

    row_length: positions of a row. pad: the id of padding. copies: 2 gives every row twice, as complement pairs need;
    else 1. ValueError for a source that is empty, has no usable name or weight, or may have documents that are longer
    than a row.
    """

    def __init__(
        self,
        sources: Mapping[str, WeightedSource],
        *,
        seed: int,
        row_length: int,
        pad: int,
        packing: PackingConfig | None = None,
        copies: int = 1,
    ) -> None:
        for name, entry in sources.items():
            _require_usable(name, entry, row_length)
        if len({source_id(name) for name in sources}) < len(sources):
            raise ValueError(
                f"two of the sources {', '.join(sorted(sources))} have the same number; rename one of them"
            )
        # By name, so that the order in a configuration decides nothing.
        self._sources = {name: sources[name].source for name in sorted(sources)}
        self._shares = Shares({name: sources[name].weight for name in self._sources})
        self._row_length, self._pad, self._copies = row_length, pad, copies
        packing = packing or PackingConfig()
        self._orders = {
            name: SourceOrder(name, source, packing, row_length, seed) for name, source in self._sources.items()
        }

    def batch(self, cursor: Mapping[str, int], size: int, rank: int, num_ranks: int) -> tuple[Batch, dict[str, int]]:
        """Rank `rank`'s rows of the next `size`, and the cursor after all of them. ValueError if `size` does not
        divide.
        """
        if size % (num_ranks * self._copies):
            raise ValueError(
                f"a batch of {size} does not divide into {num_ranks} data-parallel ranks with {self._copies} "
                f"copies each; use a multiple of {num_ranks * self._copies}"
            )
        planned, after = self.plan(cursor, size // self._copies)
        per_rank = size // num_ranks // self._copies
        return self._assemble(planned[rank * per_rank : (rank + 1) * per_rank]), after

    def plan(self, cursor: Mapping[str, int], num_rows: int) -> tuple[list[PlannedRow], dict[str, int]]:
        """The next rows, copies not counted, and the cursor after them; nothing is read but lengths.

        Each row comes from the source that is owed most, so that shares of the tokens hold at every moment to within a
        row or two, whatever the shares were before. ValueError for a cursor of other orders than these sources have.
        """
        names = list(self._sources)
        places = list(places_of(cursor, names).values())
        for name, place in zip(names, places, strict=True):
            self._require_order(name, place)
        _level(places)
        total = total_tokens(cursor)
        planned = []
        for _ in range(num_rows):
            shares = self._shares.at(total)
            choice = max(
                (index for index, share in enumerate(shares) if share),
                key=lambda index: places[index].owed + shares[index] * self._row_length,
            )
            row, tokens = self._take(names[choice], places[choice])
            planned.append(row)
            for place, share in zip(places, shares, strict=True):
                place.owed += share * tokens
            places[choice].owed -= tokens << SHARE_BITS
            total += tokens
        return planned, {**cursor, **cursor_of(dict(zip(names, places, strict=True)))}

    def _take(self, name: str, place: SourcePlace) -> tuple[PlannedRow, int]:
        """The next row of a source, whose place moves on, and its tokens."""
        number, row = place.place >> ROW_BITS, place.place & ((1 << ROW_BITS) - 1)
        window = self._orders[name].window(number)
        last = row + 1 == len(window)
        place.place = (number + 1) << ROW_BITS if last else place.place + 1
        tokens = int(window.tokens_R[row])
        place.tokens += tokens
        return PlannedRow(name, number, row), tokens

    def _require_order(self, name: str, place: SourcePlace) -> None:
        """ValueError if the place is of another order than the source's; from here on it is of this one."""
        fingerprint = self._orders[name].fingerprint
        if place.place and place.order not in (0, fingerprint):
            raise ValueError(
                f"source {name} is not in the order in which this run has begun it: the seed, data.packing, the "
                "sequence length or its shards are others; restore them, or give the source a new name to begin it anew"
            )
        place.order = fingerprint

    def plan_beginnings(self) -> None:
        """Plan the first window of each source, so that indices that cannot be read are told of at once."""
        for order in self._orders.values():
            order.window(0)

    @property
    def orders(self) -> Mapping[str, SourceOrder]:
        """Of each source, by name."""
        return self._orders

    def epochs(self, cursor: Mapping[str, int]) -> dict[str, float]:
        """How often each source has been gone through, in windows, and within one in rows."""
        return {name: self._orders[name].epochs(at.place) for name, at in places_of(cursor, self._sources).items()}

    def epoch_of(self, name: str) -> list[PlannedRow]:
        """All rows of a source's first epoch, in order: for evaluation, and to count."""
        windows = range(self._orders[name].windows_per_epoch)
        return [
            PlannedRow(name, number, row) for number in windows for row in range(len(self._orders[name].window(number)))
        ]

    def rows(self, planned: list[PlannedRow]) -> Batch:
        """These rows, once each."""
        return self._assemble(planned, copies=1)

    def _assemble(self, planned: list[PlannedRow], copies: int | None = None) -> Batch:
        return assemble(
            planned,
            self._sources,
            {name: order.window for name, order in self._orders.items()},
            row_length=self._row_length,
            pad=self._pad,
            copies=self._copies if copies is None else copies,
        )


def _require_usable(name: str, entry: WeightedSource, row_length: int) -> None:
    require_name(name)
    if not len(entry.source):
        raise ValueError(f"source {name} is empty; give it shards, or drop it from the mixture")
    if isinstance(entry.weight, float | int) and not 0 < entry.weight < math.inf:
        raise ValueError(
            f"source {name} has weight {entry.weight}; give it a positive weight, or drop it from the mixture"
        )
    longest = entry.source.longest_piece + entry.source.overhead
    if longest > row_length:
        raise ValueError(
            f"a document of source {name} may take {longest} positions, a row has {row_length}; raise "
            "data.packing.row_length"
        )


def _level(places: Sequence[SourcePlace]) -> None:
    """Let all that is owed be 0 together, as it stays while the same sources are mixed: sources that have left took
    what they were owed along, and the ones that come must not wait for it.
    """
    share, rest = divmod(sum(place.owed for place in places), len(places))
    for number, place in enumerate(places):
        place.owed -= share + (number < rest)
