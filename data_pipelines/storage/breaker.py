"""Circuit breakers: what failed again and again is left alone for a while."""

from collections.abc import Callable
from dataclasses import dataclass

_FOLDER = ""


@dataclass(kw_only=True, slots=True)
class _Circuit:
    """num_failures: in a row. open_until: time before which nothing is read."""

    num_failures: int = 0
    open_until: float = 0.0
    detail: str = ""


class Breakers:
    """One circuit per file, and one for the folder, which counts files that failed since any read went well.

    After `max_failures` in a row a circuit is open: nothing is read for `cool_down_seconds`, then one read is tried.
    """

    def __init__(self, max_failures: int, cool_down_seconds: float, now: Callable[[], float]) -> None:
        self._max_failures = max_failures
        self._cool_down_seconds = cool_down_seconds
        self._now = now
        self._circuits: dict[str, _Circuit] = {}  # of files that failed and did not go well since
        self._failing: dict[str, None] = {}

    def attempts(self, name: str, attempts: int) -> int:
        """How often to try a file: `attempts`, once after its circuit was open, not at all while it is."""
        if not self._circuits:
            return attempts
        for circuit in filter(None, (self._circuits.get(name), self._circuits.get(_FOLDER))):
            if circuit.num_failures >= self._max_failures:
                if self._now() < circuit.open_until:
                    return 0
                attempts = 1
        return attempts

    def detail(self, name: str) -> str:
        """What went wrong last, of a file that is not to be tried."""
        circuit = self._circuits.get(name) or self._circuits.get(_FOLDER)
        return circuit.detail if circuit else ""

    def succeeded(self, name: str) -> None:
        """A read of this file went well, and so the folder is reached."""
        if self._circuits:
            self._failing.clear()
            self._circuits.pop(name, None)
            self._circuits.pop(_FOLDER, None)

    def failed(self, name: str, detail: str) -> None:
        """A read of this file failed, after all its attempts."""
        self._count(name, detail)
        if name not in self._failing:
            self._failing[name] = None
            self._count(_FOLDER, detail)
        elif len(self._failing) >= self._max_failures:
            self._count(_FOLDER, detail)

    def _count(self, name: str, detail: str) -> None:
        circuit = self._circuits.setdefault(name, _Circuit())
        circuit.num_failures += 1
        circuit.detail = detail
        if circuit.num_failures >= self._max_failures:
            circuit.open_until = self._now() + self._cool_down_seconds
