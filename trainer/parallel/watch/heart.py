"""One small file per rank that says where it is: read by people and by `triptych postmortem`, also once it is dead."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from triptych.trainer.metrics import StepRecord
from triptych.trainer.parallel.watch.dumps import dump_stacks
from triptych.trainer.parallel.watch.hang import Stance, hang
from triptych.trainer.parallel.watch.obituary import Obituary
from triptych.trainer.parallel.watch.progress import Phase, Progress
from triptych.trainer.parallel.watch.ring import PAUSE_SHARE, WatchConfig

LEAVING_SECONDS = 5.0
START_SECONDS = 30.0
DUMP_SHARE = 0.8  # of the time after which a run counts as hung: every rank has written its stacks by then


@dataclass(kw_only=True, slots=True, frozen=True)
class Heartbeat:
    """Where a rank was at `time`, seconds since 1970. state: "running", or how it has left. still_seconds: in
    this phase of this step. resident_bytes: RAM.
    """

    rank: int
    world_size: int
    host: str
    pid: int
    time: float
    state: str
    step: int
    tokens: int
    phase: str
    place: str
    meets: bool
    still_seconds: float
    step_seconds: float
    resident_bytes: int
    beat_seconds: float

    @classmethod
    def read(cls, path: Path) -> "Heartbeat":
        """ValueError if it is no heartbeat."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no heartbeat ({error}); remove it") from None


class Heart:
    """A daemon thread that writes this rank's heartbeat, and its stacks once the main thread does not get on. A context
    manager; `note` is a reporter of the loop.

    folder: of the run's heartbeats; dumps: of its stacks. end: what ends a run of one process that hangs, given the
    obituary; None where the ranks watch each other. Costs the main thread nothing; the file is small and not flushed
    to the disk: it outlives the process, not the machine. Nothing is written before the first step has begun, or the
    start has taken START_SECONDS: a run that is refused leaves its directory as it was.
    """

    def __init__(
        self,
        config: WatchConfig,
        folder: Path,
        dumps: Path,
        *,
        rank: int,
        world_size: int,
        host: str,
        resident_bytes: Callable[[], int],
        end: Callable[[Obituary], None] | None = None,
    ) -> None:
        self._config, self._path, self._dumps = config, folder / f"rank{rank}.json", dumps
        self._rank, self._world_size, self._host = rank, world_size, host
        self._resident_bytes, self._end = resident_bytes, end
        self._progress = Progress(config.silence_seconds * PAUSE_SHARE)
        self._state = "running"
        self._seen = self._progress.look()
        self._dumped: tuple[int, str] | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, record: StepRecord) -> None:
        """A step is done."""
        self._progress.note(record)

    @property
    def has_begun(self) -> bool:
        """Whether the run has come to a step."""
        return self._progress.has_begun

    def leave(self, state: str) -> None:
        """How this rank leaves: "finished" or "stopped"."""
        self._state = state

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True, name="heartbeat")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._state == "running":
            self._state = "done" if kind is None else f"ended by {kind.__name__}"
        self._closed.set()
        if self._thread is not None:
            self._thread.join(LEAVING_SECONDS)  # and no longer: the disk may be what hangs

    def _run(self) -> None:
        self._beat()
        while not self._closed.wait(self._config.beat_seconds):
            self._beat()
        self._beat()

    def _beat(self) -> None:
        if self._state == "running":  # afterwards the main thread is here, which is of no interest
            self._seen = self._progress.look()
        here, still = self._seen
        if not self._progress.has_begun and still < START_SECONDS and not self._dumps_are_due(here.phase, still):
            return
        step_seconds = self._progress.step_seconds
        beat = Heartbeat(
            rank=self._rank,
            world_size=self._world_size,
            host=self._host,
            pid=os.getpid(),
            time=time.time(),
            state=self._state,
            step=self._progress.step,
            tokens=self._progress.tokens,
            phase=here.phase,
            place=here.place,
            meets=here.meets,
            still_seconds=round(still, 3),
            step_seconds=round(step_seconds, 6),
            resident_bytes=self._resident_bytes(),
            beat_seconds=self._config.beat_seconds,
        )
        self._write(asdict(beat))
        limits = self._config.hang_limits
        if self._state != "running" or not self._dumps_are_due(here.phase, still):
            return
        key = (self._progress.step, here.phase)
        if self._dumped != key:  # once for each time that it stands still
            self._dumped = key
            dump_stacks(self._dumps, self._rank, f"in {here.phase} for {still:.0f} s after step {key[0]}")
        if self._end is not None and still > limits.of(here.phase, step_seconds):
            stance = Stance(host=self._host, step=self._progress.step, here=here, still_seconds=still)
            found = hang({self._rank: stance}, limits, step_seconds)
            if found is not None:
                self._end(found)

    def _dumps_are_due(self, phase: Phase, still_seconds: float) -> bool:
        limit = self._config.hang_limits.of(phase, self._progress.step_seconds)
        return still_seconds > DUMP_SHARE * limit

    def _write(self, document: dict[str, Any]) -> None:
        """Whole or not at all; a disk that refuses is the training's to complain of."""
        partial = self._path.with_name(f".{self._path.name}")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(document), encoding="utf-8")
            partial.replace(self._path)
