"""Line charts as inline SVG, coloured by the page's style sheet so that they follow its light and dark themes.

Charts are drawn for a width of about 360 pixels and laid side by side, so their letters stay readable on a phone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from triptych.launch.report.data import Curve
from triptych.launch.report.numbers import nice_ticks, short

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 42, 14, 12, 36
MAX_POINTS = 240  # more than one per pixel of the plot shows nothing more
SMOOTHING_SHARE = 0.01  # of the curve's points, the standard deviation that the bold line averages over


@dataclass(kw_only=True, slots=True, frozen=True)
class Series:
    """A line of a chart. colour: "text", "image", "audio" or "plain", a class of the style sheet."""

    xs: NDArray[Any]
    ys: NDArray[Any]
    colour: str = "plain"
    style: Literal["line", "faint", "dots", "line dots"] = "line"
    label: str = ""


def smoothed(curve: Curve) -> Curve:
    """Gaussian mean of the neighbours, which does not lag as a running mean would; renormalised at the ends."""
    tokens, values = _finite(curve.tokens, curve.values)
    width = max(1.0, SMOOTHING_SHARE * len(values))
    reach = min(int(4 * width), max(len(values) - 1, 0) // 2)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    if not len(values):
        return Curve(tokens=tokens, values=values)
    total = np.convolve(np.ones_like(values), kernel, mode="same")
    return Curve(tokens=tokens, values=np.convolve(values, kernel, mode="same") / total)


def thinned(xs: NDArray[Any], ys: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """At most MAX_POINTS points, each the mean of its neighbours; the first and the last stay."""
    if len(xs) <= MAX_POINTS:
        return xs, ys
    groups = np.array_split(np.arange(1, len(xs) - 1), MAX_POINTS - 2)
    means = [np.array([array[0], *(array[group].mean() for group in groups), array[-1]]) for array in (xs, ys)]
    return means[0], means[1]


def _finite(xs: NDArray[Any], ys: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    xs, ys = np.asarray(xs, np.float64), np.asarray(ys, np.float64)
    keep = np.isfinite(xs) & np.isfinite(ys)
    return xs[keep], ys[keep]


@dataclass(kw_only=True, slots=True, frozen=True)
class _Plane:
    """Data coordinates to those of the drawing."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_range[0]) / (self.x_range[1] - self.x_range[0]) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return (
            HEIGHT - BOTTOM - (value - self.y_range[0]) / (self.y_range[1] - self.y_range[0]) * (HEIGHT - TOP - BOTTOM)
        )


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    from_zero: bool = False,
    x_range: tuple[float, float] | None = None,
    format_x: Callable[[float], str] = short,
    format_y: Callable[[float], str] = short,
) -> Markup:
    """An <svg> of the series, "" if none has a finite point. `title` is read aloud and shown on hover, not drawn."""
    drawn = []
    for line in series:
        xs, ys = thinned(*_finite(line.xs, line.ys))
        if len(xs):
            drawn.append((line, xs, ys))
    if not drawn:
        return Markup("")
    plane = _plane(drawn, from_zero, x_range)
    parts = [*_axes(plane, x_label, format_x, format_y), *(_draw(plane, *entry) for entry in drawn)]
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img"><title>{}</title>')
    return head.format(WIDTH, HEIGHT, title) + Markup("").join(parts) + Markup("</svg>")


def _plane(
    drawn: Sequence[tuple[Series, NDArray[Any], NDArray[Any]]], from_zero: bool, x_range: tuple[float, float] | None
) -> _Plane:
    ends = [float(end) for _, xs, _ in drawn for end in (xs.min(), xs.max())]
    start, end = x_range or (min(ends), max(ends))
    values = np.concatenate([ys for _, _, ys in drawn])
    # A single early peak must not flatten the rest: the top is the 99.5th percentile, and lines leave the frame above
    # it.
    low, high = float(values.min()), float(np.quantile(values, 0.995))
    low = min(0.0, low) if from_zero else low
    high = max(high, low + 1e-9 * max(1.0, abs(low)))
    margin = 0.06 * (high - low) or 1.0
    return _Plane(
        x_range=(start, end if end > start else start + 1.0),
        y_range=(low if from_zero and low == 0 else low - margin, high + margin),
    )


def _axes(
    plane: _Plane, x_label: str, format_x: Callable[[float], str], format_y: Callable[[float], str]
) -> list[Markup]:
    parts = []
    for value in nice_ticks(*plane.y_range):
        y = plane.y(value)
        parts.append(Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(LEFT, y, WIDTH - RIGHT))
        parts.append(Markup('<text x="{}" y="{:.1f}" class="end">{}</text>').format(LEFT - 6, y + 3.5, format_y(value)))
    for value in nice_ticks(*plane.x_range):
        place = plane.x(value)
        parts.append(
            Markup('<text x="{:.1f}" y="{}" class="mid">{}</text>').format(place, HEIGHT - 20, format_x(value))
        )
    parts.append(Markup('<path class="axis" d="M{} {}H{}"/>').format(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(Markup('<text x="{}" y="{}" class="mid label">{}</text>').format(middle, HEIGHT - 5, x_label))
    return parts


def _draw(plane: _Plane, line: Series, xs: NDArray[Any], ys: NDArray[Any]) -> Markup:
    top = plane.y_range[1]
    points = [(plane.x(x), plane.y(min(y, top))) for x, y in zip(xs, ys, strict=True)]
    shapes = Markup("")
    if line.style != "dots":
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        shapes += Markup('<path class="line {}" d="{}"/>').format("faint" if line.style == "faint" else "", path)
    if line.style.endswith("dots"):
        for (x, y), raw in zip(points, ys, strict=True):
            tip = escape(f"{line.label} {raw:.4g}".strip())
            shapes += Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3"><title>{}</title></circle>').format(x, y, tip)
    return Markup('<g class="c-{}">{}</g>').format(line.colour, shapes)
