"""One piece of work at a time, beside the training."""

import threading
from collections.abc import Callable


class Background:
    """Runs one function at a time in a thread; its error is raised where it is waited for."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, work: Callable[[], None]) -> None:
        assert self._thread is None, "wait for the last work first"
        # A process that must end at once does not wait for it: what was not committed is not there.
        self._thread = threading.Thread(target=self._run, args=(work,), name="checkpoint", daemon=True)
        self._thread.start()

    @property
    def has_failed(self) -> bool:
        """Whether there is an error for `wait` to raise."""
        return self._error is not None

    def wait(self) -> None:
        """Return when nothing is running; raise what the work raised."""
        if self._thread is None:
            return
        self._thread.join()
        self._thread, error, self._error = None, self._error, None
        if error is not None:
            raise error

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again by `wait`
            self._error = error
