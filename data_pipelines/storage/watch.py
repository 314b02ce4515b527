"""Calls that may hang, run in threads of their own so that who waits for them can give up."""

import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
_MAX_HANGING = 32


class Watch:
    """Runs calls one after the other, none longer than `timeout_seconds`; None: as long as they take.

    A thread in a call that hangs cannot be ended: it is left alone, and ends with the call or with the process. Once
    `_MAX_HANGING` of them are left alone, further calls count as hanging too, until some of those come back.
    """

    def __init__(self, timeout_seconds: float | None) -> None:
        self._timeout_seconds = timeout_seconds
        self._idle: list[_Thread] = []
        self._left: list[_Errand] = []
        self._process = os.getpid()
        weakref.finalize(self, _dismiss, self._idle)

    def run(self, calls: Sequence[Callable[[], T]]) -> list[T | TimeoutError]:
        """What each call gives, up to one that hangs: in its place comes a TimeoutError, and those behind it are not
        begun.

        Raises what a call raises.
        """
        if self._timeout_seconds is None:
            return [call() for call in calls]
        if self._process != os.getpid():  # threads do not survive a fork
            self._idle.clear()
            self._left, self._process = [], os.getpid()
        self._left = [errand for errand in self._left if not errand.ended]
        if len(self._left) >= _MAX_HANGING:
            return [TimeoutError(f"{len(self._left)} earlier reads still hang")]
        try:
            thread = self._idle.pop()
        except IndexError:
            thread = _Thread()
        errand = _Errand(calls)
        thread.errands.put(errand)
        try:
            in_time = errand.wait(self._timeout_seconds)
        except BaseException:  # Ctrl-C
            errand.leave(thread)
            raise
        if not in_time:
            errand.leave(thread)
            self._left.append(errand)
            results = [*errand.results]
            return [*results, TimeoutError(f"no answer within {self._timeout_seconds:g} s")][: len(calls)]
        self._idle.append(thread)
        if errand.error is not None:
            raise errand.error
        return [*errand.results]


class _Errand(Generic[T]):
    """Calls on their way."""

    def __init__(self, calls: Sequence[Callable[[], T]]) -> None:
        self._calls = calls
        self._done: SimpleQueue[None] = SimpleQueue()
        self._since = time.monotonic()
        self.results: list[T] = []
        self.error: BaseException | None = None
        self.given_up = self.ended = False

    def run(self) -> None:
        try:
            for call in self._calls:
                if self.given_up:
                    break
                self._since = time.monotonic()
                self.results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self.error = error
        self.ended = True
        self._done.put(None)

    def wait(self, timeout_seconds: float) -> bool:
        """Whether all calls came back; False once one of them takes longer."""
        left = timeout_seconds
        while left > 0:
            try:
                self._done.get(timeout=left)
            except Empty:
                left = self._since + timeout_seconds - time.monotonic()
            else:
                return True
        return False

    def leave(self, thread: "_Thread") -> None:
        """Nobody waits any longer: no further call is begun, and the thread ends."""
        self.given_up = True
        thread.errands.put(None)


class _Thread:
    """A thread that runs errands until it is given None."""

    def __init__(self) -> None:
        self.errands: SimpleQueue[_Errand | None] = SimpleQueue()
        # A daemon: the process may end while a read hangs.
        threading.Thread(target=_serve, args=(self.errands,), name="reads", daemon=True).start()


def _serve(errands: "SimpleQueue[_Errand | None]") -> None:
    while (errand := errands.get()) is not None:
        errand.run()
        del errand  # which holds what it has read, and the folder


def _dismiss(idle: "list[_Thread]") -> None:
    for thread in idle:
        thread.errands.put(None)
