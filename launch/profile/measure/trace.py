"""Where the time of one step goes, by kernel (CUDA) or operator (CPU), from torch's profiler."""

import gzip
import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

STEP = "triptych: step"
MARK = "triptych: part "
KINDS = {
    "communication": r"nccl|gloo|c10d",
    "attention": r"attention|flash|fmha|sdpa",
    "matmul": r"gemm|matmul|cutlass|nvjet|cublas|xmma|splitk|aten::(addmm|mm|bmm|baddbmm|linear)$",
    "copies": r"memcpy|memset|aten::(copy_|_to_copy)$|direct_copy_kernel",
}
"""Kind to what the names of its kernels hold, in order; all others are "elementwise": also reductions and gathers."""

_ON_DEVICE = {"kernel", "gpu_memcpy", "gpu_memset"}

Event = Mapping[str, Any]


@dataclass(kw_only=True, slots=True, frozen=True)
class Span:
    """One kernel, or one operator without those that it calls. own: microseconds."""

    name: str
    start: float
    stop: float
    own: float


@dataclass(kw_only=True, slots=True, frozen=True)
class Breakdown:
    """Shares of the step's seconds by kind, "idle" where no kernel runs (on CPU: no operator); kernels that run side by
    side count each. top: name, seconds and number of calls, the longest first. launches: kernels or operators in all.
    """

    seconds: float
    shares: dict[str, float]
    top: list[tuple[str, float, int]]
    launches: int


@dataclass(kw_only=True, slots=True, frozen=True)
class TracedStep:
    """The complete events of a trace that began in its step, microseconds. marks: when a part began, in order."""

    start: float
    stop: float
    thread: Any
    events: list[Event]
    marks: list[tuple[float, str]]

    @property
    def on_device(self) -> list[Event]:
        """Kernels and copies; none on a CPU."""
        return [event for event in self.events if event.get("cat") in _ON_DEVICE]

    def part_at(self, moment: float) -> str:
        """What the host was at."""
        place = bisect_right(self.marks, moment, key=lambda mark: mark[0])
        return self.marks[place - 1][1] if place else "other"


def traced(
    step: Callable[[], object],
    wait: Callable[[], None],
    path: Path,
    listen: Callable[[Callable[[str], None] | None], None],
) -> TracedStep:
    """One step under the profiler; its trace is written to `path`, gzipped. Nothing is waited for inside the step."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    wait()
    listen(_mark)
    with torch.profiler.profile(activities=activities) as profiler, torch.profiler.record_function(STEP):
        step()
        wait()
    listen(None)
    profiler.export_chrome_trace(str(path))
    return read_trace(path)


def read_trace(path: Path) -> TracedStep:
    """The step of a gzipped Chrome trace."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return step_of(json.load(file)["traceEvents"])


def step_of(events: Iterable[Event]) -> TracedStep:
    """The one step that the events are of."""
    complete = [event for event in events if event.get("ph") == "X"]
    (step,) = (event for event in complete if event["name"] == STEP and event.get("cat") == "user_annotation")
    first, last = step["ts"], step["ts"] + step["dur"]
    inside = [event for event in complete if first <= event["ts"] < last]
    marks = sorted(
        (event["ts"], event["name"].removeprefix(MARK)) for event in inside if event["name"].startswith(MARK)
    )
    return TracedStep(start=first, stop=last, thread=step.get("tid"), events=inside, marks=marks)


def breakdown(step: TracedStep, num_top: int = 15) -> Breakdown:
    """Of a traced step. On CPU operators and gloo's collectives are counted, where CUDA has kernels."""
    spans = [_span(event) for event in step.on_device] or own_times(
        [event for event in step.events if event.get("cat") == "cpu_op" or event["name"].startswith("gloo:")]
    )
    calls = Counter(span.name for span in spans)
    by_name, by_kind = dict.fromkeys(calls, 0.0), dict.fromkeys([*KINDS, "elementwise"], 0.0)
    for span in spans:
        by_name[span.name] += span.own
        by_kind[kind_of(span.name)] += span.own
    wall = step.stop - step.start
    longest = sorted(by_name.items(), key=lambda entry: -entry[1])[:num_top]
    idle = max(0.0, 1 - covered([(span.start, min(span.stop, step.stop)) for span in spans]) / wall)
    return Breakdown(
        seconds=wall / 1e6,
        shares={kind: time / wall for kind, time in by_kind.items()} | {"idle": idle},
        top=[(name, time / 1e6, calls[name]) for name, time in longest],
        launches=len(spans),
    )


def kind_of(name: str) -> str:
    """matmul, attention, copies, communication or elementwise, by the name of a kernel or operator."""
    return next((kind for kind, words in KINDS.items() if re.search(words, name, re.IGNORECASE)), "elementwise")


def own_times(events: list[Event]) -> list[Span]:
    """Operators with the time of those that they call taken off. What a collective calls is the collective's."""
    spans: list[Span] = []
    open_calls: dict[Any, list[int]] = {}
    for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
        callers = open_calls.setdefault(event["tid"], [])
        while callers and spans[callers[-1]].stop <= event["ts"]:
            callers.pop()
        if callers and spans[callers[-1]].name.startswith("gloo:"):
            continue
        if callers:
            caller = spans[callers[-1]]
            own = caller.own - event["dur"]
            spans[callers[-1]] = Span(name=caller.name, start=caller.start, stop=caller.stop, own=own)
        callers.append(len(spans))
        spans.append(_span(event))
    return spans


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """How long at least one of them lasts."""
    return sum(stop - start for start, stop in merged(intervals))


def merged(intervals: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same moments as intervals that do not touch, in order."""
    found: list[tuple[float, float]] = []
    for start, stop in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((start, stop))
    return found


def without(interval: tuple[float, float], taken: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """What is left of an interval; taken: as `merged` returns them."""
    start, stop = interval
    left = []
    for first, last in taken:
        if last <= start or first >= stop:
            continue
        if first > start:
            left.append((start, first))
        start = max(start, last)
    return [*left, (start, stop)] if start < stop else left


def _span(event: Event) -> Span:
    return Span(name=event["name"], start=event["ts"], stop=event["ts"] + event["dur"], own=event["dur"])


def _mark(part: str) -> None:
    """A moment, not a range: on CUDA the backward pass is begun by one thread and ended by another."""
    with torch.profiler.record_function(MARK + part):
        pass
