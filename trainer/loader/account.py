"""Where every planned sample went: planned = seen + lost, by id, from the plan and what the logs say."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from triptych.data_pipelines.stream.cursor import places_of
from triptych.data_pipelines.stream.windows import ROW_BITS, SourceOrder
from triptych.trainer.loader.losses import LOST
from triptych.trainer.metrics import StepRecord


class LostId(NamedTuple):
    """A document that could not be read. offset: where in its sample a piece begins; 0 of a whole one."""

    source: str
    epoch: int
    sample: int
    offset: int


@dataclass(kw_only=True, slots=True, frozen=True)
class EpochAccount:
    """An epoch of a source, as far as the run has come: documents that were planned, trained on and lost. reasons: of
    the lost ones, as their events say.
    """

    source: str
    epoch: int
    planned: int
    seen: int
    lost: Mapping[LostId, str]
    is_complete: bool


def account(
    orders: Mapping[str, SourceOrder], cursor: Mapping[str, int], tokens: int, logs: Sequence[Path]
) -> list[EpochAccount]:
    """Account for every document that was planned up to a cursor. orders: of the run's sources. tokens: of the run at
    the cursor. logs: of all ranks, rank 0's first.

    ValueError, naming what is missing, if a document was lost that was not planned, if the steps of the log have not
    gone through exactly what was planned, or if they have lost other documents than those reported.
    """
    lost, samples = _logged(logs, tokens)
    accounts = []
    for name, place in places_of(cursor, orders).items():
        reasons = {key: reason for key, reason in lost.items() if key.source == name}
        accounts += _epochs(name, orders[name], place.place, reasons)
    planned = sum(entry.planned for entry in accounts)
    strays = set(lost) - {key for entry in accounts for key in entry.lost}
    if strays:
        raise ValueError(f"{min(strays)} was lost but never planned; give the sources and logs of one run")
    if planned != samples:
        raise ValueError(
            f"{planned:,} documents were planned, the steps of {logs[0]} took {samples:,}; give the log of the whole "
            "run and the cursor at its end"
        )
    return accounts


def _epochs(name: str, order: SourceOrder, place: int, reasons: Mapping[LostId, str]) -> Iterator[EpochAccount]:
    """A source's epochs up to a place. One window is held at a time."""
    last, rows = place >> ROW_BITS, place & ((1 << ROW_BITS) - 1)
    last_epoch, within = divmod(last, order.windows_per_epoch)
    for epoch in range(last_epoch + bool(within or rows)):
        planned, lost = 0, {}
        wanted = {(key.sample, key.offset): key for key in reasons if key.epoch == epoch}
        wanted_samples = np.array(sorted({sample for sample, _ in wanted}), np.int64)
        for number in range(epoch * order.windows_per_epoch, (epoch + 1) * order.windows_per_epoch):
            if number > last or (number == last and not rows):
                break
            window = order.window(number)
            count = int(window.ends_R[rows - 1]) if number == last else len(window.samples_P)
            planned += count
            for at in np.flatnonzero(np.isin(window.samples_P[:count], wanted_samples)):
                key = wanted.get((int(window.samples_P[at]), int(window.firsts_P[at])))
                if key is not None:
                    lost[key] = reasons[key]
        yield EpochAccount(
            source=name,
            epoch=epoch,
            planned=planned,
            seen=planned - len(lost),
            lost=lost,
            is_complete=epoch < last_epoch,
        )


def _logged(logs: Sequence[Path], tokens: int) -> tuple[dict[LostId, str], int]:
    """Lost documents with their reasons, and samples of all steps."""
    steps = {place: entry for place, entry in _steps(logs[0]).items() if place <= tokens}
    found: dict[int, dict[LostId, str]] = defaultdict(dict)
    for log in logs:
        for place, (record, lost) in _steps(log).items():
            # A rank that is no more may have left steps that were gone through again; what they lost may then have been
            # read. The same loss is of the same samples.
            if place in steps and _same(record, steps[place][0]):
                found[place] |= lost
    for place, (record, _) in steps.items():
        if len(found[place]) != record.lost_samples:
            raise ValueError(
                f"step {record.step} lost {record.lost_samples} documents, of which {len(found[place])} are reported; "
                "give the logs of all ranks"
            )
    return {key: reason for lost in found.values() for key, reason in lost.items()}, sum(
        record.samples for record, _ in steps.values()
    )


def _same(first: StepRecord, second: StepRecord) -> bool:
    return (first.lost_samples, first.metrics.get("loss")) == (second.lost_samples, second.metrics.get("loss"))


def _steps(log: Path) -> dict[int, tuple[StepRecord, dict[LostId, str]]]:
    """The steps of a log that count, by the tokens at their end, each with what it reports lost: after going back to a
    checkpoint, the later writing does.
    """
    steps: dict[int, tuple[StepRecord, dict[LostId, str]]] = {}
    lost: dict[int, dict[LostId, str]] = {}
    for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        document = json.loads(line)
        if document.get("event") == LOST:
            key = LostId(document["source"], document["epoch"], document["sample"], document["offset"])
            lost.setdefault(document["step"], {})[key] = document["reason"]
        elif "event" not in document:
            record = StepRecord(**document)
            while steps and next(reversed(steps)) > record.tokens - record.batch_tokens:
                steps.popitem()
            steps[record.tokens], lost = (record, lost.get(record.step, {})), {}
    return steps
