"""When steps have settled, and what they take then."""

import itertools
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from triptych.launch.profile.measure.rig import Rig

WINDOW = 3
TOLERANCE = 0.05
RULE = (
    f"steady: the median of the last {WINDOW} steps is within {TOLERANCE:.0%} of that of the {WINDOW} before, on every "
    "process"
)


def is_steady(seconds: Sequence[float]) -> bool:
    """By RULE, of all steps so far."""
    if len(seconds) < 2 * WINDOW:
        return False
    before = statistics.median(seconds[-2 * WINDOW : -WINDOW])
    return abs(statistics.median(seconds[-WINDOW:]) - before) <= TOLERANCE * before


def warm_up(rig: Rig, *, at_least: int, at_most: int) -> tuple[int, bool]:
    """Steps until all processes are steady: how many, and whether they were in the end. at_least is more than at_most
    where more are asked for than settling may take.
    """
    seconds: list[float] = []
    while len(seconds) < max(at_least, at_most):
        seconds += timed_steps(rig, 1)
        if len(seconds) >= at_least and not rig.groups.any_rank(not is_steady(seconds)):
            return len(seconds), True
    return len(seconds), False


def timed_steps(rig: Rig, number: int) -> list[float]:
    """Seconds of each of so many steps at full speed: on CUDA between events that the device passes, so that nothing is
    waited for before the last of them is done.
    """
    if rig.groups.device.type != "cuda":
        return [_seconds(rig.step) for _ in range(number)]
    rig.wait()
    passed = [torch.cuda.Event(enable_timing=True) for _ in range(number + 1)]
    passed[0].record()
    for event in passed[1:]:
        rig.step()
        event.record()
    rig.wait()
    return [start.elapsed_time(end) / 1e3 for start, end in itertools.pairwise(passed)]


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third, interpolated."""
    if len(values) < 2:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def _seconds(step: Callable[[], None]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started
