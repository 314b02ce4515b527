"""A sweep as a table, a page and JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from markupsafe import Markup

from triptych.data_pipelines.shards.atomic import replace_file
from triptych.launch.profile.page.render import page
from triptych.launch.profile.sweep.folder import Outcome, ProfileFolder
from triptych.launch.profile.sweep.reasons import COLUMNS, reasons, table, told
from triptych.launch.report.page.charts import Series, line_chart

_COLOURS = ("text", "image", "audio", "plain")
_GIB = 2**30


def write_sweep(
    place: ProfileFolder,
    asked: Mapping[str, Any],
    facts: Mapping[str, str],
    outcomes: Sequence[Outcome],
    top: Outcome | None,
    options: Sequence[str],
) -> list[str]:
    """sweep.json, table.md and sweep.html; the reasons. facts: hardware and versions, for people. options: of the best
    point, as they are pasted.
    """
    lines = reasons(top, outcomes) if top is not None else ["No point came to its end."]
    paste = " ".join(f"--set {option}" for option in options) if top is not None else ""
    document = {
        "schema": "triptych profile sweep",
        "version": 1,
        "asked": dict(asked),
        "facts": dict(facts),
        "best": top.point.name if top is not None else None,
        "options": list(options),
        "reasons": lines,
        "points": [asdict(outcome) for outcome in outcomes],
    }
    replace_file(place.asked, (json.dumps(document, indent=2) + "\n").encode())
    replace_file(place.folder / "table.md", _markdown(asked, facts, outcomes, top, lines, paste).encode())
    replace_file(place.folder / "sweep.html", _page(asked, facts, outcomes, top, lines, paste).encode())
    return lines


def _markdown(
    asked: Mapping[str, Any],
    facts: Mapping[str, str],
    outcomes: Sequence[Outcome],
    top: Outcome | None,
    lines: Sequence[str],
    paste: str,
) -> str:
    head = [
        f"# {asked['run']}: settings against each other",
        "",
        *(f"* {name}: {text}" for name, text in facts.items()),
    ]
    rows = [f"| {' | '.join(COLUMNS)} |", f"| {' | '.join(['---'] * len(COLUMNS))} |"]
    for is_best, cells in table(outcomes, top):
        shown = [f"**{cell}**" if is_best and cell else cell.replace("|", "/") for cell in cells]
        rows.append(f"| {' | '.join(shown)} |")
    end = ["", *(f"* {line}" for line in lines), "", f"`{paste or 'as it is'}`", ""]
    return "\n".join([*head, "", *rows, *end])


def _page(
    asked: Mapping[str, Any],
    facts: Mapping[str, str],
    outcomes: Sequence[Outcome],
    top: Outcome | None,
    lines: Sequence[str],
    paste: str,
) -> str:
    several = lines_of_charts(outcomes)
    found = charts(several)
    done = [outcome for outcome in outcomes if outcome.state == "done"]
    return page(
        "sweep",
        {
            "title": f"{asked['run']}: settings against each other",
            "lead": ", ".join(f"{name} {text}" for name, text in facts.items()),
            "sections": ["Best", *(["Charts"] if found else []), "Points"],
            "facts": [
                (str(len(outcomes)), "points"),
                (str(len(done)), "to their end"),
                *([(f"{top.speed:,.0f}", "tokens/s at best")] if top is not None else []),
            ],
            "reasons": lines,
            "options": paste or "the run as it is",
            "charts": found,
            "lines": [(_COLOURS[number % len(_COLOURS)], name) for number, name in enumerate(several)],
            "columns": COLUMNS,
            "rows": [{"best": is_best, "cells": cells} for is_best, cells in table(outcomes, top)],
            "commit": facts.get("commit", "unknown"),
            "json_name": "sweep.json",
        },
    )


def lines_of_charts(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """By what they have in common, points of arms that were tried at several micro-batches, the smallest first."""
    arms: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.state == "done":
            name = told(outcome.point).replace(f", micro-batch {outcome.point.micro_batch}", "")
            arms.setdefault(name, []).append(outcome)
    return {name: sorted(found, key=_micro_batch) for name, found in arms.items() if len(found) > 1}


def charts(several: Mapping[str, Sequence[Outcome]]) -> list[Markup]:
    """Tokens per second and memory against the micro-batch."""
    if not several:
        return []
    return [
        _chart(several, "tokens/s", lambda outcome: outcome.speed),
        _chart(several, "GiB at most", lambda outcome: (outcome.peak_bytes or 0) / _GIB),
    ]


def _chart(several: Mapping[str, Sequence[Outcome]], title: str, value: Any) -> Markup:
    series = [
        Series(
            xs=np.array([_micro_batch(outcome) for outcome in found]),
            ys=np.array([value(outcome) for outcome in found]),
            colour=_COLOURS[number % len(_COLOURS)],
            style="line dots",
            label=name,
        )
        for number, (name, found) in enumerate(several.items())
    ]
    return line_chart(series, title=title, x_label=f"micro-batch: {title}", from_zero=True)


def _micro_batch(outcome: Outcome) -> int:
    return outcome.point.micro_batch
