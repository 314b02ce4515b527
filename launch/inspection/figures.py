"""Histograms and spectra of codes as inline SVG, in the style of the report's charts.

Shape legend: B bars, V codes of a vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from triptych.data_pipelines.statistics.lengths import LengthCounts
from triptych.launch.inspection.plain import counted
from triptych.launch.report.numbers import nice_ticks, short
from triptych.launch.report.page.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Series, line_chart

MAX_BARS = 48
_LEAST_BARS = 9
_TAIL = 1.5  # lengths beyond so many times the 99th percentile go into one last bar


def bar_chart(
    edges_B1: NDArray[Any],
    heights_B: NDArray[Any],
    *,
    colour: str,
    title: str,
    x_label: str,
    tips: Sequence[str],
    lacking_B: NDArray[Any] | None = None,
    last: str = "",
    format_x: Callable[[float], str] = short,
) -> Markup:
    """An <svg> of bars between edges. tips: shown on hover, one per bar. lacking_B: shares 0..1, as a strip below.

    last: if the last bar stands for all beyond, what is written under it.
    """
    low, high, top = float(edges_B1[0]), float(edges_B1[-1]), float(heights_B.max()) or 1.0
    across, floor = (WIDTH - LEFT - RIGHT) / (high - low), HEIGHT - BOTTOM
    parts = []
    for value in nice_ticks(0.0, top, 3):
        y = floor - value / top * (floor - TOP)
        parts.append(Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(LEFT, y, WIDTH - RIGHT))
        parts.append(Markup('<text x="{}" y="{:.1f}" class="end">{}</text>').format(LEFT - 6, y + 3.5, short(value)))
    for place, (start, stop, height) in enumerate(zip(edges_B1, edges_B1[1:], heights_B, strict=False)):
        left, width = LEFT + (start - low) * across, (stop - start) * across
        tall = max(height / top * (floor - TOP), 1.0 if height else 0.0)
        shade = " faint" if last and place == len(heights_B) - 1 else ""
        parts.append(
            Markup(
                '<rect class="bar-of{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"><title>{}</title></rect>'
            ).format(shade, left, floor - tall, max(width - (0.6 if width > 2 else 0), 0.4), tall, tips[place])
        )
        if lacking_B is not None and lacking_B[place] > 0:
            parts.append(
                Markup('<rect class="lacking" x="{:.2f}" y="{}" width="{:.2f}" height="4" opacity="{:.2f}"/>').format(
                    left, floor + 2, width, 0.15 + 0.85 * lacking_B[place]
                )
            )
    ticks_end = float(edges_B1[-2]) if last else high
    for value in nice_ticks(low, ticks_end, 4):
        place = LEFT + (value - low) * across
        if not last or place < WIDTH - RIGHT - 46:
            parts.append(
                Markup('<text x="{:.1f}" y="{}" class="mid">{}</text>').format(place, HEIGHT - 18, format_x(value))
            )
    if last:
        parts.append(Markup('<text x="{}" y="{}" class="end">{}</text>').format(WIDTH - RIGHT, HEIGHT - 18, last))
    parts.append(Markup('<path class="axis" d="M{} {}H{}"/>').format(LEFT, floor, WIDTH - RIGHT))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(Markup('<text x="{}" y="{}" class="mid label">{}</text>').format(middle, HEIGHT - 4, x_label))
    head = Markup('<svg class="chart c-{}" viewBox="0 0 {} {}" role="img"><title>{}</title>')
    return head.format(colour, WIDTH, HEIGHT, title) + Markup("").join(parts) + Markup("</svg>")


def length_chart(counts: LengthCounts, *, colour: str, title: str, unit: str) -> Markup:
    """How many samples have which length; a far tail is one last bar. "" if there are none."""
    if not len(counts):
        return Markup("")
    first, longest = int(counts.values[0]), int(counts.values[-1])
    bound = min(longest, max(int(_TAIL * counts.quantile(0.99)), first))
    while bound - first + 1 < _LEAST_BARS:  # a single length is a bar among others, not a block
        bound, first = bound + 1, max(0, first - 1)
    width = max(1, -(-(bound + 1 - first) // MAX_BARS))
    edges = np.arange(first, bound + 1 + width, width)
    beyond = longest >= edges[-1]
    bins = np.minimum((counts.values - first) // width, len(edges) - 1)
    heights_B = np.bincount(bins, weights=counts.counts, minlength=len(edges) - 1)
    stops = edges[1:] - 1
    if beyond:
        edges, stops = np.append(edges, edges[-1] + max(width, (edges[-1] - first) // 16)), np.append(stops, longest)
    tips = [
        f"{start:,}{f' to {stop:,}' if stop > start else ''}: {counted(int(height), 'sample')}"
        for start, stop, height in zip(edges, stops, heights_B, strict=False)
    ]
    return bar_chart(
        edges - 0.5 if width == 1 else edges.astype(np.float64),  # a bar of one length stands over its number
        heights_B,
        colour=colour,
        title=title,
        x_label=unit,
        tips=tips,
        last=f"to {short(longest)}" if beyond else "",
        format_x=lambda value: short(value) if value == round(value) else "",
    )


def size_chart(sizes: Sequence[float], *, colour: str, title: str, unit: str) -> Markup:
    """As `length_chart`, of sizes that need not be whole numbers."""
    values = np.asarray(sizes, np.float64)
    if not len(values):
        return Markup("")
    if np.array_equal(values, np.rint(values)):
        return length_chart(LengthCounts.of([values.astype(np.int64)]), colour=colour, title=title, unit=unit)
    low, high = float(values.min()), float(values.max())
    ends = (low, high) if high > low else (low / 2, low * 1.5)
    heights_B, edges_B1 = np.histogram(values, bins=MAX_BARS // 2, range=ends)
    bars = zip(edges_B1, edges_B1[1:], heights_B, strict=False)
    tips = [f"{start:.3g} to {stop:.3g}: {counted(int(height), 'sample')}" for start, stop, height in bars]
    return bar_chart(edges_B1, heights_B.astype(np.float64), colour=colour, title=title, x_label=unit, tips=tips)


def rank_chart(counts_V: NDArray[np.int64], *, colour: str, title: str) -> Markup:
    """Frequency of codes by rank, both axes logarithmic: straight for text, flat for a code book in even use."""
    shares = np.sort(counts_V[counts_V > 0])[::-1] / max(1, counts_V.sum())
    ranks = np.arange(1, len(shares) + 1)
    few = np.unique(np.geomspace(1, len(ranks), 200).astype(np.int64)) - 1 if len(ranks) else ranks
    series = [Series(xs=np.log10(ranks[few]), ys=np.log10(shares[few]), colour=colour)]
    return line_chart(
        series,
        title=title,
        x_label="rank, most frequent first (logarithmic)",
        format_x=lambda value: _power(value, whole=True),
        format_y=_power,
    )


def code_chart(counts_V: NDArray[np.int64], vocab_size: int, *, colour: str, title: str) -> Markup:
    """How often codes occur, by their number; a strip below where codes never do."""
    size = max(vocab_size, len(counts_V), 1)
    counts = np.pad(counts_V, (0, size - len(counts_V)))
    width = -(-size // 128)
    starts = np.arange(0, size, width)
    edges = np.append(starts, size).astype(np.float64)
    widths = np.diff(edges)
    heights_B = np.add.reduceat(counts, starts) / widths
    lacking_B = np.add.reduceat(counts == 0, starts) / widths
    tips = []
    for start, stop, height in zip(edges.astype(int), edges[1:].astype(int), heights_B, strict=False):
        name = f"code {start}" if stop == start + 1 else f"codes {start} to {stop - 1}"
        tips.append(f"{name}: {height:,.1f} each")
    return bar_chart(edges, heights_B, colour=colour, title=title, x_label="code", tips=tips, lacking_B=lacking_B)


def _power(value: float, whole: bool = False) -> str:
    if whole:
        return short(10**value) if abs(value - round(value)) < 1e-6 else ""
    return f"{100 * 10**value:.2g}\u202f%"
