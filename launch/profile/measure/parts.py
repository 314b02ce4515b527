"""Seconds of each part of a step. The device is waited for at every change of part, and in this pass alone."""

import time
from collections.abc import Callable

from triptych.launch.profile.measure.rig import Rig
from triptych.launch.profile.record import PARTS


class PartTimes:
    """A listener that adds up each part's seconds, the device's work included."""

    def __init__(self, wait: Callable[[], None], now: Callable[[], float] = time.perf_counter) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._wait, self._now = wait, now
        self._part = "other"
        self._wait()
        self._began = self._now()

    def __call__(self, part: str) -> None:
        self._wait()
        now = self._now()
        self.seconds[self._part] += now - self._began
        self._part, self._began = part, now


def timed_parts(rig: Rig, number: int) -> list[dict[str, float]]:
    """Part to seconds, of each of so many steps."""
    found = []
    for _ in range(number):
        times = PartTimes(rig.wait)
        rig.listen(times)
        rig.step()
        times("other")
        found.append(times.seconds)
    rig.listen(None)
    return found
