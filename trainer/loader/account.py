"""Where every planned sample went: planned = seen + lost, by id, from the plan and what the logs say."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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


@dataclass(kw_only=True, slots=True, frozen=True)
class Account:
    """What became of every document that was planned. taken: documents that the steps of the log went through. faults:
    what does not add up, a line each with its mend; none if planned = seen + lost.
    """

    epochs: tuple[EpochAccount, ...]
    taken: int
    faults: tuple[str, ...]

    @property
    def planned(self) -> int:
        return sum(entry.planned for entry in self.epochs)

    @property
    def seen(self) -> int:
        return sum(entry.seen for entry in self.epochs)

    @property
    def lost(self) -> int:
        return sum(len(entry.lost) for entry in self.epochs)


def account(
    orders: Mapping[str, SourceOrder], cursor: Mapping[str, int], tokens: int, logs: Sequence[Path]
) -> list[EpochAccount]:
    """As `take_account`, where everything has to add up. ValueError, naming the first thing that does not."""
    found = take_account(orders, cursor, tokens, logs)
    if found.faults:
        raise ValueError(found.faults[0])
    return list(found.epochs)


def take_account(
    orders: Mapping[str, SourceOrder], cursor: Mapping[str, int], tokens: int, logs: Sequence[Path]
) -> Account:
    """Account for every document that was planned up to a cursor. orders: of the run's sources. tokens: of the run at
    the cursor. logs: of all ranks, rank 0's first.

    A fault is a document that was lost but not planned, steps of the log that have not gone through exactly what was
    planned, or that have lost other documents than those reported. ValueError for a log that cannot be read, and for
    sources in another order than the cursor is of.
    """
    lost, taken, faults = _logged(logs, tokens)
    entries: list[EpochAccount] = []
    for name, place in places_of(cursor, orders).items():
        if place.place and place.order not in (0, orders[name].fingerprint):
            raise ValueError(
                f"source {name} is not in the order that the run went through: its shards or settings are others; "
                "restore them"
            )
        reasons = {key: reason for key, reason in lost.items() if key.source == name}
        entries += _epochs(name, orders[name], place.place, reasons)
    found = Account(epochs=tuple(entries), taken=taken, faults=())
    strays = set(lost) - {key for entry in entries for key in entry.lost}
    if strays:
        faults.append(f"{min(strays)} was lost but never planned; give the sources and logs of one run")
    if found.planned != taken:
        faults.append(
            f"{found.planned:,} documents were planned, the steps of {logs[0]} took {taken:,}; give the log of the "
            "whole run and the cursor at its end"
        )
    return replace(found, faults=tuple(faults))


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


def _logged(logs: Sequence[Path], tokens: int) -> tuple[dict[LostId, str], int, list[str]]:
    """Lost documents with their reasons, samples of all steps, and what was lost without being reported."""
    steps = {place: entry for place, entry in _steps(logs[0]).items() if place <= tokens}
    found: dict[int, dict[LostId, str]] = defaultdict(dict)
    for log in logs:
        for place, (record, lost) in _steps(log).items():
            # A rank that is no more may have left steps that were gone through again; what they lost may then have been
            # read. The same loss is of the same samples.
            if place in steps and _same(record, steps[place][0]):
                found[place] |= lost
    faults = [
        f"step {record.step} lost {record.lost_samples} documents, of which {len(found[place])} are reported; give the "
        "logs of all ranks"
        for place, (record, _) in steps.items()
        if len(found[place]) != record.lost_samples
    ]
    lost = {key: reason for lost in found.values() for key, reason in lost.items()}
    return lost, sum(record.samples for record, _ in steps.values()), faults


def _same(first: StepRecord, second: StepRecord) -> bool:
    return (first.lost_samples, first.metrics.get("loss")) == (second.lost_samples, second.metrics.get("loss"))


def _steps(log: Path) -> dict[int, tuple[StepRecord, dict[LostId, str]]]:
    """The steps of a log that count, by the tokens at their end, each with what it reports lost: after going back to a
    checkpoint, the later writing does.
    """
    steps: dict[int, tuple[StepRecord, dict[LostId, str]]] = {}
    lost: dict[int, dict[LostId, str]] = {}
    for entry in _entries(log):
        if isinstance(entry, StepRecord):
            while steps and next(reversed(steps)) > entry.tokens - entry.batch_tokens:
                steps.popitem()
            steps[entry.tokens], lost = (entry, lost.get(entry.step, {})), {}
        else:
            step, key, reason = entry
            lost.setdefault(step, {})[key] = reason
    return steps


def _entries(log: Path) -> Iterator[StepRecord | tuple[int, LostId, str]]:
    """A log's steps, and its losses with their step and reason. A last line that is cut off is none. ValueError for
    any other that is not as the trainer writes it.
    """
    with open(log, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith("\n"):
                return
            try:
                document = json.loads(line)
                if document.get("event") == LOST:
                    key = LostId(document["source"], document["epoch"], document["sample"], document["offset"])
                    yield document["step"], key, document["reason"]
                elif "event" not in document:
                    yield StepRecord(**document)
            except (ValueError, KeyError, TypeError, AttributeError):
                raise ValueError(f"{log}: line {number} is not of this version's logs; restore the file") from None
