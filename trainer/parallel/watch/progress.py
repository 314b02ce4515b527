"""Whether the main thread gets on, as another thread can see it: which phase of a step it is in, and since when."""

import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from statistics import median
from types import FrameType
from typing import Literal

from triptych.trainer.metrics import StepRecord
from triptych.trainer.parallel.watch.silence import Silence

Phase = Literal["start", "data", "forward_backward", "step", "checkpoint", "samples", "evaluation", "between"]

PHASES: tuple[tuple[str, str, Phase], ...] = (
    ("trainer.loader.loader", "", "data"),
    ("trainer.engine.engine", "forward_backward", "forward_backward"),
    ("trainer.engine.engine", "step", "step"),
    ("trainer.checkpoint.store", "", "checkpoint"),
    ("launch.watching.samples", "", "samples"),
    ("trainer.evaluation.", "", "evaluation"),
)
"""Beginning of a module's name, function ("" is any), and what the main thread is at inside it; outermost first."""

SLOW: frozenset[Phase] = frozenset({"start", "checkpoint", "samples", "evaluation"})
"""Phases that may take far longer than a step."""

MEETINGS = ("torch.distributed.", "deepspeed.comm.", "megatron.core.pipeline_parallel.p2p_communication")
"""Modules in which nothing is done but wait for other ranks, and ours that wait for what they have begun: on a GPU a
collective returns at once, and who asks for its result waits.
"""
OUR_MEETINGS = ("trainer.parallel.groups", "trainer.parallel.agreement.agreement", "trainer.metrics")

WATCHERS = "trainer.parallel.watch."
"""Modules in which the main thread may be seen because it has to do with the watching."""

PACKAGE = "triptych."

KEPT_STEPS = 50


@dataclass(kw_only=True, slots=True, frozen=True)
class Whereabouts:
    """phase: of the step. place: innermost function of this package, "" if none. meets: whether it waits for others."""

    phase: Phase
    place: str
    meets: bool


def whereabouts(thread: int | None = None) -> Whereabouts:
    """Of the main thread, or another. It costs a walk up one stack, tens of microseconds, and that thread nothing."""
    frame: FrameType | None = sys._current_frames().get(thread or threading.main_thread().ident or 0)
    place, meets, is_in_loop = "", False, False
    phase: Phase | None = None
    while frame is not None:
        module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if module.startswith(PACKAGE):
            module = module.removeprefix(PACKAGE)
            meets = meets or (not place and module.startswith(OUR_MEETINGS))
            place = place or ("" if module.startswith(WATCHERS) else f"{module}.{function}")
            phase = _phase(module, function) or phase  # the outermost phase inside the loop decides
            is_in_loop = is_in_loop or module == "trainer.fit"
        elif not place:
            meets = meets or module.startswith(MEETINGS)
        frame = frame.f_back
    return Whereabouts(phase=phase or ("between" if is_in_loop else "start"), place=place, meets=meets)


def _phase(module: str, function: str) -> Phase | None:
    for beginning, name, phase in PHASES:
        if module.startswith(beginning) and name in ("", function):
            return phase
    return None


class Progress:
    """Follows one rank's steps. `note` is called by the main thread, everything else by one that watches it. has_begun:
    whether the main thread has been seen in a step.

    most_seconds: of a pause of the watcher itself that count, see `Silence`.
    """

    def __init__(self, most_seconds: float) -> None:
        self.step = self.tokens = 0
        self._seconds: deque[float] = deque(maxlen=KEPT_STEPS)
        self._silence = Silence(most_seconds)
        self.has_begun = False

    def note(self, record: StepRecord) -> None:
        """A step is done."""
        self.step, self.tokens = record.step, record.tokens
        self._seconds.append(record.seconds)
        self.has_begun = True

    def look(self) -> tuple[Whereabouts, float]:
        """Where the main thread is, and for how many seconds it has been in this phase of this step."""
        here = whereabouts()
        self.has_begun = self.has_begun or bool(self._seconds) or here.phase in ("data", "forward_backward", "step")
        if not self._seconds and here.phase not in SLOW:  # the first step compiles, and waits for whoever does
            here = Whereabouts(phase="start", place=here.place, meets=here.meets)
        return here, self._silence.look((len(self._seconds), self.step, here.phase), time.monotonic())

    @property
    def step_seconds(self) -> float:
        """Median of the last steps; 0 before the first."""
        return median(self._seconds) if self._seconds else 0.0
