"""A worker process: it plans the whole stream and builds each num_workers-th batch of it.

It imports the data's modules and torch, no engine. The trainer's Ctrl-C and SIGTERM are not its business: it ends when
the trainer ends it, or is gone.
"""

import os
import signal
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, Protocol

import torch

from triptych.trainer.loader.slots import Slot


class Request(NamedTuple):
    """What a step asks the Data seam for."""

    cursor: dict[str, int]
    size: int
    rank: int
    num_ranks: int


class Start(NamedTuple):
    """Trainer to worker: build batch `first` from here, then each `stride`-th. generation: of this stream."""

    generation: int
    request: Request
    first: int
    stride: int


class Free(NamedTuple):
    """Trainer to worker: a slot may be written to again."""

    slot: int


class Built(NamedTuple):
    """Worker to trainer: a batch, its tensors in a slot, and the cursor after it."""

    generation: int
    request: Request
    slot: int
    rows: Any
    after: dict[str, int]


class Failed(NamedTuple):
    """Worker to trainer: what came in the place of a batch. kind: the error's class. is_refusal: whether its text is
    one line for the user.
    """

    generation: int
    kind: str
    text: str
    trace: str
    is_refusal: bool


class PlannedData(Protocol):
    """The Data seam, with what workers need besides: to know where a batch ends without building it."""

    def batch(self, cursor: Mapping[str, int], size: int, rank: int, num_ranks: int) -> tuple[Any, dict[str, int]]: ...

    def advance(self, cursor: Mapping[str, int], size: int) -> dict[str, int]:
        """The cursor after a batch, the same that `batch` gives, from the plan alone."""
        ...


def worker_main(connection: Connection, slots: list[Slot]) -> None:
    """A worker's life. slots: to put batches into."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a whole process group may be sent them; the trainer decides
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_trainer, daemon=True).start()
    torch.set_num_threads(1)
    try:
        try:
            data = connection.recv()
        except EOFError:
            return
        except Exception as error:  # noqa: BLE001 - whatever a run's data raise when they are made
            connection.send(_failed(0, error))
            return
        _Worker(connection, data, slots).run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the trainer has gone


def _end_with_trainer() -> None:
    """Also where the main thread is blocked in reading."""
    trainer = parent_process()
    assert trainer is not None
    wait([trainer.sentinel])
    os._exit(1)


@dataclass(slots=True)
class _Job:
    """A stream under way. cursor: after `number` batches of it. next: the batch that is this worker's to build."""

    start: Start
    cursor: dict[str, int]
    number: int
    next: int


class _Worker:
    def __init__(self, connection: Connection, data: PlannedData, slots: list[Slot]) -> None:
        self._connection, self._data, self._slots = connection, data, slots
        self._free = list(range(len(slots)))
        self._job: _Job | None = None

    def run(self) -> None:
        while True:
            self._listen(wait=self._job is None)
            if self._job is None:
                continue
            try:
                self._go_on(self._job)
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:  # noqa: BLE001 - the trainer raises it, in its turn
                self._connection.send(_failed(self._job.start.generation, error))
                self._job = None

    def _listen(self, *, wait: bool) -> None:
        """Take in what the trainer has said; `wait` for it to say something."""
        while wait or self._connection.poll():
            wait = False
            match self._connection.recv():
                case Free(slot=slot):
                    self._free.append(slot)
                case Start() as start:
                    self._job = _Job(start, start.request.cursor, 0, start.first)

    def _go_on(self, job: _Job) -> None:
        """One batch further: past another worker's, or built."""
        request = job.start.request._replace(cursor=job.cursor)
        if job.number < job.next:
            job.cursor = self._data.advance(job.cursor, request.size)
            job.number += 1
            return
        rows, after = self._data.batch(*request)
        while not self._free:
            self._listen(wait=True)
            if self._job is not job:
                return
        slot = self._free.pop()
        sent = self._slots[slot].write(rows)
        self._connection.send(Built(job.start.generation, request, slot, sent, after))
        job.cursor, job.number, job.next = after, job.number + 1, job.next + job.start.stride


def _failed(generation: int, error: Exception) -> Failed:
    is_refusal = isinstance(error, ValueError | OSError)
    trace = "".join(traceback.format_exception(error))
    return Failed(generation, type(error).__name__, " ".join(str(error).split()), trace, is_refusal)
