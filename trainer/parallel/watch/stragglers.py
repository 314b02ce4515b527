"""Ranks that are slower than the others by themselves: those that the others wait for."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

LEAST_SECONDS = 0.02
"""By which a rank must be behind the median besides: below it the operating system's whims are. Our choice."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Straggler:
    """A rank, its busy seconds and its peers' median in the last of the steps by which it was found."""

    rank: int
    seconds: float
    median_seconds: float


class Stragglers:
    """Finds ranks whose busy time is above `factor` times the median for `steps` steps on end; each once, until it has
    caught up. num_stages: of the pipeline; stages have other work, so ranks are compared within theirs.
    """

    def __init__(self, factor: float, steps: int, num_stages: int = 1) -> None:
        self._factor, self._steps, self._num_stages = factor, steps, num_stages
        self._behind: dict[int, int] = {}

    def add(self, busy_seconds: Sequence[float]) -> list[Straggler]:
        """Take in a step's busy seconds, by rank; who has become a straggler in it."""
        if not self._steps:
            return []
        found = []
        per_stage = len(busy_seconds) // self._num_stages  # ranks of a stage are neighbours
        for first in range(0, len(busy_seconds), per_stage):
            seconds = busy_seconds[first : first + per_stage]
            middle = median(seconds)
            for rank, mine in enumerate(seconds, first):
                if mine <= max(self._factor * middle, middle + LEAST_SECONDS):
                    self._behind.pop(rank, None)
                    continue
                self._behind[rank] = self._behind.get(rank, 0) + 1
                if self._behind[rank] == self._steps:
                    found.append(Straggler(rank=rank, seconds=mine, median_seconds=middle))
        return found
