"""How many sequences a step takes: a number, a schedule over tokens, or as many as the gradient noise allows."""

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

AUTO_GROWS_AT, AUTO_SHRINKS_AT = 2.5, 0.8
"""Of its present size: where an automatic batch doubles or halves. Apart, so that a noisy estimate does not make it
swing. Our choice.
"""


@dataclass(kw_only=True, slots=True, frozen=True)
class BatchSchedule:
    """A batch that changes over tokens (a ramp): `sequences[i]` from `tokens[i]` on; tokens[0] is 0.

    between: "steps" keeps each until the next; "linear" and "geometric" go from one to the next. What does not divide
    over the ranks, in a pipeline into whole micro-batches of each, is rounded down, but for the smallest that does.
    ValueError for lists that do not belong together.
    """

    tokens: tuple[int, ...]
    sequences: tuple[int, ...]
    between: Literal["steps", "linear", "geometric"] = "steps"

    def __post_init__(self) -> None:
        if not self.tokens or len(self.tokens) != len(self.sequences):
            raise ValueError("physical_batch needs as many tokens as sequences, one at least; make the lists as long")
        if self.tokens[0] != 0 or sorted(set(self.tokens)) != list(self.tokens):
            raise ValueError(f"physical_batch.tokens {list(self.tokens)} must begin with 0 and rise; sort them")
        if min(self.sequences) < 1:
            raise ValueError(f"physical_batch.sequences {list(self.sequences)} must be 1 or more; raise them")

    def at(self, tokens: int) -> float:
        """Sequences after `tokens` have been seen, not rounded."""
        last = bisect.bisect_right(self.tokens, tokens) - 1
        here = self.sequences[last]
        if self.between == "steps" or last == len(self.tokens) - 1:
            return float(here)
        there = self.sequences[last + 1]
        way = (tokens - self.tokens[last]) / (self.tokens[last + 1] - self.tokens[last])
        return here + way * (there - here) if self.between == "linear" else here * (there / here) ** way


PhysicalBatch = int | Literal["logical", "auto"] | BatchSchedule
"""Sequences per optimizer step, over all ranks. "logical": the logical batch. "auto": the largest power of two of whole
micro-batches on every rank that is under the critical batch and the guards.
"""


@dataclass(kw_only=True, slots=True, frozen=True)
class BatchLimits:
    """What the size of a batch must keep to, in sequences.

    unit: sizes are multiples of it. whole_micro_batches: what all ranks take at once, or twice that where its halves
    could not be measured; "auto" takes powers of two of it. Any multiple fits in memory where one does, since the rest
    is accumulated. most: the guards' upper limit.
    """

    unit: int
    whole_micro_batches: int
    most: float = math.inf


class BatchSizes:
    """The size of each step's batch.

    logical: sequences. critical: what the critical batch is at least, in sequences; None while that is not known.
    """

    def __init__(
        self,
        choice: PhysicalBatch,
        limits: BatchLimits,
        *,
        logical: float,
        critical: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._choice = choice
        self._limits = limits
        self._logical = logical
        self._critical = critical

    def at(self, tokens: int, before: int | None) -> int:
        """Sequences of the step that begins after `tokens`; before: those of the last step, None at the start."""
        if isinstance(self._choice, int):
            return self._choice
        if self._choice == "auto":
            return self._automatic(before)
        if self._choice == "logical":
            return int(self._logical) if self._logical.is_integer() else self._rounded(self._logical, round)
        assert isinstance(self._choice, BatchSchedule)
        return self._rounded(self._choice.at(tokens), math.floor)

    def _rounded(self, sequences: float, to_whole: Callable[[float], int]) -> int:
        unit = self._limits.unit
        return unit * max(1, to_whole(sequences / unit))

    def _automatic(self, before: int | None) -> int:
        """The logical batch at the start, or what it was, until there is an estimate; then doubled or halved only well
        past the present size.
        """
        unit, critical = self._limits.whole_micro_batches, self._critical()
        if before is not None and before % unit:
            before = None  # of another world size
        if critical is None:
            critical = self._logical if before is None else before
        limit = min(critical, self._limits.most)
        if before is None:
            return unit * 2 ** math.floor(math.log2(max(1.0, limit / unit)))
        if limit >= AUTO_GROWS_AT * before and 2 * before <= self._limits.most:
            return 2 * before
        if limit < AUTO_SHRINKS_AT * before and before > unit:
            return max(unit, before // 2 // unit * unit)
        return before
