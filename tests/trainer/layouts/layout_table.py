"""The matrix as a page of Markdown."""

import os
import platform
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from layout_comparison import FP32_BOUNDS
from layout_grid import Grid
from layout_run import BATCH, NUM_STEPS, Cell

from triptych.kernels.provenance import processor

QUANTITIES = ("loss", "gradient norm", "metrics", "accuracy", "weights", "exp_avg", "exp_avg_sq")
EXACT = ("tokens", "ranks", "copies")


@dataclass(kw_only=True, slots=True, frozen=True)
class Row:
    """One run against its reference. found: differences. broken: those over their bound, with it. failure: the last
    line of what a rank said that died. stable: bit-equal to the same cell's first run.
    """

    cell: Cell
    found: dict[str, float] = field(default_factory=dict)
    broken: dict[str, tuple[float, float]] = field(default_factory=dict)
    failure: str | None = None
    stable: bool | None = None
    noticed: str | None = None
    seconds: float = 0.0

    @property
    def is_red(self):
        return bool(self.broken) or self.failure is not None or self.stable is False

    def __str__(self):
        state = self.failure or ("differs from its first run" if self.stable is False else "")
        state = state or " ".join(f"{name} {value:.1e} > {bound:.1e}" for name, (value, bound) in self.broken.items())
        return f"{'RED ' if self.is_red else 'equal'} {self.seconds:5.1f} s  {self.cell}  {state}".rstrip()


@dataclass(kw_only=True, slots=True, frozen=True)
class Matrix:
    """All that was run. planted: (name of the mistake, row), which must be red. seconds: all together."""

    grid: Grid
    rows: list[Row]
    planted: list[tuple[str, Row]]
    bf16_bounds: dict[Cell, dict[str, float]]
    seconds: float

    @property
    def unseen(self):
        return [name for name, row in self.planted if not row.is_red]

    @property
    def is_red(self):
        return bool(self.unseen) or any(row.is_red for row in self.rows)

    @property
    def verdict(self):
        red = sum(row.is_red for row in self.rows)
        cells = len({row.cell for row in self.rows})
        repeats = [row.stable for row in self.rows if row.stable is not None]
        return (
            f"{cells} of {len(self.grid.cells)} legal cells run, {red} runs red; {sum(repeats)} of {len(repeats)} "
            f"repeated runs bit-equal to their first; {len(self.planted) - len(self.unseen)} of {len(self.planted)} "
            f"planted mistakes seen; {self.seconds / 60:.1f} minutes"
        )


def write_table(path, matrix):
    """The header, a summary by layout, the planted mistakes, every cell, and what is refused."""
    parts = [header(matrix), summary(matrix.rows), planted(matrix.planted), bf16_bounds(matrix.bf16_bounds)]
    parts += [refused(matrix.grid), every_cell(matrix.rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(parts) + "\n")


def header(matrix):
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "deepspeed", "megatron-core"))
    fp32 = ", ".join(f"{name} {bound:g}" for name, bound in FP32_BOUNDS.items() if bound)
    return "\n".join(
        [
            "# Layouts against one process",
            "",
            f"**{matrix.verdict}.** Written by `make test-matrix`.",
            "",
            f"- {processor()}, {os.cpu_count()} cores, gloo; Python {platform.python_version()}, {versions}; commit "
            f"{_commit()}; {datetime.now(UTC):%Y-%m-%d}.",
            f"- Each cell trains {NUM_STEPS} steps of {BATCH} sequences, some of them clipped, with dropout, and is "
            "compared at every step with one process (micro-batch 4, ZeRO 1, nothing recomputed) of the same model and "
            "precision.",
            "- `loss`, `gradient norm`: relative. `metrics`, `accuracy`: of max(1, value). `weights`: absolute, after "
            "the last step. Moments: of the largest element of their tensor. The number of tokens, what different "
            f"ranks report, and copies of one element on several ranks are equal to the bit ({', '.join(EXACT)}).",
            f"- fp32 bounds: {fp32}. bf16 bounds are measured, below.",
            f"- {len(matrix.grid.cells)} legal combinations are run and {matrix.grid.thinned} left out, to fit into "
            "half an hour: all but one micro-batch of recomputation in bf16; micro-batch 2 where tensor ranks hold the "
            "whole batch; and with tensor parallelism on four processes in fp32 two of three, by a Latin square over "
            f"ZeRO, stage layers, recomputation and micro-batch. {matrix.grid.repeated} more, whose micro-batch is "
            "larger than a rank's rows, are the run whose micro-batch is those rows. Complement pairs are run once per "
            "layout.",
        ]
    )


