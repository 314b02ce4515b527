"""A share of trials that came out right, with how sure one can be of it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

NORMAL_QUANTILE = 1.959963984540054  # of 97.5 %, so that the interval covers 95 %


@dataclass(kw_only=True, slots=True, frozen=True)
class Proportion:
    """`successes` of `trials`, both counts. ValueError if there are no trials or more successes than trials."""

    successes: int
    trials: int

    def __post_init__(self) -> None:
        if self.trials < 1 or not 0 <= self.successes <= self.trials:
            raise ValueError(f"{self.successes} of {self.trials} is no proportion; give at least one trial")

    @classmethod
    def of(cls, outcomes: Iterable[object]) -> Self:
        """Counts the true ones."""
        results = [bool(outcome) for outcome in outcomes]
        return cls(successes=sum(results), trials=len(results))

    @property
    def value(self) -> float:
        return self.successes / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % score interval (Wilson 1927), which stays within 0..1 and keeps its coverage near the ends."""
        n, p, z = self.trials, self.value, NORMAL_QUANTILE
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        low = 0.0 if self.successes == 0 else max(0.0, centre - half)
        high = 1.0 if self.successes == n else min(1.0, centre + half)
        return low, high
