"""What part of a run's tokens each source has, as numbers or schedules over tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

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
        if not all(0 <= weight < np.inf for weight in self.weights):
            raise ValueError(f"a weight of {list(self.weights)} is not a number of 0 or more; give such")

    def at(self, tokens: int) -> float:
        """The weight after so many tokens of the run."""
        if self.between == "linear":
            return float(np.interp(tokens, self.tokens, self.weights))
        return self.weights[max(0, int(np.searchsorted(self.tokens, tokens, side="right")) - 1)]


Weight = float | WeightSchedule


def weight_at(weight: Weight, tokens: int) -> float:
    """The weight after so many tokens of the run."""
    return weight.at(tokens) if isinstance(weight, WeightSchedule) else weight


class Shares:
    """Integer shares of sources, out of 2**SHARE_BITS."""

    def __init__(self, weights: Mapping[str, Weight]) -> None:
        self._weights = list(weights.values())
        self._constant = None
        if not any(isinstance(weight, WeightSchedule) for weight in self._weights):
            self._constant = self._at(0)

    def at(self, tokens: int) -> Sequence[int]:
        """Each source's share after so many tokens of the run. ValueError if all weights are 0 there."""
        return self._at(tokens) if self._constant is None else self._constant

    def _at(self, tokens: int) -> Sequence[int]:
        weights = [weight_at(weight, tokens) for weight in self._weights]
        total = sum(weights)
        if total <= 0:
            raise ValueError(f"every source has weight 0 at {tokens:,} tokens; give one of data.sources a weight there")
        return [round(weight / total * (1 << SHARE_BITS)) for weight in weights]