def summary(rows):
    """By layout and precision: how many cells, how many red, and the worst of each quantity."""
    groups = {}
    for row in rows:
        layout = row.cell.layout
        name = (row.cell.num_processes, layout.tensor, layout.pipeline, layout.virtual, layout.sequence, row.cell.data)
        groups.setdefault((*name, row.cell.precision), []).append(row)
    lines = [
        ("processes", "tp", "pp", "vpp", "sp", "dp", "precision", "cells", "red", *QUANTITIES, "seconds"),
        *(
            (
                *(_text(value) for value in key),
                str(len({row.cell for row in members})),
                str(sum(row.is_red for row in members)),
                *(_number(max((row.found.get(name, 0.0) for row in members), default=0.0)) for name in QUANTITIES),
                f"{sum(row.seconds for row in members):.0f}",
            )
            for key, members in sorted(groups.items(), key=lambda item: (item[0][-1] != "fp32", item[0]))
        ),
    ]
    return "## The largest difference of each layout\n\n" + _table(lines)


def planted(runs):
    lines = [("mistake", "cell", "seen in (times its bound)", "the ranks themselves notice")]
    for name, row in runs:
        seen = sorted(row.broken.items(), key=lambda item: -_excess(*item[1]))
        where = ", ".join(f"{what}{_times(*pair)}" for what, pair in seen)
        lines.append((name, str(row.cell), where or "**nothing**", "yes" if row.noticed else ""))
    return "## Planted mistakes\n\nEach is planted into the real code and must turn its cell red.\n\n" + _table(lines)


def bf16_bounds(bounds):
    lines = [("reference", *QUANTITIES)]
    lines += [(str(cell), *(_number(found[name]) for name in QUANTITIES)) for cell, found in bounds.items()]
    return (
        "## bf16 bounds\n\nThree times the difference of two bf16 runs of one process that differ in rounding alone: "
        "the reference, and one with another micro-batch and every product with a matrix made in two halves, each "
        "rounded, as two tensor-parallel ranks make it; the larger one, of micro-batches 2 and 16. In fp32 those runs "
        "are within the fp32 bounds (tested). "
        "Accuracy is free: logits of 8 bits tie.\n\n" + _table(lines)
    )


def refused(grid):
    lines = [("combinations", "refused by the validator because (N: a number)")]
    lines += [(str(number), reason) for reason, number in Counter(grid.refused).most_common()]
    return "## What is not run\n\n" + _table(lines)


def every_cell(rows):
    lines = [("cell", *QUANTITIES, "seconds", "")]
    for row in rows:
        values = [_number(row.found[name]) if row.found else "" for name in QUANTITIES]
        state = "again, bit-equal" if row.stable else ""
        lines.append((str(row.cell), *values, f"{row.seconds:.1f}", f"**{row}**" if row.is_red else state))
    return "## Every run\n\n" + _table(lines)


def _table(lines):
    head, *rest = lines
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ("---",) * len(head), *rest))


def _text(value):
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _number(value):
    return "0" if value == 0 else f"{value:.1e}"


def _excess(value, bound):
    return value / bound if bound else float("inf")


def _times(value, bound):
    excess = _excess(value, bound)
    return "" if excess == float("inf") else f" {excess:.0f}x"


def _commit():
    def git(*arguments):
        here = Path(__file__).parent
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    changed = [line for line in git("status", "--porcelain", "--untracked-files=no", ":/").splitlines() if line]
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
