"""Whether the data look sound: what was found, said in sentences and judged."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from triptych.data_pipelines.statistics.sets import SetStatistics
from triptych.data_pipelines.tokenizers.protocol import Tokenizer
from triptych.data_pipelines.vocabulary import Modality
from triptych.launch.inspection.plain import counted, plain
from triptych.launch.inspection.survey import Survey
from triptych.launch.report.numbers import percent, short

Level = Literal["good", "note", "odd", "bad"]
LEVELS: tuple[Level, ...] = ("good", "note", "odd", "bad")
VERDICTS: Mapping[Level, str] = {"good": "Sound", "odd": "Look at this first", "bad": "Not sound"}
# Our choices: beyond these a set is worth a look before it is trained on.
_MOST_LEFT_OUT = 0.01
_MOST_ALIKE = 0.01
_MOST_EVEN = 0.01
_MOST_OF_ONE_CODE = 0.5
_LEAST_USED = 0.05  # of the vocabulary, in effect: exp of the entropy of the codes
_CODES_TO_JUDGE = 20  # codes read per code of the vocabulary before its use is judged


@dataclass(kw_only=True, slots=True, frozen=True)
class Check:
    """title: what is the case, in a few words. detail: numbers behind it."""

    level: Level
    title: str
    detail: str = ""


def verdict(checks: list[Check]) -> Level:
    """The worst of them; "good" if there are but notes."""
    found = {check.level for check in checks}
    return "bad" if "bad" in found else "odd" if "odd" in found else "good"


def all_checks(
    statistics: SetStatistics, found: Survey, given: Mapping[Modality, Tokenizer], foreign: Mapping[Modality, str]
) -> list[Check]:
    """Worst first. given: tokenizers that made codes of the set. foreign: fingerprints of those that did not, though
    they were given.
    """
    checks = [
        _reads(found),
        *_lacking(statistics, found),
        *_tokenizers(statistics, given, foreign),
        *_use(statistics, found),
        *_likeness(found),
        _left_out(statistics),
    ]
    return sorted(checks, key=lambda check: -LEVELS.index(check.level))


def _reads(found: Survey) -> Check:
    number = len(found.indices)
    if not number:
        return Check(level="odd", title="The set is empty")
    if not found.num_damaged:
        return Check(level="good", title="Every sample that was read is whole", detail=f"{number:,} of {number:,}")
    reasons = ", ".join(f"{count:,} {plain(reason, 40)}" for reason, count in found.reasons.most_common(6))
    title = f"{found.num_damaged:,} of {counted(number, 'sample')} read are damaged"
    return Check(level="bad", title=title, detail=reasons)


def _lacking(statistics: SetStatistics, found: Survey) -> Iterator[Check]:
    number = len(found.indices) - found.num_damaged
    for modality, sizes in found.sizes.items():
        if len(sizes) < number and modality not in statistics.codes:
            title = f"{number - len(sizes):,} of {counted(number, 'sample')} read have no {modality}"
            yield Check(level="odd", title=title, detail="a source of pairs needs both sides")
    for modality, codes in statistics.codes.items():
        if codes.num_without:
            title = f"{codes.num_without:,} of {counted(statistics.num_samples, 'sample')} have no {modality} codes"
            yield Check(level="odd", title=title, detail="a source of pairs needs both sides")


def _tokenizers(
    statistics: SetStatistics, given: Mapping[Modality, Tokenizer], foreign: Mapping[Modality, str]
) -> Iterator[Check]:
    for modality, codes in statistics.codes.items():
        made_by = plain(codes.tokenizer.fingerprint[:12], 12) if codes.tokenizer else "no one knows which"
        if modality in given:
            title = f"The {modality} codes are of the tokenizer that was given"
            yield Check(level="good", title=title, detail=made_by)
        elif modality in foreign:
            title = f"The {modality} codes are of another tokenizer than the one given"
            detail = f"made by {made_by}, given {foreign[modality][:12]}; shown as numbers"
            yield Check(level="bad", title=title, detail=detail)
        else:
            title = f"No {modality} tokenizer was given: its codes are shown as numbers"
            yield Check(level="note", title=title, detail=f"made by {made_by}")


def _use(statistics: SetStatistics, found: Survey) -> Iterator[Check]:
    for modality, counts_V in found.counts_V.items():
        tokenizer = statistics.codes[modality].tokenizer if modality in statistics.codes else None
        total = int(counts_V.sum())
        if not total:
            continue
        size = tokenizer.vocab_size if tokenizer else len(counts_V)
        if len(np.flatnonzero(counts_V)) and np.flatnonzero(counts_V)[-1] >= size:
            title = f"{modality.capitalize()} codes lie outside of their vocabulary"
            yield Check(level="bad", title=title, detail=f"up to {len(counts_V) - 1:,}, the vocabulary has {size:,}")
            continue
        shares = counts_V[counts_V > 0] / total
        effective = float(np.exp(-(shares * np.log(shares)).sum()))
        title = f"{len(shares):,} of {size:,} {modality} codes occur"
        detail = f"among {short(total)} that were read, as even as {effective:,.0f} codes would be"
        if shares.max() > _MOST_OF_ONE_CODE and size > 1:
            most = f"code {int(counts_V.argmax())} is {percent(float(shares.max()), 0)} of them"
            yield Check(level="odd", title=f"One {modality} code is most of them", detail=f"{most}; {title} {detail}")
        elif total < _CODES_TO_JUDGE * size:
            yield Check(level="note", title=title, detail=f"{detail}: too few to judge by")
        else:
            yield Check(level="odd" if effective < _LEAST_USED * size else "good", title=title, detail=detail)


def _likeness(found: Survey) -> Iterator[Check]:
    number = len(found.indices) - found.num_damaged
    if not number:
        return
    if found.alike:
        level: Level = "odd" if found.alike > _MOST_ALIKE * number else "note"
        title = f"{found.alike:,} of {number:,} samples read repeat an earlier one"
        yield Check(level=level, title=title, detail="labels not compared")
    else:
        yield Check(level="good", title="No two of the samples read are alike", detail=f"{number:,} compared")
    for modality, even in found.even.items():
        if even:
            level = "odd" if even > _MOST_EVEN * number else "note"
            what = {"text": "one code over and over", "image": "of one colour", "audio": "silence or one tone"}
            title = f"{modality.capitalize()} of {even:,} of {number:,} samples is one value throughout"
            yield Check(level=level, title=title, detail=f"such as {what[modality]}")


def _left_out(statistics: SetStatistics) -> Check:
    number = sum(statistics.damaged.values())
    if not number:
        return Check(level="good", title="Nothing was left out when the set was made")
    share = number / (number + statistics.num_samples)
    reasons = ", ".join(f"{count:,} {plain(reason, 40)}" for reason, count in list(statistics.damaged.items())[:8])
    level: Level = "odd" if share > _MOST_LEFT_OUT else "note"
    return Check(level=level, title=f"Left out when the set was made: {counted(number, 'sample')}", detail=reasons)
