"""What a study leaves behind: a figure, and a table with all that it takes to make it again."""

import datetime
import itertools
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from triptych.kernels.provenance import processor

RESULTS = Path(__file__).resolve().parents[1] / "results"
PACKAGES = ("torch", "matplotlib")
INK, MUTED, GRID = "#222222", "#767676", "#e6e6e6"
COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#e08e1b", "#7b5ea7", "#8c6d46", "#3aa6a6", "#c45ab3")


def provenance(name: str, seconds: float) -> str:
    """Command, date, versions, hardware and duration, as one paragraph."""
    versions = ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)])
    command = f"python -m triptych.trainer.scaling.study.{name}"
    return f"`{command}`, {datetime.date.today()}; {versions}; one thread of {processor()}, {seconds:.0f} s of it."


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines of a table, without a newline at the end."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(folder: Path, name: str, *, title: str, paragraphs: Sequence[str], figures: Mapping[str, Figure]) -> None:
    """`toy_<name>.md` and, for each figure, `toy_<its name>.png` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join([f"# {title}", *paragraphs])
    (folder / f"toy_{name}.md").write_text(text + "\n", encoding="utf-8")
    for figure_name, figure in figures.items():
        figure.savefig(folder / f"toy_{figure_name}.png", dpi=150)


def panels(number: int, title: str, *, height: float = 4.2, width: float | None = None) -> tuple[Figure, list[Axes]]:
    """A figure of panels in a row, with the message above."""
    figure = Figure(figsize=(width or 4.6 * number + 1.2, height), facecolor="white", layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    axes = [figure.add_subplot(1, number, index + 1) for index in range(number)]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.spines[["left", "bottom"]].set_color(MUTED)
        each.grid(color=GRID, linewidth=0.8)
        each.set_axisbelow(True)
        each.tick_params(colors=MUTED, labelcolor=INK, labelsize=9)
    return figure, axes


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]], *, gap: float) -> None:
    """Names beside the last points (x, y, name, colour) of lines, in one column, `gap` of the axes' height apart."""
    to_axes = axes.transData + axes.transAxes.inverted()
    placed = sorted(((*to_axes.transform((x, y)), name, colour) for x, y, name, colour in ends), key=lambda end: end[1])
    heights = [y for _, y, _, _ in placed]
    for _ in range(200):  # two that are too close move apart, both alike
        for lower, upper in itertools.pairwise(range(len(heights))):
            push = max(0.0, gap - (heights[upper] - heights[lower])) / 2
            heights[lower], heights[upper] = heights[lower] - push, heights[upper] + push
    edge = max(x for x, _, _, _ in placed) + 0.02
    for (_, _, name, colour), height in zip(placed, heights, strict=True):
        axes.text(edge, height, name, transform=axes.transAxes, color=colour, fontsize=9, va="center")
