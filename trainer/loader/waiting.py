"""Waiting for data in a way that can be given up."""

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Asked = Callable[[], bool]
"""Whether to wait no longer."""

POLL_SECONDS = 0.05
"""Between two looks at whether to give up: far below any grace period, and far above what a look costs."""

_Made = TypeVar("_Made")


class GivenUp(Exception):
    """Nobody waits for the batch any more. The loader that raised it is of no more use."""


class Aside:
    """One thread beside the main one, in which batches are made that may never come: a file system that hangs cannot be
    interrupted, but it need not be waited for. The thread ends with the process.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def __call__(self, make: Callable[[], _Made], give_up: Asked) -> _Made:
        """What `make` returns, or raises; GivenUp once `give_up` says so and it has not come."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="data")
            self._thread.start()
        self._work.put(make)
        while True:
            try:
                made, error = self._done.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if give_up():
                    raise GivenUp from None
                continue
            if error is not None:
                raise error
            return made

    def _run(self) -> None:
        while True:
            make = self._work.get()
            try:
                self._done.put((make(), None))
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                self._done.put((None, error))
            del make
