"""From report data to one HTML page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from triptych.data_pipelines.corpus.words import DIGIT_WORDS
from triptych.launch.report.data import DigitRow, JudgedImage, ReportData, SpokenCaption
from triptych.launch.report.media import clip_uri, image_uri, spectrogram_uri
from triptych.launch.report.numbers import duration, fixed, percent, short
from triptych.launch.report.page.curves import TRAINING_NOTE, training_charts
from triptych.launch.report.page.notes import standing_notes
from triptych.launch.report.page.samples import SAMPLES, TRAINING
from triptych.launch.report.page.style import CSS
from triptych.launch.report.page.table import bars, cards, table
from triptych.launch.report.page.template import HEAD, MACROS, NUMBERS, PAGE, RUN


@dataclass(kw_only=True, slots=True, frozen=True)
class Sample:
    """One digit in all three modalities, for the head of the page."""

    row: DigitRow
    judged: JudgedImage
    spoken: SpokenCaption
    note: str


def render(data: ReportData) -> str:
    """The whole page; text from the data is escaped everywhere."""
    names = ("macros", "head", "numbers", "samples", "training", "run", "page")
    sources = (MACROS, HEAD, NUMBERS, SAMPLES, TRAINING, RUN, PAGE)
    prefix = '{% from "macros" import pixels, verdict, cells, sound, names %}'
    parts = {
        name: source if name in ("macros", "page") else prefix + source
        for name, source in zip(names, sources, strict=True)
    }
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(parts), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "png": image_uri,
        "wav": clip_uri,
        "spectrogram": spectrogram_uri,
        "percent": percent,
        "fixed": fixed,
        "digit_word": digit_word,
    }
    return environment.get_template("page").render(_context(data))


def digit_word(digit: int | None) -> str:
    """The word for a verdict."""
    return DIGIT_WORDS[digit] if digit is not None and 0 <= digit <= 9 else "no digit"


def _context(data: ReportData) -> dict[str, Any]:
    charts = training_charts(data.training)
    clips = [clip for item in data.speech for clip in (item.generated, item.real) if clip is not None]
    clips += [item.clip for item in data.transcripts]
    content: dict[str, Any] = {
        "data": data,
        "css": Markup(CSS),
        "cards": cards(data),
        "bars": bars(data.scores),
        "table": table(data),
        "charts": charts,
        "charts_note": TRAINING_NOTE,
        "facts": _facts(data),
        "run_facts": _run_facts(data),
        "sample": headline_sample(data),
        "notes": [*standing_notes(data.scores), *data.notes],
        "longest_clip": max((clip.seconds for clip in clips), default=1.0) or 1.0,
        "longest_stage": max(data.run.stages.values(), default=1.0) or 1.0,
    }
    return content | {"sections": _sections(data, content)}


def _sections(data: ReportData, content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Anchor and title of every section that has something to show."""
    shown = {
        "Numbers": content["cards"] or content["bars"],
        "Images": data.digits,
        "Speech": data.speech,
        "Reading": data.readings or data.transcripts,
        "Unmasking": data.unmaskings,
        "Text": data.texts,
        "Infilling": data.image_infillings or data.text_infillings,
        "Training": content["charts"],
        "Table": content["table"],
        "Run": content["run_facts"] or data.run.settings_yaml,
        "Notes": content["notes"],
    }
    return [(title.lower(), title) for title, something in shown.items() if something]


def headline_sample(data: ReportData) -> Sample | None:
    """The first digit that both judges accept; failing that, the first image and the first speech of one digit."""
    spoken = {}
    for item in reversed(data.speech):
        if item.digit not in spoken or item.verdict == item.digit or spoken[item.digit].verdict != item.digit:
            spoken[item.digit] = item
    pairs = [(row, judged, spoken[row.digit]) for row in data.digits if row.digit in spoken for judged in row.generated]
    if not pairs:
        return None
    right = [pair for pair in pairs if pair[1].verdict == pair[0].digit and pair[2].verdict == pair[2].digit]
    note = "One that both judges accept; below are all of them, right and wrong." if right else "The first samples."
    row, judged, item = (right or pairs)[0]
    return Sample(row=row, judged=judged, spoken=item, note=note)


def _facts(data: ReportData) -> list[tuple[str, str]]:
    scores = data.scores
    every = [
        (short(scores.num_parameters), "parameters", scores.num_parameters),
        (short(scores.tokens), "tokens seen", scores.tokens),
        (duration(scores.seconds), "in all", scores.seconds),
        (short(scores.tokens_per_second), "tokens/s", scores.tokens_per_second),
    ]
    facts = [(text, what) for text, what, value in every if value is not None]
    return facts + ([("on", data.run.hardware)] if data.run.hardware else [])


def _run_facts(data: ReportData) -> list[tuple[str, str]]:
    run, scores = data.run, data.scores
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    every = [
        ("run", run.name),
        ("command", run.command),
        ("hardware", run.hardware),
        ("seed", "" if run.seed is None else str(run.seed)),
        ("commit", scores.commit or ""),
        ("wall clock", "" if scores.seconds is None else duration(scores.seconds)),
        ("versions", versions),
    ]
    return [(name, value) for name, value in every if value]
