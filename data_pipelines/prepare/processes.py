"""Jobs done by several processes of one machine, with what they count on the way."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from triptych.data_pipelines.prepare.work import PartJob

_SECONDS_BETWEEN_COUNTS = 0.5


@dataclass(slots=True)
class Counts:
    """What has been done since the last ones: parts finished, samples read, bytes of input, tokens made, and samples
    left out by reason.
    """

    num_parts: int = 0
    num_samples: int = 0
    num_bytes: int = 0
    num_tokens: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


class Meter:
    """Collects counts and hands them on twice a second."""

    def __init__(self, send: Callable[[Counts], None]) -> None:
        self._send = send
        self._counts = Counts()
        self._last = time.monotonic()
        self._bytes_of_part = 0

    def sample(self, num_bytes: int, left_out: str | None = None) -> None:
        """A sample was read from so many bytes of input."""
        self._counts.num_samples += 1
        self._counts.num_bytes += num_bytes
        self._bytes_of_part += num_bytes
        if left_out is not None:
            self._counts.left_out[left_out] += 1
        self._send_if_due()

    def tokens(self, number: int) -> None:
        self._counts.num_tokens += number
        self._send_if_due()

    def part(self, num_bytes: int) -> None:
        """A part is finished; it has so many bytes, whatever its samples came to."""
        self._counts.num_parts += 1
        self._counts.num_bytes += num_bytes - self._bytes_of_part
        self._bytes_of_part = 0
        self._flush()

    def _send_if_due(self) -> None:
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_COUNTS:
            self._flush()

    def _flush(self) -> None:
        self._send(self._counts)
        self._counts, self._last = Counts(), time.monotonic()


class Worker(Protocol):
    """Does one part after the other in one process."""

    def run(self, job: PartJob, meter: Meter) -> int:
        """Finish a part; give how many damaged samples it has."""
        ...


class Stage(Protocol):
    """What can be sent to a process, to do its work there."""

    def worker(self, number: int) -> Worker:
        """For process `number` of those of this machine: loads what all its parts need."""
        ...


def run_jobs(
    stage: Stage, jobs: Sequence[PartJob], num_processes: int, on_counts: Callable[[Counts], None]
) -> Iterator[int]:
    """Do the jobs, in any order; give the number of damaged samples of each as it is finished.

    What a process raises is raised here, and the others end. ValueError if one dies.
    """
    if min(num_processes, len(jobs)) <= 1:
        worker = stage.worker(0) if jobs else None
        for job in jobs:
            assert worker is not None
            yield worker.run(job, Meter(on_counts))
        return
    context = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = []
    connections: list[Connection] = []
    try:
        for number in range(min(num_processes, len(jobs))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, stage, number), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            connections.append(ours)
        yield from _share_out(jobs, connections, on_counts)
    finally:
        for connection in connections:
            connection.close()  # a process that waits for a job ends
        for process in processes:
            process.terminate()
            process.join()


def _share_out(
    jobs: Sequence[PartJob], connections: Sequence[Connection], on_counts: Callable[[Counts], None]
) -> Iterator[int]:
    waiting = list(reversed(jobs))
    busy = set(connections)
    for connection in connections:
        connection.send(waiting.pop())
    while busy:
        for connection in wait(list(busy)):
            assert isinstance(connection, Connection)
            message = _receive(connection)
            if isinstance(message, Counts):
                on_counts(message)
            elif isinstance(message, BaseException):
                raise message
            else:
                if waiting:
                    connection.send(waiting.pop())
                else:
                    busy.discard(connection)
                yield message


def _receive(connection: Connection) -> Any:
    try:
        return connection.recv()
    except (EOFError, ConnectionError):
        raise ValueError(
            "a process ended without a word, as when memory runs out; repeat the command, with fewer --processes"
        ) from None


def _serve(connection: Connection, stage: Stage, number: int) -> None:
    """A process: parts come in, counts and results go out, until the other end closes."""
    with suppress(EOFError, ConnectionError, KeyboardInterrupt):
        try:
            worker, meter = stage.worker(number), Meter(connection.send)
            while True:
                connection.send(worker.run(connection.recv(), meter))
        except EOFError:
            return
        except Exception as error:  # noqa: BLE001 - it is raised where the command runs
            connection.send(error)
