"""What came of a sweep: each point's loss over tokens, the seeds of a group together, a group against a reference."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.launch.report.data import Curve
from triptych.launch.sweep.folder import PointFolder, State, SweepFolder
from triptych.launch.sweep.grid import SEED, Point
from triptych.trainer.logs import read_records
from triptych.trainer.metrics import StepRecord

LAST_FRACTION = 0.1
NUM_WINDOWS = 60
SETTLED_FRACTION = 0.1  # of the tokens, left out where curves are compared: the steep beginning would hide the rest
BAND_DEVIATIONS = 2.0


@dataclass(kw_only=True, slots=True, frozen=True)
class Reading:
    """How logs are read. last_fraction: of the tokens, which the final loss is the mean over. num_windows: of a curve.
    metric: name in the log.
    """

    last_fraction: float = LAST_FRACTION
    num_windows: int = NUM_WINDOWS
    metric: str = "loss"

    def __post_init__(self) -> None:
        if not 0 < self.last_fraction <= 1:
            raise ValueError(f"--last-fraction {self.last_fraction} is no share; give more than 0 and at most 1")
        if self.num_windows < 2:
            raise ValueError(f"--windows {self.num_windows} make no curve; give 2 or more")


@dataclass(kw_only=True, slots=True, frozen=True)
class Result:
    """How a point ended. final: mean over the last tokens; not-a-number if it failed or diverged. curve: means over
    equal windows of its run's tokens, at their middles; not-a-number where there are none. reason: of a failure.
    """

    point: Point
    state: State
    tokens: int
    final: float
    curve: Curve
    reason: str = ""


class TokenMeans:
    """Means of a metric over stretches of tokens. A step's value counts by what its loss was summed over, so that runs
    with different batches compare: a mean of small batches' means would favour the tokens of those that have few.

    Where steps overlap, as after going back to a checkpoint, the later writing counts.
    """

    def __init__(self, records: Iterable[StepRecord], metric: str = "loss") -> None:
        kept: list[StepRecord] = []
        for record in records:
            while kept and kept[-1].tokens > record.tokens - record.batch_tokens:
                kept.pop()
            kept.append(record)
        self.tokens = kept[-1].tokens if kept else 0
        with_metric = [record for record in kept if metric in record.metrics]
        sizes = np.array([record.batch_tokens for record in with_metric], np.float64)
        values = np.array([record.metrics[metric] for record in with_metric], np.float64)
        values[~np.isfinite(values)] = np.nan
        ends = np.array([record.tokens for record in with_metric], np.float64)
        self._places = np.stack([ends - sizes, ends], axis=1).ravel()
        weights = np.array([record.metrics.get("loss_weight", record.batch_tokens) for record in with_metric])
        self._weights, self._sums = (_before_and_after(amounts) for amounts in (weights, weights * values))

    def over(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means between neighbours of `edges`, [N + 1] to [N]; not-a-number where no step is, or a value was not
        finite before.
        """
        if not len(self._places):
            return np.full(len(edges) - 1, np.nan)
        weights, sums = (np.diff(np.interp(edges, self._places, of)) for of in (self._weights, self._sums))
        means = np.full_like(sums, np.nan)
        return np.divide(sums, weights, out=means, where=weights > 0)

    def final(self, last_fraction: float) -> float:
        """Mean over the last fraction of all tokens."""
        return float(self.over(np.array([1 - last_fraction, 1.0]) * self.tokens)[0])

    def curve(self, total_tokens: int, num_windows: int) -> Curve:
        """Means over equal windows of `total_tokens`, at the windows' middles."""
        edges = np.linspace(0, total_tokens, num_windows + 1)
        values = self.over(edges)
        values[edges[1:] > self.tokens] = np.nan  # a window that the run has not come to the end of
        return Curve(tokens=(edges[:-1] + edges[1:]) / 2, values=values)


@dataclass(kw_only=True, slots=True, frozen=True)
class Group:
    """The points that differ in their seeds alone. seeds: of the S points that are done, None where none was set;
    curves_SN: theirs over N windows. num_failed: of its points.
    """

    name: str
    variant: str
    values: Mapping[str, Any]
    tokens_N: NDArray[np.float64]
    seeds: tuple[Any, ...]
    curves_SN: NDArray[np.float64]
    finals_S: NDArray[np.float64]
    num_failed: int
    first: Point

    @property
    def num_seeds(self) -> int:
        return len(self.finals_S)

    @property
    def mean(self) -> NDArray[np.float64]:
        return self.curves_SN.mean(axis=0) if self.num_seeds else np.full(len(self.tokens_N), np.nan)

    @property
    def deviation(self) -> NDArray[np.float64]:
        """The seeds' sample standard deviation at every window; not-a-number for fewer than two."""
        return self.curves_SN.std(axis=0, ddof=1) if self.num_seeds > 1 else np.full(len(self.tokens_N), np.nan)

    @property
    def final(self) -> float:
        return float(self.finals_S.mean()) if self.num_seeds else float("nan")

    @property
    def final_deviation(self) -> float:
        """As `deviation`, of the final losses."""
        return float(self.finals_S.std(ddof=1)) if self.num_seeds > 1 else float("nan")


