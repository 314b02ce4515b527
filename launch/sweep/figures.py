"""A sweep's results as figures: loss over tokens per group, final loss against the value of a grid."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from triptych.launch.report.numbers import fixed, short
from triptych.launch.sweep.grid import SEED
from triptych.launch.sweep.results import BAND_DEVIATIONS, SETTLED_FRACTION, Group, compared

COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#aa3377", "#8c6d1f", "#56b4e9", "#332288", "#999933"),
    *("#e7298a", "#7a5195", "#b30000", "#00429d", "#444444", "#1b9e77"),
)
INK, FAINT, BAND = "#333333", "#e4e4e4", "#8a8a8a"
MIN_VALUES = 3  # of a grid, below which there is no curve to draw
DOTS_PER_INCH = 160


@dataclass(kw_only=True, slots=True, frozen=True)
class Dependence:
    """Final losses against the values of one grid. label: what else the line's points share. best: index of the lowest
    mean, None if none is finite.
    """

    label: str
    values_N: NDArray[np.float64]
    groups: tuple[Group, ...]

    @property
    def finals(self) -> NDArray[np.float64]:
        return np.array([group.final for group in self.groups])

    @property
    def best(self) -> int | None:
        finals = self.finals
        return int(np.nanargmin(finals)) if np.isfinite(finals).any() else None


def draw_curves(groups: Sequence[Group], target: Path, *, reference: Group | None = None, title: str = "") -> None:
    """Loss over tokens: a line per group that has points, a band for its seeds' range; a grey band of the reference's
    mean and two standard deviations of its seeds. Written as `target`'s suffix says.
    """
    drawn = [group for group in groups if np.isfinite(group.mean).any()]
    if not drawn:
        return
    figure, axes = _axes(title)
    low, high = loss_limits(drawn)
    axes.set(ylim=(low, high), xlim=(0, max(float(group.tokens_N[0] + group.tokens_N[-1]) for group in drawn)))
    if reference is not None and reference.num_seeds > 1:
        spread_N = BAND_DEVIATIONS * reference.deviation
        edges = (reference.mean - spread_N, reference.mean + spread_N)
        axes.fill_between(reference.tokens_N, *edges, color=BAND, alpha=0.35, linewidth=0, zorder=1)
    ends = []
    for group, (colour, style) in zip(drawn, _looks(), strict=False):
        if group.num_seeds > 1 and group is not reference:
            edges = (group.curves_SN.min(axis=0), group.curves_SN.max(axis=0))
            axes.fill_between(group.tokens_N, *edges, color=colour, alpha=0.15, linewidth=0, zorder=2)
        colour = INK if group is reference else colour
        axes.plot(group.tokens_N, group.mean, style, color=colour, linewidth=1.6, zorder=3)
        ends.append((_end_of(group.mean), _curve_label(group, reference), colour))
    _label_ends(axes, ends)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.set(xlabel="tokens", ylabel="training loss")
    _save(figure, target)


def draw_differences(groups: Sequence[Group], target: Path, *, reference: Group, title: str = "") -> None:
    """Loss less the reference's, of the same seeds, over tokens; grey: two standard deviations of the reference's seeds
    either way. Dashed: groups that are outside at more than half of the windows. What is far out leaves the figure.
    """
    pairs = [(group, compared(group, reference)) for group in groups if group is not reference]
    drawn = [(group, found) for group, found in pairs if np.isfinite(found.differences_N).any()]
    if not drawn:
        return
    figure, axes = _axes(title)
    spread_N = BAND_DEVIATIONS * reference.deviation
    settled = reference.tokens_N > SETTLED_FRACTION * (reference.tokens_N[0] + reference.tokens_N[-1])
    farthest = max(float(np.nanmax(np.abs(found.differences_N[settled]))) for _, found in drawn)
    limit = min(1.1 * farthest, 3 * float(np.nanmedian(spread_N[settled])))
    axes.set(ylim=(-limit / 2, limit), xlim=(0, float(reference.tokens_N[0] + reference.tokens_N[-1])))
    axes.fill_between(reference.tokens_N, -spread_N, spread_N, color=BAND, alpha=0.3, linewidth=0, zorder=1)
    ends = [(0.0, _curve_label(reference, reference), INK)]
    axes.axhline(0.0, color=INK, linewidth=1.0, zorder=2)
    for number, (group, found) in enumerate(drawn):
        colour, style = COLOURS[number % len(COLOURS)], "-" if found.share_within > 0.5 else "--"
        axes.plot(group.tokens_N, found.differences_N, style, color=colour, linewidth=1.6, zorder=3)
        ends.append((_end_of(found.differences_N), group.name, colour))
    _label_ends(axes, ends)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.set(xlabel="tokens", ylabel=f"training loss less that of {reference.name}")
    _save(figure, target)


def dependences(groups: Iterable[Group]) -> tuple[str, list[Dependence]] | None:
    """The one numeric grid besides the seeds' that has three values or more, and a line for each combination of all the
    rest; None if there is no such grid, or several.
    """
    groups = list(groups)
    paths = dict.fromkeys(path for group in groups for path in group.values)
    numeric = [path for path in paths if len(_numbers(groups, path)) >= MIN_VALUES]
    if len(numeric) != 1:
        return None
    (path,) = numeric
    lines: dict[str, list[Group]] = {}
    for group in groups:
        if path in group.values:
            lines.setdefault(group.first.label_without(path), []).append(group)
    found = []
    for label, members in lines.items():
        members.sort(key=lambda group: group.values[path])
        values_N = np.array([group.values[path] for group in members], np.float64)
        found.append(Dependence(label=label, values_N=values_N, groups=tuple(members)))
    return path, found


def draw_dependences(path: str, lines: Sequence[Dependence], target: Path, *, title: str = "") -> None:
    """Final loss against the value at `path`: a line per `Dependence`, its seeds as dots, the lowest mean as a star."""
    drawn = [line for line in lines if line.best is not None]
    if not drawn:
        return
    figure, axes = _axes(title)
    values = sorted({float(value) for line in drawn for value in line.values_N})
    if is_geometric(values):
        axes.set_xscale("log")
    ends = []
    for line, (colour, style) in zip(drawn, _looks(), strict=False):
        axes.plot(line.values_N, line.finals, style, color=colour, linewidth=1.6, zorder=2)
        for value, group in zip(line.values_N, line.groups, strict=True):
            axes.plot([value] * group.num_seeds, group.finals_S, ".", color=colour, alpha=0.55, markersize=5, zorder=3)
        best = line.best
        assert best is not None
        value, final = float(line.values_N[best]), float(line.finals[best])
        axes.plot([value], [final], "*", color=colour, markersize=14, markeredgecolor="white", zorder=4)
        axes.annotate(
            f"{_number(value)}: {fixed(final, 3)}",
            (value, final),
            textcoords="offset points",
            xytext=(0, -14),
            ha="center",
            color=colour,
            fontsize=8,
        )
        ends.append((_end_of(line.finals), line.label, colour))
    low, high = final_limits(drawn)
    axes.set_ylim(low, high)
    _label_ends(axes, ends)
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    axes.set(xlabel=path, ylabel="final training loss")
    _save(figure, target)


def is_geometric(values: Sequence[float]) -> bool:
    """Whether sorted values are more evenly spaced by ratio than by difference: 1e-3, 3e-3, 1e-2 are."""
    if len(values) < 2 or values[0] <= 0:
        return False
    ratios, differences = np.diff(np.log(values)), np.diff(values)
    return bool(ratios.std() / ratios.mean() < differences.std() / differences.mean())


def loss_limits(groups: Sequence[Group]) -> tuple[float, float]:
    """What of the losses is shown: all that come after the first tenth in groups that have not diverged, but never more
    than the best one's whole way down. Steep beginnings and what diverges leave through the top.
    """
    best = min(groups, key=lambda group: group.final if math.isfinite(group.final) else math.inf)
    settled = [_settled(group) for group in groups]
    whole = [values for values in settled if np.isfinite(values).all()] or settled
    finite = np.concatenate([values[np.isfinite(values)] for values in whole])
    if not len(finite):
        finite = best.mean[np.isfinite(best.mean)]
    return _padded(float(finite.min()), min(float(finite.max()), float(np.nanmax(best.mean))))


def _settled(group: Group) -> NDArray[np.float64]:
    """The mean at the windows after the first tenth."""
    return group.mean[group.tokens_N > SETTLED_FRACTION * (group.tokens_N[0] + group.tokens_N[-1])]


def final_limits(lines: Sequence[Dependence]) -> tuple[float, float]:
    """What of the final losses is shown: all, unless some are above the lowest by more than six times the distance of
    the median, which would make the rest flat.
    """
    finals = np.concatenate([group.finals_S[np.isfinite(group.finals_S)] for line in lines for group in line.groups])
    low, typical = float(finals.min()), float(np.median(finals))
    cap = low + 6 * (typical - low) if typical > low else math.inf
    low, high = _padded(low, min(float(finals.max()), cap))
    return low - 0.06 * (high - low), high


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or 0.05 * max(abs(low), 1.0)
    return low - margin, high + margin


def _axes(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(BAND)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    return figure, axes


def _looks() -> Iterator[tuple[str, str]]:
    """A colour and a line style for each line, without end."""
    while True:
        for style in ("-", "--", ":", "-."):
            yield from ((colour, style) for colour in COLOURS)


def _label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names right of the plot, each at the height at which its line ends, moved apart where they would overlap."""
    labelled = sorted(end for end in ends if end[1] and math.isfinite(end[0]))
    low, high = axes.get_ylim()
    size = 9 if len(labelled) <= 12 else 6
    gap = min(0.0052 * size, 1 / max(len(labelled) - 1, 1))
    wanted = [min(max((height - low) / (high - low), 0.0), 1.0) for height, _, _ in labelled]
    for place, (_, name, colour) in zip(spread_out(wanted, gap), labelled, strict=True):
        axes.annotate(
            name.replace(",", ", "),
            (1.0, place),
            xycoords="axes fraction",
            textcoords="offset points",
            xytext=(6, 0),
            va="center",
            color=colour,
            fontsize=size,
        )


