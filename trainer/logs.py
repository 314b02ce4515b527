"""Where a step's numbers are kept: JSON lines per rank, and TensorBoard."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self

from torch.utils.tensorboard import SummaryWriter

from triptych.trainer.metrics import StepRecord


class JsonLines:
    """One line of JSON per step, appended, so that a resumed run goes on in the same file. Made with the first step.
    Its events are written with the step that they belong to, so that neither is without the other.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._events: list[str] = []

    def note(self, event: str, facts: Mapping[str, Any]) -> None:
        """An event of the step that is under way."""
        self._events.append(_event_line(event, facts))

    def __call__(self, record: StepRecord) -> None:
        """Append a step. OSError, naming the file, if the disk refuses."""
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                _drop_cut_line(self._path)
                self._file = self._path.open("a", encoding="utf-8")
            lines, self._events = [*self._events, json.dumps(asdict(record)) + "\n"], []
            self._file.write("".join(lines))
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk has refused the last line already, and said so
                self._file.close()


def _drop_cut_line(path: Path) -> None:
    """Cut a log back to its last whole line: a kill may have come in the middle of one."""
    if path.exists():
        with path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


class TensorBoard:
    """Scalars over tokens, at most one point per `every_tokens`. The file is made with the first point."""

    def __init__(self, folder: Path, every_tokens: int) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None
        self._every = every_tokens
        self._next = 0

    def __call__(self, record: StepRecord) -> None:
        """Write a step if one is due."""
        if record.tokens < self._next:
            return
        self._next = record.tokens + self._every
        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder))
        scalars = {
            **record.metrics,
            "learning_rate": record.learning_rate,
            "gradient_norm": record.gradient_norm,
            "batch": record.batch,
            "kappa": record.kappa,
            "tokens_per_second": record.tokens_per_second,
            "data/wait_fraction": record.data_wait_fraction,
            "data/lost_samples": record.lost_samples,
        }
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, record.tokens)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._writer is not None:
            self._writer.close()


def append_event(path: Path, event: str, facts: Mapping[str, Any]) -> None:
    """Add a line that is no step, {"event", "time", ...}, to a log; any thread may. OSError if the disk refuses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(_event_line(event, facts))


def _event_line(event: str, facts: Mapping[str, Any]) -> str:
    return json.dumps({"event": event, "time": datetime.now(UTC).isoformat(timespec="seconds"), **facts}) + "\n"


def read_records(path: Path, upto_tokens: int) -> list[StepRecord]:
    """The steps of a log up to a place, each place once: after a resume from an older checkpoint, the later writing
    counts. Events, and a last line that a kill cut short, are left out.
    """
    records: list[StepRecord] = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        document = json.loads(line)
        if "event" in document:
            continue
        record = StepRecord(**document)
        while records and records[-1].tokens >= record.tokens:
            records.pop()
        records.append(record)
    return [record for record in records if record.tokens <= upto_tokens]
