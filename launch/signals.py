"""Ctrl-C, SIGTERM and SIGUSR1: a request to stop at the next step, and what they are where there is no next step."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGUSR1)
"""What launchers end a process with: SIGUSR1 is Slurm's customary signal before a time limit."""


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether a stop was asked for. The second Ctrl-C interrupts at once."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, *STOPPING)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Terminated(BaseException):
    """SIGTERM or SIGUSR1, its text, came where nothing looks for a stop request."""


@contextmanager
def stops_raise() -> Iterator[None]:
    """Turn SIGTERM and SIGUSR1 into Terminated, so that one of many processes can say so before it ends."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Terminated(signal.Signals(number).name)

    before = {number: signal.signal(number, interrupt) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """From here on Ctrl-C, SIGTERM and SIGUSR1 change nothing: this process is ending, and saying why."""
    for number in (signal.SIGINT, *STOPPING):
        signal.signal(number, signal.SIG_IGN)