def spread_out(wanted: Sequence[float], gap: float) -> list[float]:
    """Sorted places in 0..1 moved to be `gap` apart at least, near where they were wanted. The gap must leave room."""
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + gap) if places else place)
    ceiling = 1.0
    for index in reversed(range(len(places))):
        places[index] = min(places[index], ceiling)
        ceiling = places[index] - gap
    return places


def _end_of(values_N: NDArray[np.float64]) -> float:
    """The last finite value."""
    finite = values_N[np.isfinite(values_N)]
    return float(finite[-1]) if len(finite) else math.nan


def _curve_label(group: Group, reference: Group | None) -> str:
    if group is reference and group.num_seeds > 1:
        return f"{group.name} ±{BAND_DEVIATIONS:.0f} sd of {group.num_seeds} seeds"
    return group.name


def _number(value: float) -> str:
    return short(value) if value >= 1000 else f"{value:g}"


def _numbers(groups: Iterable[Group], path: str) -> set[float]:
    """Values of a grid, empty unless all are numbers."""
    values = [group.values[path] for group in groups if path in group.values]
    if path == SEED or any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        return set()
    return set(values)


def _save(figure: Figure, target: Path) -> None:
    part = target.with_name(f".{target.name}.part{target.suffix}")
    figure.savefig(part, dpi=DOTS_PER_INCH, bbox_inches="tight", facecolor="white")
    part.replace(target)
