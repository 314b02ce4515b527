"""From a set of shards to one HTML page that needs no other file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from triptych.data_pipelines.shards.reader import ShardSet
from triptych.data_pipelines.statistics.sets import SetStatistics, set_statistics
from triptych.data_pipelines.tokenizers.protocol import Tokenizer
from triptych.data_pipelines.vocabulary import MODALITIES, Modality
from triptych.launch.inspection.checks import VERDICTS, Check, all_checks, verdict
from triptych.launch.inspection.config import InspectionConfig
from triptych.launch.inspection.contents import Shown, shown_samples
from triptych.launch.inspection.figures import code_chart, length_chart, rank_chart, size_chart
from triptych.launch.inspection.media import MediaBudget
from triptych.launch.inspection.plain import binary, counted, plain, prose
from triptych.launch.inspection.survey import UNITS, Survey, survey
from triptych.launch.inspection.template import CSS, PAGE, SIDE
from triptych.launch.report.numbers import short
from triptych.launch.report.page.curves import Chart
from triptych.launch.report.page.style import CSS as REPORT_CSS

_LETTERS: Mapping[Modality, str] = {"text": "t", "image": "i", "audio": "a"}
_MARKS = {"good": "✓", "note": "·", "odd": "!", "bad": "✗"}
_MOST_PROVENANCE = 20_000  # characters


@dataclass(kw_only=True, slots=True, frozen=True)
class Inspected:
    """A set as it was looked at. tokenizers: those that made its codes. foreign: fingerprints of others given."""

    statistics: SetStatistics
    found: Survey
    samples: list[Shown]
    tokenizers: Mapping[Modality, Tokenizer]
    foreign: Mapping[Modality, str]
    provenance: Mapping[str, Any]
    checks: list[Check]


def inspect_set(shards: ShardSet, tokenizers: Mapping[Modality, Tokenizer], config: InspectionConfig) -> Inspected:
    """Look at a set. ValueError if its index is damaged; damaged samples are part of what is found."""
    statistics = set_statistics(shards)
    made_by = {modality: codes.tokenizer for modality, codes in statistics.codes.items()}
    own, foreign = {}, {}
    for modality, tokenizer in tokenizers.items():
        if record := made_by.get(modality):
            right = tokenizer.fingerprint == record.fingerprint
            (own if right else foreign)[modality] = tokenizer if right else tokenizer.fingerprint
    found = survey(shards, config)
    return Inspected(
        statistics=statistics,
        found=found,
        samples=shown_samples(shards, found, own, config),
        tokenizers=own,
        foreign=foreign,
        provenance=shards.manifest.provenance,
        checks=all_checks(statistics, found, own, foreign),
    )


def render(seen: Inspected, config: InspectionConfig) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({"page": PAGE, "side": SIDE}),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {"plain": plain, "visible": _visible}
    return environment.get_template("page").render(_context(seen, config))


def _context(seen: Inspected, config: InspectionConfig) -> dict[str, Any]:
    one, found = seen.statistics, seen.found
    level = verdict(seen.checks)
    charts = [chart for modality in MODALITIES for chart in _charts(one, found, modality)]
    sections = {"Lengths": charts, "Damaged": found.damaged, "Samples": seen.samples}
    names = [name for name, something in sections.items() if something]
    all_of_it = len(found.indices) == one.num_samples
    which = (
        "all samples" if all_of_it else f"{len(found.indices):,} of {one.num_samples:,} samples, spread over the set"
    )
    return {
        "css": Markup(REPORT_CSS + CSS),
        "title": " / ".join(PurePath(one.name).parts[-2:]),
        "name": plain(one.name, 400),
        "sections": [(name.lower(), name) for name in (*names, "Provenance")],
        "level": level,
        "verdict": VERDICTS[level],
        "read": f"{which} read, seed {config.seed}",
        "checks": seen.checks,
        "marks": _MARKS,
        "facts": _facts(one),
        "charts": charts,
        "charts_title": "Lengths and codes" if one.codes else "Lengths",
        "charts_note": _charts_note(one, found, which),
        "damaged": found.damaged,
        "samples": seen.samples,
        "samples_note": f"{len(seen.samples):,} of those that were read, spread over the set; none is picked by hand.",
        "text_only": all(side.modality == "text" for sample in seen.samples for side in sample.sides),
        "letters": _LETTERS,
        "budget": MediaBudget(config),
        "origin": _origin(seen),
        "members": _members(one),
        "provenance": prose(json.dumps(dict(seen.provenance), indent=1, ensure_ascii=False), _MOST_PROVENANCE),
    }


def _facts(one: SetStatistics) -> list[tuple[str, str]]:
    codes = [(short(codes.num_codes), f"{modality} codes") for modality, codes in one.codes.items()]
    return [
        (f"{one.num_samples:,}", "samples"),
        (f"{one.num_shards:,}", "shard" if one.num_shards == 1 else "shards"),
        (binary(one.num_bytes), "on disk"),
        *codes,
    ]


def _charts(one: SetStatistics, found: Survey, modality: Modality) -> Iterator[Chart]:
    """Lengths, then the use of codes."""
    name, letter = modality.capitalize(), _LETTERS[modality]
    if modality in one.codes and (summary := one.codes[modality].summary):
        svg = length_chart(one.codes[modality].lengths, colour=modality, title=f"{modality} codes", unit="codes")
        unit = f"median {summary.median:,}, 99 % up to {summary.p99:,}, longest {summary.maximum:,}"
        yield Chart(name=f"{name}, codes a sample", unit=unit, svg=svg, colour=letter)
    counts_V = found.counts_V.get(modality, np.zeros(0, np.int64))
    if total := int(counts_V.sum()):
        tokenizer = one.codes[modality].tokenizer if modality in one.codes else None
        size, used = max(tokenizer.vocab_size if tokenizer else 0, len(counts_V)), int((counts_V > 0).sum())
        svg = code_chart(counts_V, size, colour=modality, title=f"{modality} codes by number")
        unit = f"{used:,} of {size:,} occur" + (f", {size - used:,} never (red below)" if size > used else "")
        yield Chart(name=f"{name}, use of each code", unit=unit, svg=svg, colour=letter)
        svg = rank_chart(counts_V, colour=modality, title=f"{modality} codes by rank")
        unit = f"code {int(counts_V.argmax())} is the most frequent of {short(total)}"
        yield Chart(name=f"{name}, codes by rank", unit=unit, svg=svg, colour=letter)
    if sizes := found.sizes.get(modality):
        unit = UNITS[modality]
        svg = size_chart(sizes, colour=modality, title=f"{modality}: {unit}", unit=unit)
        ends = f"{short(min(sizes))} to {short(max(sizes))}"
        yield Chart(name=f"{name}, {unit} a sample", unit=ends, svg=svg, colour=letter)


def _charts_note(one: SetStatistics, found: Survey, which: str) -> str:
    lengths = "Codes a sample: of all samples, by the index. " if one.codes else ""
    return f"{lengths}{'All else' if one.codes else 'Lengths'}: of what was read ({which})."


def _origin(seen: Inspected) -> list[tuple[str, str]]:
    one = seen.statistics
    left_out = ", ".join(f"{number:,} {plain(reason, 60)}" for reason, number in one.damaged.items()) or "none"
    rows = [("samples", f"{one.num_samples:,} in {counted(one.num_shards, 'shard')}"), ("left out when made", left_out)]
    for modality, codes in one.codes.items():
        if record := codes.tokenizer:
            given = "given" if modality in seen.tokenizers else "not given"
            what = f"{plain(record.fingerprint, 64)}, {record.vocab_size:,} codes, {given}"
            rows.append((f"{modality} tokenizer", what))
    return rows


def _members(one: SetStatistics) -> Sequence[tuple[str, str, str]]:
    number = max(1, one.num_samples)
    return [(name, binary(size), binary(size / number)) for name, size in one.member_bytes.items()]


def _visible(text: str) -> str:
    return text.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥")
