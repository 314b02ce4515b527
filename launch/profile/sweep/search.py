"""In which order points are profiled, and which are not.

1. Every arm (layout, ZeRO stage, attention) at the run's own micro-batch; where that does not fit, at smaller ones, and
   then with all activations recomputed.
2. The fastest arms, NUM_PURSUED at most and none that is slower than the fastest by more than PURSUED_WITHIN: larger
   micro-batches until two in a row are no faster or one does not fit, then smaller ones alike.
3. The best point: the other ways of recomputation, and with them the micro-batches that did not fit without.

A point whose memory cannot fit by what is known (`expected_bytes`) is not run, which is a result like any other.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from triptych.configs.trimodal import TrimodalRun
from triptych.launch.profile.sweep.folder import Outcome
from triptych.launch.profile.sweep.points import Axes, Point, at, own_point, point_run

NUM_PURSUED = 3
PURSUED_WITHIN = 0.1
SLACK = 1.15  # of a prediction, before a point is given up for it
AS_GOOD = 0.01  # a gain below it is not worth any memory
_GIB = 2**30

Profile = Callable[[Point], Outcome]
"""Profiles a point, or says how it ended before."""


@dataclass(kw_only=True)
class Search:
    """outcomes: of all points so far, in order. limit_bytes: that a process may hold. predict: bytes that one will."""

    run: TrimodalRun
    world_size: int
    axes: Axes
    limit_bytes: int
    predict: Callable[[TrimodalRun], int]
    profile: Profile
    outcomes: list[Outcome] = field(default_factory=list)

    def __call__(self) -> list[Outcome]:
        """All rounds."""
        first = [outcome for arm in self.axes.arms() for outcome in self._first(arm)]
        done = sorted((outcome for outcome in first if outcome.state == "done"), key=lambda each: -each.speed)
        for outcome in done[:NUM_PURSUED]:
            if outcome.speed >= (1 - PURSUED_WITHIN) * done[0].speed:
                self._climb(outcome, larger=True)
                self._climb(outcome, larger=False)
        top = best(self.outcomes)
        if top is not None:
            self._recompute(top)
        return self.outcomes

    def _first(self, arm: Mapping[str, Any]) -> Iterator[Outcome]:
        own = own_point(self.run, arm)
        smaller = [size for size in reversed(self.axes.micro_batches) if size < own.micro_batch]
        for recompute in dict.fromkeys([own.recompute, *(["full"] if "full" in self.axes.recomputes else [])]):
            for size in (own.micro_batch, *smaller):
                outcome = self._try(at(own, micro_batch=size, recompute=recompute))
                if outcome is None:
                    continue
                yield outcome
                if outcome.state not in ("out of memory", "pruned"):
                    return

    def _climb(self, start: Outcome, *, larger: bool) -> None:
        """From a point on, in one direction."""
        point, top, misses = start.point, start.speed, 0
        sizes = [size for size in self.axes.micro_batches if (size > point.micro_batch) is larger]
        for size in sizes if larger else reversed(sizes):
            if size == point.micro_batch:
                continue
            outcome = self._try(at(point, micro_batch=size))
            if outcome is None:
                continue
            misses = 0 if outcome.speed > top else misses + 1
            top = max(top, outcome.speed)
            if misses == 2 or (larger and outcome.state != "done"):
                return

    def _recompute(self, top: Outcome) -> None:
        for recompute in self.axes.recomputes:
            if recompute == top.point.recompute:
                continue
            outcome = self._try(at(top.point, recompute=recompute))
            if outcome is not None and outcome.state == "done" and self._is_short(top.point):
                self._climb(outcome, larger=True)

    def _is_short(self, point: Point) -> bool:
        """Whether a larger micro-batch of this arm did not fit."""
        alike = [each for each in self.outcomes if at(each.point, micro_batch=point.micro_batch) == point]
        return any(each.state in ("out of memory", "pruned") for each in alike)

    def _try(self, point: Point) -> Outcome | None:
        """A point's outcome, profiled unless it is known or cannot fit; None where it cannot be run at all."""
        known = next((each for each in self.outcomes if each.point == point), None)
        if known is not None:
            return known
        run = point_run(self.run, point, self.world_size)
        if run is None:
            return None
        expected = expected_bytes(point, self.predict(run), self.outcomes)
        if expected > SLACK * self.limit_bytes:
            reason = f"about {expected / _GIB:.3g} GiB expected, there are {self.limit_bytes / _GIB:.3g}"
            outcome = Outcome(point=point, state="pruned", reason=reason)
        else:
            outcome = within(self.profile(point), self.limit_bytes)
        self.outcomes.append(outcome)
        return outcome


def within(outcome: Outcome, limit_bytes: int) -> Outcome:
    """Out of memory, if it held more than it may."""
    if outcome.peak_bytes is None or outcome.peak_bytes <= limit_bytes:
        return outcome
    reason = f"held {outcome.peak_bytes / _GIB:.3g} GiB of {limit_bytes / _GIB:.3g}"
    return Outcome(
        point=outcome.point,
        state="out of memory",
        reason=reason,
        record=outcome.record,
        peak_bytes=outcome.peak_bytes,
        commit=outcome.commit,
    )


def expected_bytes(point: Point, predicted: int, outcomes: Sequence[Outcome]) -> float:
    """Of a point: where two with smaller micro-batches were measured that have the same settings otherwise, along the
    line through them, memory being a constant and a part that grows with the micro-batch; else what is predicted.
    """
    alike = {
        each.point.micro_batch: each.peak_bytes
        for each in outcomes
        if each.peak_bytes is not None and at(each.point, micro_batch=point.micro_batch) == point
    }
    sizes = [size for size in sorted(alike) if size < point.micro_batch]
    if len(sizes) < 2:
        return float(predicted)
    low, high = sizes[-2:]
    growth = (alike[high] - alike[low]) / (high - low)
    return alike[high] + max(0.0, growth) * (point.micro_batch - high)


def best(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The fastest; among those that are as good, the one that holds least."""
    done = [outcome for outcome in outcomes if outcome.state == "done"]
    if not done:
        return None
    top = max(outcome.speed for outcome in done)
    as_good = [outcome for outcome in done if outcome.speed >= (1 - AS_GOOD) * top]
    return min(as_good, key=lambda outcome: (outcome.peak_bytes or 0, -outcome.speed))
