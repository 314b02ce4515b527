"""Scores as cards, bars and rows of a table."""

from dataclasses import dataclass, fields

from triptych.launch.report.data import Mark, ReportData
from triptych.launch.report.numbers import NOTHING, duration, fixed, percent, short
from triptych.trainer.evaluation.proportions import Proportion
from triptych.trainer.evaluation.scores import Scores

TASKS = {
    "t2i": ("i", "generated digits that the judge reads as asked"),
    "t2s": ("a", "generated words that the judge hears as asked"),
    "i2t": ("t", "held-out images whose caption names the digit"),
    "s2t": ("t", "held-out recordings whose transcript names the digit"),
}

MEANINGS = {
    "t2i_accuracy": "text → image: the judge reads the digit asked for",
    "t2s_accuracy": "text → speech: the judge hears the digit asked for",
    "i2t_accuracy": "image → text: the caption names the digit shown",
    "s2t_accuracy": "speech → text: the transcript names the digit said",
    "judge_image_accuracy": "the image judge itself, on real held-out images",
    "judge_speech_accuracy": "the speech judge itself, on real held-out recordings",
    "i2t_character_error": "image → text: edits per reference character",
    "s2t_character_error": "speech → text: edits per reference character",
    "text_nelbo_bits_per_byte": "held-out text, upper bound, bits per byte",
    "text_unigram_bits_per_byte": "held-out text, unigram of the same tokens, bits per byte",
    "text_gzip_bits_per_byte": "held-out text, gzip -9, bits per byte",
    "text_gzip_primed_bits_per_byte": "held-out text, deflate primed with training text, bits per byte",
    "tokens_per_second": "training speed, tokens per second",
    "seconds": "wall clock of the whole run",
    "tokens": "tokens trained on, padding not counted",
    "num_parameters": "parameters of the model",
}

BARS = (
    ("this model", "text_nelbo_bits_per_byte"),
    ("token unigram", "text_unigram_bits_per_byte"),
    ("gzip -9", "text_gzip_bits_per_byte"),
    ("gzip, primed", "text_gzip_primed_bits_per_byte"),
)


@dataclass(kw_only=True, slots=True, frozen=True)
class Card:
    """A headline accuracy."""

    task: str
    colour: str
    what: str
    proportion: Proportion
    low: float
    high: float
    target: float | None
    chance: float | None


@dataclass(kw_only=True, slots=True, frozen=True)
class Bar:
    """A number beside its rivals; `share` of the largest, 0..1."""

    name: str
    value: float
    share: float
    own: bool


@dataclass(kw_only=True, slots=True, frozen=True)
class Row:
    """A line of the table of all numbers, ready to print."""

    name: str
    what: str
    value: str
    interval: str = ""
    trials: str = ""
    target: str = ""
    chance: str = ""


def cards(data: ReportData) -> list[Card]:
    """One per task that was measured."""
    found = []
    for task, (colour, what) in TASKS.items():
        proportion = getattr(data.scores, f"{task}_accuracy")
        if proportion is not None:
            low, high = proportion.interval
            mark = data.marks.get(f"{task}_accuracy", Mark())
            limits = {"low": low, "high": high, "target": mark.target, "chance": mark.chance}
            found.append(Card(task=task, colour=colour, what=what, proportion=proportion, **limits))
    return found


def bars(scores: Scores) -> list[Bar]:
    """Bits per byte of the model and of what it is held against; none without the model's own."""
    values = [(name, getattr(scores, key), key == BARS[0][1]) for name, key in BARS]
    measured = [(name, value, own) for name, value, own in values if fixed(value) != NOTHING]
    if not any(own for _, _, own in measured):
        return []
    largest = max(value for _, value, _ in measured) or 1.0
    return [Bar(name=name, value=value, share=value / largest, own=own) for name, value, own in measured]


def table(data: ReportData) -> list[Row]:
    """Every score that was measured."""
    rows = []
    for entry in fields(data.scores):
        value = getattr(data.scores, entry.name)
        if entry.name in MEANINGS and value is not None:
            rows.append(_row(entry.name, value, data.marks.get(entry.name, Mark())))
    bounds = data.scores.perplexity_bound
    for modality, nats in data.scores.nelbo_nats_per_token.items():
        what = f"{modality}: upper bound on the loss, nats per token"
        rows.append(Row(name=f"nelbo_nats_per_token.{modality}", what=what, value=fixed(nats, 3)))
        what = f"{modality}: upper bound on the perplexity per token"
        rows.append(Row(name=f"perplexity_bound.{modality}", what=what, value=fixed(bounds[modality], 1)))
    return rows


def _row(name: str, value: Proportion | float, mark: Mark) -> Row:
    if isinstance(value, Proportion):
        low, high = value.interval
        return Row(
            name=name,
            what=MEANINGS[name],
            value=percent(value.value),
            interval=f"{percent(low)} – {percent(high)}",
            trials=str(value.trials),
            target=percent(mark.target, 0) if mark.target is not None else "",
            chance=percent(mark.chance, 0) if mark.chance is not None else "",
        )
    if name.endswith("character_error"):
        return Row(name=name, what=MEANINGS[name], value=percent(value))
    if name == "seconds":
        return Row(name=name, what=MEANINGS[name], value=duration(value))
    text = short(value) if name in ("tokens_per_second", "tokens", "num_parameters") else fixed(value, 3)
    target = fixed(mark.target) if mark.target is not None else ""
    return Row(name=name, what=MEANINGS[name], value=text, target=target)
