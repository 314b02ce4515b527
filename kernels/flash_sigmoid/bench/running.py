"""Jobs in a process of their own: one that fails, hangs or breaks the device is a row with its reason, not the end.

A process imports what the function that measures needs, and torch only to ask whether a CUDA device still works.
"""

import math
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from triptych.kernels.flash_sigmoid.bench.cases import NOT_REACHED, Job

JOB_SECONDS = 90.0
"""For one job, compilation included."""
_ENDING_SECONDS = 10.0
_REASON_LENGTH = 300

Measure = Callable[[Job, str], dict[str, float]]
"""Of a job and a device's name: what was measured. A function at the top of a module, for another process runs it."""
Record = dict[str, Any]
"""A job's mapping, and under "values" what was measured or under "failed" why nothing was."""


def run_jobs(
    jobs: Iterable[Job], device: str, measure: Measure, *, deadline: float, job_seconds: float = JOB_SECONDS
) -> Iterator[Record]:
    """One record per job, in order, as it is there. deadline: of `time.monotonic`; jobs that it leaves no second for
    are records, too. measure: a function at the top of a module; it runs in another process.

    A contender that broke its process twice is not tried again.
    """
    worker = _Worker(device, measure)
    breaks: dict[str, int] = {}
    try:
        for job in jobs:
            if deadline - time.monotonic() < 1:
                found: Record = {"failed": NOT_REACHED}
            elif breaks.get(job.contender, 0) >= 2:
                found = {"failed": "not tried: it broke its process twice"}
            else:
                found, broken = worker.do(job, job_seconds, deadline)
                breaks[job.contender] = breaks.get(job.contender, 0) + broken
            yield {**job.to_mapping(), **found}
    finally:
        worker.end()


def compile_all(
    jobs: Sequence[Job], device: str, measure: Measure, *, deadline: float, num_processes: int
) -> list[Record]:
    """Records of all, in no order: several processes each do a part of the jobs."""
    shares = [jobs[first::num_processes] for first in range(min(num_processes, len(jobs)))]

    def do(share: Sequence[Job]) -> list[Record]:
        return list(run_jobs(share, device, measure, deadline=deadline))

    with ThreadPoolExecutor(max(1, len(shares))) as pool:
        return [record for records in pool.map(do, shares) for record in records]


class _Worker:
    """A process that measures; a new one is started for the next job where the last has broken it."""

    def __init__(self, device: str, measure: Measure) -> None:
        self._arguments = (device, measure)
        self._process: Any = None
        self._connection: Any = None

    def do(self, job: Job, seconds: float, deadline: float) -> tuple[Record, bool]:
        """What came of it, and whether it broke the process. seconds: for the job, not for the start of the process."""
        try:
            if self._process is None and not self._start(deadline):
                return {"failed": NOT_REACHED}, False
            self._connection.send(job)
            if not self._connection.poll(max(0, min(seconds, deadline - time.monotonic()))):
                self.end()
                is_cut = time.monotonic() >= deadline
                return {"failed": NOT_REACHED if is_cut else f"no result within {seconds:.0f} s"}, not is_cut
            found, is_sound = self._connection.recv()
        except (EOFError, ConnectionError):
            return {"failed": f"its process ended with code {self.end(_ENDING_SECONDS)}"}, True
        if not is_sound:
            self.end()
        return found, not is_sound

    def end(self, patience: float = 0) -> int | None:
        """Its exit code. It is killed: a process on a broken device may not end by itself. patience: seconds before."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.join(patience)
        process.kill()
        process.join()
        self._connection.close()
        return process.exitcode

    def _start(self, deadline: float) -> bool:
        """Whether it was there in time."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *self._arguments))
        self._process.start()
        theirs.close()
        if not self._connection.poll(max(0, deadline - time.monotonic())):
            self.end()
            return False
        self._connection.recv()
        return True


def _serve(connection: Connection, device: str, measure: Measure) -> None:
    """Answer jobs until the other end is gone, or the device is broken."""
    connection.send("ready")
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            found: Record = {"values": _finite(measure(job, device))}
        except Exception as error:  # noqa: BLE001 - whatever a kernel or its compiler raises is a row of the table
            found = {"failed": _reason(error)}
        is_sound = "values" in found or _is_sound(device)
        connection.send((found, is_sound))
        if not is_sound:
            return


def _finite(values: dict[str, float]) -> dict[str, float]:
    """ArithmeticError names what is no number: it would be refused where all is written down."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise ArithmeticError(f"{name} is {value}")
    return values


def _is_sound(device: str) -> bool:
    """Whether the device still works: after an illegal access nothing does in that process."""
    if device != "cuda":
        return True
    import torch

    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError:
        return False
    return True


def _reason(error: Exception) -> str:
    """Its type and its first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:_REASON_LENGTH]
