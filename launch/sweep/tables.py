"""A sweep's results as rows: every point for programs, groups over their seeds for people."""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from triptych.launch.report.numbers import NOTHING, fixed, percent
from triptych.launch.sweep.results import SETTLED_FRACTION, Group, Result, compared

DIGITS = 4


def points_csv(results: Sequence[Result]) -> str:
    """A row per point: name, variant, the grids' values by path, tokens, final loss, state, reason of a failure."""
    paths = list(dict.fromkeys(path for result in results for path in result.point.values))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["point", "variant", *paths, "tokens", "final_loss", "state", "reason"])
    for result in results:
        point = result.point
        values = [_cell(point.values[path]) if path in point.values else "" for path in paths]
        final = "" if math.isnan(result.final) else repr(result.final)
        rows.writerow([point.name, point.variant, *values, result.tokens, final, result.state, result.reason])
    return text.getvalue()


def groups_table(groups: Sequence[Group], results: Iterable[Result], reference: Group | None = None) -> str:
    """Markdown: a row per group, and a line per point that failed. The lowest mean is bold."""
    heads = ["group", "final loss", "standard deviation", "seeds"]
    failures = [result for result in results if result.state == "failed"]
    if failures:
        heads.append("failed")
    if reference is not None:
        heads += ["less the reference", "in standard deviations", "windows within its spread"]
    finals = [group.final for group in groups if math.isfinite(group.final)]
    rows = []
    for group in groups:
        final = fixed(group.final, DIGITS) if math.isfinite(group.final) else "diverged" if group.num_seeds else NOTHING
        row = [
            f"{group.name} (reference)" if reference is group else group.name,
            f"**{final}**" if finals and group.final == min(finals) else final,
            fixed(group.final_deviation, DIGITS),
            str(group.num_seeds),
        ]
        if failures:
            row.append(str(group.num_failed))
        if reference is not None:
            row += _beside(group, reference)
        rows.append(row)
    align = ["---", *("---:" for _ in heads[1:])]
    lines = [_line(heads), _line(align), *(_line(row) for row in rows)]
    if reference is not None:
        lines += ["", _about_reference(reference)]
    if failures:
        lines += ["", *(f"- {result.point.name} failed: {result.reason}" for result in failures)]
    return "\n".join(lines) + "\n"


def _beside(group: Group, reference: Group) -> list[str]:
    comparison = compared(group, reference)
    final, deviations = comparison.final, comparison.final_deviations
    return [
        f"{final:+.{DIGITS}f}" if math.isfinite(final) else NOTHING,
        f"{deviations:+.1f}" if math.isfinite(deviations) else NOTHING,
        percent(comparison.share_within, 0),
    ]


def _about_reference(reference: Group) -> str:
    return (
        f"The reference is {reference.name}, {reference.num_seeds} seeds. Differences are from the same seed there. "
        "Standard deviations are those of its seeds at a window of tokens, after the first "
        f"{SETTLED_FRACTION:.0%}; within its spread: the share of windows in which a group's mean is off by two of "
        "them at most."
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
