"""A document as a picture: throughput over sequence length, one panel per head dimension, mask and direction."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triptych.kernels.flash_sigmoid.bench.cases import DIRECTIONS
from triptych.kernels.flash_sigmoid.bench.summary import ceiling, timings


def plot(found: Mapping[str, Any], path: Path) -> None:
    """Needs matplotlib (ModuleNotFoundError). Ours are drawn in full, peers dashed, the matrix product dotted."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    measured = [timing for timing in timings(found) if timing.tflops is not None]
    head_dims = sorted({timing.shape.head_dim for timing in measured})
    columns = [(head_dim, causal) for head_dim in head_dims for causal in (False, True)]
    if not columns:
        raise ValueError("the results hold no time; there is nothing to draw")
    names = [*found["ours"], *found["peers"]]
    figure = Figure(figsize=(3.2 * len(columns), 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(columns), squeeze=False, sharex=True, sharey="row")
    for row, direction in enumerate(DIRECTIONS):
        for column, (head_dim, causal) in enumerate(columns):
            panel = panels[row][column]
            for number, name in enumerate(names):
                points = sorted(
                    (timing.shape.length, timing.tflops)
                    for timing in measured
                    if (timing.contender, timing.direction) == (name, direction)
                    and (timing.shape.head_dim, timing.shape.causal) == (head_dim, causal)
                )
                style = "o-" if name in found["ours"] else "s--"
                if points:
                    panel.plot(*zip(*points, strict=True), style, color=f"C{number}", markersize=4, label=name)
            if (top := ceiling(found)) is not None:
                panel.axhline(top, linestyle=":", color="grey", label="matrix product")
            panel.set_xscale("log", base=2)
            panel.set_ylim(bottom=0)
            panel.set_title(f"{direction}, head {head_dim}, {'causal' if causal else 'full'}", fontsize=9)
        panels[row][0].set_ylabel("TFLOP/s")
    for panel in panels[-1]:
        panel.set_xlabel("positions")
    panels[0][0].legend(fontsize=7)
    figure.suptitle(
        f"{found['hardware']['device']}, {found['measured'][:10]}, commit {found['commit'][:12]}", fontsize=9
    )
    figure.savefig(path, dpi=110)