@dataclass(kw_only=True, slots=True, frozen=True)
class Comparison:
    """A group beside a reference, each of its seeds beside the same seed there, which has seen the same data: what is
    left is what the settings do, not the seed.

    differences_N: mean over the seeds, at every window. share_within: of the windows after the first tenth, those in
    which that is at most two standard deviations of the reference's seeds. final, final_deviations: difference of the
    final losses, and in units of the reference's standard deviation at the windows after the first tenth (root mean
    square over them: the last window's own, of a few seeds, would be a throw of dice).
    """

    differences_N: NDArray[np.float64]
    share_within: float
    final: float
    final_deviations: float


def read_result(place: PointFolder, point: Point, reading: Reading = Reading()) -> Result | None:
    """How a point ended, from its log; None if it has not ended."""
    state, reason = place.outcome()
    if state is None:
        return None
    log = place.run.log(0)
    records = read_records(log, upto_tokens=2**63) if log.exists() else []
    means = TokenMeans(records, reading.metric)
    return Result(
        point=point,
        state=state,
        tokens=means.tokens,
        final=means.final(reading.last_fraction) if state == "done" else float("nan"),
        curve=means.curve(records[-1].total_tokens if records else 1, reading.num_windows),
        reason=reason,
    )


def read_results(folder: Path, reading: Reading = Reading()) -> list[Result]:
    """All points of a sweep that have ended, in their order. ValueError if the folder holds no sweep."""
    sweep = SweepFolder(folder=folder)
    found = (read_result(sweep.point(name), point, reading) for name, point in sweep.read().points.items())
    return [result for result in found if result is not None]


def grouped(results: Iterable[Result]) -> list[Group]:
    """Points by group, in the order in which the groups first come."""
    together: dict[str, list[Result]] = {}
    for result in results:
        together.setdefault(result.point.group, []).append(result)
    return [_group(name, members) for name, members in together.items()]


def compared(group: Group, reference: Group) -> Comparison:
    """A group beside a reference, which may be itself. Not-a-number where the reference has fewer than two seeds, or
    the windows are not the same; a seed that the reference lacks is held against its mean.
    """
    nothing = float("nan")
    if group.num_seeds == 0 or reference.num_seeds < 2 or not np.array_equal(group.tokens_N, reference.tokens_N):
        lost = np.full(len(group.tokens_N), nothing)
        return Comparison(differences_N=lost, share_within=nothing, final=nothing, final_deviations=nothing)
    curves = dict(zip(reference.seeds, reference.curves_SN, strict=True))
    finals = dict(zip(reference.seeds, reference.finals_S, strict=True))
    pairs = list(zip(group.seeds, group.curves_SN, group.finals_S, strict=True))
    differences_N = np.mean([curve_N - curves.get(seed, reference.mean) for seed, curve_N, _ in pairs], axis=0)
    final = float(np.mean([value - finals.get(seed, reference.final) for seed, _, value in pairs]))
    settled = group.tokens_N > SETTLED_FRACTION * (group.tokens_N[0] + group.tokens_N[-1])
    spread = reference.deviation[settled]
    unit = float(np.sqrt(np.nanmean(spread**2)))
    return Comparison(
        differences_N=differences_N,
        share_within=float((np.abs(differences_N)[settled] <= BAND_DEVIATIONS * spread).mean()),
        final=final,
        final_deviations=final / unit if unit > 0 else nothing,
    )


def named_group(groups: Iterable[Group], name: str) -> Group | None:
    """The group of that name, if it has come so far."""
    return next((group for group in groups if group.name == name), None)


def _group(name: str, members: Sequence[Result]) -> Group:
    first = members[0]
    done = [member for member in members if member.state == "done"]
    tokens_N = (done or members)[0].curve.tokens
    return Group(
        name=name,
        variant=first.point.variant,
        values={path: value for path, value in first.point.values.items() if path != SEED},
        tokens_N=tokens_N,
        seeds=tuple(member.point.values.get(SEED) for member in done),
        curves_SN=np.array([member.curve.values for member in done]).reshape(len(done), len(tokens_N)),
        finals_S=np.array([member.final for member in done]),
        num_failed=len(members) - len(done),
        first=first.point,
    )


def _before_and_after(amounts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Running totals before and after each, [N] to [2 N]."""
    after = np.cumsum(amounts)
    return np.stack([np.concatenate([[0.0], after])[:-1], after], axis=1).ravel()
