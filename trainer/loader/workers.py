"""The trainer's side of worker processes: batches in their turn, each held against what the step asks for."""

import contextlib
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self

from triptych.trainer.loader.config import LoaderConfig
from triptych.trainer.loader.slots import Slot
from triptych.trainer.loader.waiting import POLL_SECONDS, Asked, GivenUp
from triptych.trainer.loader.worker import Built, Failed, Free, PlannedData, Request, Start, worker_main

LEAVING_SECONDS = 5.0


@dataclass(kw_only=True, slots=True, frozen=True)
class _Process:
    """A worker as the trainer sees it."""

    process: BaseProcess
    connection: Connection
    slots: Sequence[Slot]


class Workers:
    """A context manager: the processes live as long as it is entered, and never longer than this process.

    They come from a fork server, a process that never had threads or a GPU: forking the trainer itself would copy
    locks that its threads hold. pinned: whether rows are given in page-locked memory.
    """

    def __init__(self, data: PlannedData, config: LoaderConfig, *, pinned: bool = False) -> None:
        self._data, self._config, self._pinned = data, config, pinned
        self._workers: list[_Process] = []
        self._generation = 0
        self._number = 0
        self._expected: Request | None = None

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([worker_main.__module__, type(self._data).__module__])
        try:
            for _ in range(self._config.num_workers):
                self._workers.append(self._started(context))
            for worker in self._workers:
                self._send_data(worker)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, whatever they are doing: they hold nothing but what they read."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.connection.close()
            worker.process.kill()
        for worker in workers:
            worker.process.join(LEAVING_SECONDS)
            for slot in worker.slots:
                slot.close()

    @property
    def pids(self) -> list[int]:
        """Of the worker processes."""
        return [pid for worker in self._workers if (pid := worker.process.pid) is not None]

    def take(self, request: Request, give_up: Asked = lambda: False) -> tuple[Any, dict[str, int]]:
        """The batch of this request and the cursor after it; GivenUp once `give_up` says so and it has not come.

        ValueError or OSError with a worker's own text, if that is what making the batch raised, RuntimeError for any
        other error of a worker; ChildProcessError for a worker that died, TimeoutError for one that gives nothing.
        """
        expected, self._expected = self._expected, None
        if request != expected:
            self._start(request)
        built = self._next(give_up)
        if built.request != request:
            # Planned otherwise than built. From here on it is begun with what was asked for, so it cannot differ.
            self._free(built)
            self._start(request)
            built = self._next(give_up)
        assert built.request == request, "a worker answers what was not asked"
        rows = self._at_turn.slots[built.slot].read(built.rows, pinned=self._pinned)
        self._free(built)
        self._number += 1
        self._expected = request._replace(cursor=built.after)
        return rows, built.after

    def is_ready(self, request: Request) -> bool:
        """Whether `take` would very likely not wait."""
        return request == self._expected and self._at_turn.connection.poll()

    @property
    def _at_turn(self) -> _Process:
        return self._workers[self._number % len(self._workers)]

    def _started(self, context: Any) -> _Process:
        ours, theirs = context.Pipe()
        slots = [Slot.new() for _ in range(self._config.prefetch_batches)]
        process = context.Process(target=worker_main, args=(theirs, slots), daemon=True, name="data worker")
        with theirs:
            process.start()
        return _Process(process=process, connection=ours, slots=slots)

    def _send_data(self, worker: _Process) -> None:
        try:
            worker.connection.send(self._data)
        except (BrokenPipeError, ConnectionResetError):
            return  # it died; it is named when it is asked for a batch
        except Exception as error:
            raise ValueError(
                f"the run's data cannot be sent to worker processes ({type(error).__name__}: "
                f"{' '.join(str(error).split())}); set fit.loader.num_workers=0"
            ) from error

    def _start(self, request: Request) -> None:
        """Tell all workers to begin anew, from here; what they have made of another stream is dropped."""
        self._generation += 1
        self._number = 0
        for number, worker in enumerate(self._workers):
            with contextlib.suppress(OSError):
                worker.connection.send(Start(self._generation, request, number, len(self._workers)))

    def _next(self, give_up: Asked) -> Built:
        """The next batch of the present stream, from the worker whose turn it is."""
        number = self._number % len(self._workers)
        deadline = time.monotonic() + self._config.timeout_seconds
        while True:
            message = self._receive(number, deadline, give_up)
            if isinstance(message, Failed) and message.generation in (0, self._generation):
                raise _error_of(message, self._name(number))
            if isinstance(message, Built):
                if message.generation == self._generation:
                    return message
                self._free(message)

    def _free(self, built: Built) -> None:
        """Let the worker at turn, which built this, write where it is."""
        with contextlib.suppress(OSError):  # a worker that has just died is named when it is asked for a batch
            self._at_turn.connection.send(Free(built.slot))

    def _receive(self, number: int, deadline: float, give_up: Asked) -> Built | Failed:
        worker = self._workers[number]
        try:
            while (left := deadline - time.monotonic()) > 0 or worker.connection.poll():
                if worker.connection.poll(max(0.0, min(left, POLL_SECONDS))):
                    return worker.connection.recv()
                if give_up():
                    raise GivenUp
        except (EOFError, OSError):
            worker.process.join(LEAVING_SECONDS)
            code = worker.process.exitcode
            how = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
            raise ChildProcessError(
                f"{self._name(number)} died ({how}); if memory ran out, lower fit.loader.num_workers or "
                "fit.loader.prefetch_batches"
            ) from None
        raise TimeoutError(
            f"{self._name(number)} gave no batch for {self._config.timeout_seconds:g} seconds; look for a source that "
            "does not answer, or raise fit.loader.timeout_seconds"
        )

    def _name(self, number: int) -> str:
        return f"data worker {number} of {len(self._workers)} (process {self._workers[number].process.pid})"


def _error_of(failed: Failed, name: str) -> Exception:
    """What the trainer raises for what a worker met."""
    if not failed.is_refusal:
        return RuntimeError(f"{name} raised {failed.kind}: {failed.text}\n{failed.trace}")
    mend = "" if "; " in failed.text else "; check what it reads"
    return (ValueError if failed.kind == "ValueError" else OSError)(f"{name}: {failed.text}{mend}")
