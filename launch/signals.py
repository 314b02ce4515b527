"""Ctrl-C, SIGTERM and SIGUSR1: a request to stop at the next step, and what they are where there is no next step."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGUSR1)
"""What launchers end a process with: SIGUSR1 is Slurm's customary signal before a time limit."""


class Stops:
    """A handler that notes which signals came, in order. The second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked.append(number)


def remember_stops() -> None:
    """From here on SIGTERM and SIGUSR1 are only noted, for `stop_requests` of later: one of many processes that dies
    of them while it starts leaves the others waiting for it.
    """
    if not isinstance(signal.getsignal(STOPPING[0]), Stops):
        stops = Stops()
        for number in STOPPING:
            signal.signal(number, stops)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether a stop was asked for, also while stops were remembered before."""
    remembered = signal.getsignal(STOPPING[0])
    stops = remembered if isinstance(remembered, Stops) else Stops()
    before = {number: signal.signal(number, stops) for number in (signal.SIGINT, *STOPPING)}
    try:
        yield lambda: bool(stops.asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """From here on Ctrl-C, SIGTERM and SIGUSR1 change nothing: this process is ending, and saying why."""
    for number in (signal.SIGINT, *STOPPING):
        signal.signal(number, signal.SIG_IGN)
