"""Lengths counted exactly in little memory: how often each occurs, whatever the number of samples."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"p01": 0.01, "median": 0.5, "p99": 0.99}


@dataclass(kw_only=True, slots=True, frozen=True)
class LengthSummary:
    """Exact over all that were counted. total: their sum. p01, median, p99: the smallest length that at least that
    share of them does not exceed.
    """

    number: int
    total: int
    minimum: int
    p01: int
    median: int
    p99: int
    maximum: int
    mean: float

    def as_json(self) -> dict[str, int | float]:
        """By the names of the fields."""
        return asdict(self)


class LengthCounts:
    """How often each length occurs. values: int64 [distinct], ascending. counts: int64 [distinct]."""

    def __init__(self, values: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        self.values, self.counts = values, counts

    @classmethod
    def of(cls, parts: Iterable[NDArray[np.int64]]) -> Self:
        """Of lengths that come part by part, int64 [n] each."""
        found: dict[int, int] = {}
        for part in parts:
            for value, count in zip(*(each.tolist() for each in np.unique(part, return_counts=True)), strict=True):
                found[value] = found.get(value, 0) + count
        return cls._from(found)

    @classmethod
    def _from(cls, found: Mapping[int, int]) -> Self:
        values = np.array(sorted(found), np.int64)
        return cls(values, np.array([found[value] for value in values.tolist()], np.int64))

    def __len__(self) -> int:
        """How many lengths were counted."""
        return int(self.counts.sum())

    def without_zeros(self) -> "LengthCounts":
        """The same without the lengths that are 0."""
        kept = self.values != 0
        return LengthCounts(self.values[kept], self.counts[kept])

    def number_above(self, limit: int) -> int:
        """How many are longer."""
        return int(self.counts[self.values > limit].sum())

    def quantile(self, share: float) -> int:
        """The smallest length that at least this share of all does not exceed. ValueError if there are none."""
        if not len(self):
            raise ValueError("no lengths were counted; give a set that holds samples")
        rank = max(1, int(np.ceil(share * len(self) - 1e-9)))
        return int(self.values[np.searchsorted(np.cumsum(self.counts), rank)])

    def summary(self) -> LengthSummary | None:
        """None if there are none."""
        number = len(self)
        if not number:
            return None
        total = int((self.values * self.counts).sum())
        quantiles = {name: self.quantile(share) for name, share in QUANTILES.items()}
        ends = {"minimum": int(self.values[0]), "maximum": int(self.values[-1])}
        return LengthSummary(number=number, total=total, mean=total / number, **ends, **quantiles)
