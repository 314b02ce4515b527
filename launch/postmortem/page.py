"""The page: the verdict, then what it rests on."""

from datetime import UTC, datetime
from typing import Any

import jinja2
from markupsafe import Markup

from triptych.launch.postmortem.collectives import Collective
from triptych.launch.postmortem.evidence import Evidence, Rank
from triptych.launch.postmortem.template import CSS, PAGE
from triptych.launch.postmortem.verdict import Verdict, timeline
from triptych.launch.report.page.style import CSS as REPORT_CSS

MOST_ROWS = 500
MOST_STACKS = 16
_WORDS = {"good": "Well", "odd": "Look here", "bad": "It went wrong"}


def render(evidence: Evidence, verdict: Verdict) -> str:
    """One self-contained HTML page. Everything foreign is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({"page": PAGE}), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"count": lambda number: f"{number:,}", "when": _when, "bytes": _bytes}
    return environment.get_template("page").render(_context(evidence, verdict))


def _context(evidence: Evidence, verdict: Verdict) -> dict[str, Any]:
    ranks = list(evidence.ranks.values())
    shown = _first(ranks, verdict)
    run = evidence.settings.get("run")
    return {
        "css": Markup(REPORT_CSS + CSS),
        "title": evidence.folder.resolve().name,
        "folder": str(evidence.folder),
        "name": run.get("name", "") if isinstance(run, dict) else "",
        "commit": str(evidence.settings.get("commit", "unknown"))[:12],
        "command": evidence.settings.get("command", ""),
        "read": datetime.fromtimestamp(evidence.now, UTC).isoformat(timespec="seconds"),
        "verdict": verdict,
        "word": _WORDS[verdict.grade],
        "facts": _facts(verdict),
        "world_size": evidence.world_size,
        "ranks": shown[:MOST_ROWS],
        "num_hidden": max(0, len(ranks) - MOST_ROWS),
        "now": evidence.now,
        "latest": max([rank.beat.time for rank in ranks if rank.beat] or [evidence.now]),
        "timeline": [(event, _who(by), _what(event)) for event, by in timeline(evidence)[-MOST_ROWS:]],
        "checkpoints": evidence.checkpoints[::-1],
        "hints": evidence.hints,
        "stacks": [rank for rank in shown if rank.stacks][:MOST_STACKS],
        "collectives": {
            rank: _last_begun(entries) for rank, entries in sorted(evidence.collectives.items())[:MOST_ROWS]
        },
    }


def _facts(verdict: Verdict) -> list[tuple[str, str]]:
    facts = [
        ("Rank", "" if verdict.rank is None else f"{verdict.rank}" + (f" on {verdict.host}" if verdict.host else "")),
        ("Step", "" if verdict.step is None else f"{verdict.step:,}"),
        ("Place", verdict.place),
        ("Collective", verdict.collective),
        ("Samples", verdict.sample),
        ("In its words", verdict.cause),
        ("Known", verdict.certainty),
        ("To do", verdict.mend),
    ]
    return [(name, value) for name, value in facts if value]


def _first(ranks: list[Rank], verdict: Verdict) -> list[Rank]:
    """The one that the verdict names, then the others."""
    return sorted(ranks, key=lambda rank: (rank.number != verdict.rank, rank.number))


def _last_begun(entries: list[Collective]) -> list[Collective]:
    """Of each group the last."""
    last = {each.group: each for each in sorted(entries, key=lambda each: each.sequence)}
    return [last[group] for group in sorted(last)]


def _who(by: list[Rank]) -> str:
    numbers = [str(rank.number) for rank in by]
    return ", ".join(numbers[:4]) + (f" and {len(numbers) - 4} more" if len(numbers) > 4 else "")


def _what(event: dict[str, Any]) -> str:
    if "cause" in event:
        return str(event["cause"])
    hidden = {"event", "time", "step", "rank", "samples"}
    return ", ".join(f"{name} {value}" for name, value in event.items() if name not in hidden)


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
