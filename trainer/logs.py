"""Where a step's numbers are kept: JSON lines per rank, and TensorBoard."""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray
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


Gauge = Callable[[StepRecord], Mapping[str, float]]
"""Numbers beside a step's own: memory, utilization. Asked only for steps that are written."""


def scalars_of(record: StepRecord) -> dict[str, float]:
    """A step's numbers under the names that they are shown by."""
    return {
        **record.metrics,
        "learning_rate": record.learning_rate,
        "gradient_norm": record.gradient_norm,
        "batch": record.batch,
        "kappa": record.kappa,
        "tokens_per_second": record.tokens_per_second,
        "step/seconds": record.seconds,
        "step/busy_seconds": record.busy_seconds,
        "step/is_updated": float(record.is_updated),
        "data/wait_seconds": record.data_wait_fraction * record.seconds,
        "data/wait_fraction": record.data_wait_fraction,
        "data/lost_samples": record.lost_samples,
    }


class TensorBoard:
    """Scalars over tokens, at most one point per `every_tokens`, and media. The file is made with the first of either.

    gauges: more scalars. predictions: name to what was expected, written beside each point as `predicted/<name>`.
    """

    def __init__(
        self,
        folder: Path,
        every_tokens: int,
        gauges: Sequence[Gauge] = (),
        predictions: Mapping[str, float] | None = None,
    ) -> None:
        self._folder = folder
        self._opened: SummaryWriter | None = None
        self._every = every_tokens
        self._last: int | None = None
        self._gauges = list(gauges)
        self._predicted = {f"predicted/{name}": value for name, value in (predictions or {}).items()}

    def __call__(self, record: StepRecord) -> None:
        """Write a step if one is due: always the first after a run has gone back."""
        if self._last is not None and 0 <= record.tokens - self._last < self._every:
            return
        self._last = record.tokens
        scalars = scalars_of(record) | self._predicted
        for gauge in self._gauges:
            scalars |= gauge(record)
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, record.tokens)

    def image(self, name: str, pixels: NDArray[np.uint8], tokens: int) -> None:
        """uint8 [height, width] or [height, width, 3]."""
        self._writer.add_image(name, pixels, tokens, dataformats="HWC" if pixels.ndim == 3 else "HW")

    def audio(self, name: str, samples: NDArray[np.floating[Any]], tokens: int, sample_rate_hertz: int) -> None:
        """Float [samples] in -1..1."""
        self._writer.add_audio(name, samples[None], tokens, sample_rate=sample_rate_hertz)

    def text(self, name: str, text: str, tokens: int) -> None:
        """Shown as Markdown."""
        self._writer.add_text(name, text, tokens)

    @property
    def _writer(self) -> SummaryWriter:
        if self._opened is None:
            self._opened = SummaryWriter(str(self._folder))
        return self._opened

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._opened is not None:
            self._opened.close()


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
