"""One thread that has the model, and a short queue before it."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from triptych.launch.serving.refusals import Refused


class Stopped(Exception):
    """Work was given up between two sampling steps."""


class Ticket:
    """One piece of work, waiting or running. deadline: on the clock time.monotonic."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.future: Future[Any] = Future()
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """Take it out of the queue; where it runs already, end it at its next `go_on`."""
        self._given_up.set()
        self.future.cancel()

    def go_on(self) -> None:
        """Called by the work between its steps. Stopped if nobody waits for it any more."""
        if self._given_up.is_set() or time.monotonic() > self.deadline:
            raise Stopped


class Worker:
    """Runs one ticket after the other. max_waiting: tickets besides the one that runs; more are refused (503)."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._lock = threading.Lock()
        self._tickets: set[Ticket] = set()
        self._closing = False
        self._seconds = 1.0  # a running mean of how long a piece of work takes
        self.num_done = 0

    @property
    def num_open(self) -> int:
        """Tickets that wait or run."""
        return len(self._tickets)

    def require_room(self) -> None:
        """Refused (503) when the queue is full, or the server is about to end."""
        if self._closing:
            raise Refused(503, "the server is being stopped; ask again when it is back", 10)
        if self.num_open > self._max_waiting:
            seconds = max(1, round(self._seconds * self.num_open))
            raise Refused(503, f"{self.num_open} requests are running or waiting; ask again later", seconds)

    def submit(self, work: Callable[[Ticket], Any], seconds: float) -> Ticket:
        """Have `work(ticket)` done, within so many seconds from now. Refused (503) when the queue is full."""
        ticket = Ticket(time.monotonic() + seconds)
        with self._lock:
            self.require_room()
            self._tickets.add(ticket)
            ticket.future = self._executor.submit(self._run, work, ticket)  # under the lock: `close` ends the executor
        ticket.future.add_done_callback(lambda _: self._forget(ticket))
        return ticket

    def close(self, grace_seconds: float) -> None:
        """Take nothing more, wait so long for what is there, then give the rest up."""
        self._closing = True
        end = time.monotonic() + grace_seconds
        while self.num_open and time.monotonic() < end:
            time.sleep(0.02)
        with self._lock:
            left = list(self._tickets)
        for ticket in left:
            ticket.give_up()
        self._executor.shutdown(wait=True)

    def _run(self, work: Callable[[Ticket], Any], ticket: Ticket) -> Any:
        ticket.go_on()
        begun = time.monotonic()
        try:
            return work(ticket)
        finally:
            self._seconds += 0.2 * (time.monotonic() - begun - self._seconds)

    def _forget(self, ticket: Ticket) -> None:
        with self._lock:
            self._tickets.discard(ticket)
            self.num_done += 1
