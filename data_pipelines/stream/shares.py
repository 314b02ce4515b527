"""What part of a run's tokens each source has, as numbers or schedules over tokens."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

SHARE_BITS = 30
"""Shares are integers out of 2**30, so that what a source is owed is exact and the same on every machine."""


@dataclass(kw_only=True, slots=True, frozen=True)
class WeightSchedule:
    """A weight that changes over the run's tokens, as an annealing phase has it. At tokens[i] it is weights[i]; before
    the first the first, after the last the last. between: "linear", or "hold", which keeps weights[i] up to
    tokens[i + 1]. ValueError unless tokens rise, both are equally many, and no weight is below 0.
    """

    tokens: tuple[int, ...]
    weights: tuple[float, ...]
    between: Literal["linear", "hold"] = "linear"

    def __post_init__(self) -> None:
        rising = all(first < second for first, second in zip(self.tokens, self.tokens[1:], strict=False))
        if not self.tokens or len(self.tokens) != len(self.weights) or not rising:
            raise ValueError(
                f"a weight's tokens {list(self.tokens)} and weights {list(self.weights)} do not pair; give as many of "
                "both, tokens rising"
            )
        if not all(0 <= weight < math.inf for weight in self.weights):
            raise ValueError(f"a weight of {list(self.weights)} is not a number of 0 or more; give such")

    def at(self, tokens: int) -> float:
        """The weight after so many tokens of the run."""
        after = bisect_right(self.tokens, tokens)
        if after == 0 or after == len(self.tokens) or self.between == "hold":
            return self.weights[max(0, after - 1)]
        part = (tokens - self.tokens[after - 1]) / (self.tokens[after] - self.tokens[after - 1])
        return (1 - part) * self.weights[after - 1] + part * self.weights[after]


Weight = float | WeightSchedule


def weight_at(weight: Weight, tokens: int) -> float:
    """The weight after so many tokens of the run."""
    return weight.at(tokens) if isinstance(weight, WeightSchedule) else weight


class Shares:
    """Integer shares of sources, 2**SHARE_BITS together. ValueError if all weights are 0 at some time of the run."""

    def __init__(self, weights: Mapping[str, Weight]) -> None:
        self._weights = list(weights.values())
        schedules = [weight for weight in self._weights if isinstance(weight, WeightSchedule)]
        # Weights are 0 or more and straight or still between these points, so all are 0 somewhere only if at one.
        for tokens in sorted({0, *(point for schedule in schedules for point in schedule.tokens)}):
            self._at(tokens)
        self._constant = None if schedules else self._at(0)

    def at(self, tokens: int) -> Sequence[int]:
        """Each source's share after so many tokens of the run."""
        return self._at(tokens) if self._constant is None else self._constant

    def _at(self, tokens: int) -> Sequence[int]:
        weights = [weight_at(weight, tokens) for weight in self._weights]
        total = math.fsum(weights)
        if total <= 0:
            raise ValueError(f"every source has weight 0 at {tokens:,} tokens; give one of data.sources a weight there")
        wanted = [weight / total * (1 << SHARE_BITS) for weight in weights]
        shares = [int(share) for share in wanted]
        # What rounding down leaves goes to those that it took most from: all together are owed exactly what is planned.
        most_first = sorted(range(len(shares)), key=lambda index: shares[index] - wanted[index])
        for index in most_first[: (1 << SHARE_BITS) - sum(shares)]:
            shares[index] += 1
        return shares
