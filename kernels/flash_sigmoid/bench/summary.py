"""Records of several rounds as one result per shape, direction and contender, and the goals judged by them."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from triptych.kernels.flash_sigmoid.bench.cases import NOT_REACHED, Direction, Job, Shape

Verdict = Literal["pass", "fail", "not measured"]


@dataclass(kw_only=True, slots=True, frozen=True)
class Timing:
    """Milliseconds by round; failed: why there are none."""

    contender: str
    shape: Shape
    direction: Direction
    by_round: Mapping[int, float]
    failed: str | None

    @property
    def milliseconds(self) -> float | None:
        """Median over the rounds."""
        return statistics.median(self.by_round.values()) if self.by_round else None

    @property
    def spread(self) -> float | None:
        """The largest over the smallest time."""
        return max(self.by_round.values()) / min(self.by_round.values()) if self.by_round else None

    @property
    def tflops(self) -> float | None:
        return None if self.milliseconds is None else self.shape.operations(self.direction) / self.milliseconds / 1e9

    def ratio(self, peer: "Timing") -> float | None:
        """How many times as fast as the peer: median over rounds in which both were measured, one after the other."""
        both = self.by_round.keys() & peer.by_round.keys()
        return statistics.median(peer.by_round[i] / self.by_round[i] for i in both) if both else None


@dataclass(kw_only=True, slots=True, frozen=True)
class Goal:
    """A ratio that is to be at least `least`. value: the best of our accurate kernels', which `contender` names."""

    what: str
    least: float
    value: float | None
    contender: str | None

    @property
    def verdict(self) -> Verdict:
        if self.value is None:
            return "not measured"
        return "pass" if self.value >= self.least else "fail"

    def __str__(self) -> str:
        value = "" if self.value is None else f": {self.value:.2f} ({self.contender})"
        return f"{self.verdict}: {self.what}, at least {self.least:.2f}{value}"


def timings(found: Mapping[str, Any]) -> list[Timing]:
    """Of a document, in the order of its first records."""
    groups: dict[tuple[Shape, Direction, str], list[Mapping[str, Any]]] = {}
    for record in found["records"]:
        if record["kind"] == "time" and record.get("failed") != NOT_REACHED:
            job = _job(record)
            assert job.shape is not None
            groups.setdefault((job.shape, job.direction, job.contender), []).append(record)
    return [_timing(*key, records) for key, records in groups.items()]


def results(found: Mapping[str, Any], kind: str) -> list[tuple[Job, Mapping[str, float] | None, str | None]]:
    """Jobs of a kind with their values, or with the reason that there are none."""
    reached = (record for record in found["records"] if record.get("failed") != NOT_REACHED)
    chosen = (record for record in reached if record["kind"] == kind)
    return [(_job(record), record.get("values"), record.get("failed")) for record in chosen]


def num_left_out(found: Mapping[str, Any]) -> int:
    """Jobs that time did not reach. They are in none of the above."""
    return sum(record.get("failed") == NOT_REACHED for record in found["records"])


def ceiling(found: Mapping[str, Any]) -> float | None:
    """TFLOP/s of the large matrix product; None if that failed."""
    values = [values["tflops"] for _, values, _ in results(found, "ceiling") if values]
    return max(values, default=None)


def goals(found: Mapping[str, Any]) -> list[Goal]:
    """At the document's goal shape. Kernels that are not accurate (tanh) do not count."""
    shape = Shape(**found["goal_shape"])
    at_goal = {(timing.contender, timing.direction): timing for timing in timings(found) if timing.shape == shape}
    accurate = [name for name in found["ours"] if "tanh" not in name]
    top = ceiling(found)

    def ours(direction: Direction) -> list[Timing]:
        return [at_goal[name, direction] for name in accurate if (name, direction) in at_goal]

    def against(peer: str, direction: Direction, least: float) -> Goal:
        theirs = at_goal.get((peer, direction))
        ratios = {timing.contender: timing.ratio(theirs) for timing in ours(direction)} if theirs else {}
        return _goal(f"{direction} / {peer}", least, ratios)

    shares = {timing.contender: timing.tflops and top and timing.tflops / top for timing in ours("forward")}
    return [
        against("sdpa flash", "forward", 1.17),
        against("sdpa cudnn", "forward", 1.0),
        _goal("forward / matrix product", 0.75, shares),
        against("sdpa cudnn", "backward", 1.0),
    ]


def _goal(what: str, least: float, values: Mapping[str, float | None]) -> Goal:
    """By the best of those that have a value."""
    known = {name: value for name, value in values.items() if value is not None}
    best = max(known, key=known.__getitem__, default=None)
    return Goal(what=what, least=least, value=None if best is None else known[best], contender=best)


def _timing(shape: Shape, direction: Direction, contender: str, records: list[Mapping[str, Any]]) -> Timing:
    by_round = {record["round"]: record["values"]["milliseconds"] for record in records if "values" in record}
    return Timing(
        contender=contender,
        shape=shape,
        direction=direction,
        by_round=by_round,
        failed=None if by_round else records[0]["failed"],
    )


def _job(record: Mapping[str, Any]) -> Job:
    return Job.of_mapping({name: value for name, value in record.items() if name not in ("values", "failed")})
