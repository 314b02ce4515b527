"""Where the time of one step goes, by kernel (CUDA) or operator (CPU), from torch's profiler."""

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

STEP = "triptych step"
KINDS = {
    "attention": r"attention|flash|fmha|sdpa",
    "matmul": r"gemm|matmul|cutlass|nvjet|cublas|xmma|splitk|aten::(addmm|mm|bmm|baddbmm|linear)$",
    "communication": r"nccl|gloo|c10d",
    "copies": r"memcpy|memset|aten::(copy_|_to_copy)$|direct_copy_kernel",
}
"""Kind to what the names of its kernels hold, in order; all others are "elementwise": also reductions and gathers."""

_ON_DEVICE = {"kernel", "gpu_memcpy", "gpu_memset"}


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


def profiled(step: Callable[[], object], wait: Callable[[], None], path: Path) -> Breakdown:
    """One step under the profiler; its trace is written to `path`, gzipped."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    wait()
    with torch.profiler.profile(activities=activities) as profiler, torch.profiler.record_function(STEP):
        step()
        wait()
    profiler.export_chrome_trace(str(path))
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return breakdown(json.load(file)["traceEvents"])


def breakdown(events: Iterable[Mapping[str, Any]], num_top: int = 15) -> Breakdown:
    """Of the events of a Chrome trace that lie in the step. On CPU operators are counted, where CUDA has kernels."""
    complete = [event for event in events if event.get("ph") == "X"]
    (step,) = (event for event in complete if event["name"] == STEP and event.get("cat") == "user_annotation")
    first, last = step["ts"], step["ts"] + step["dur"]
    inside = [event for event in complete if first <= event["ts"] < last]
    spans = [_span(event) for event in inside if event.get("cat") in _ON_DEVICE] or _own_times(
        [event for event in inside if event.get("cat") == "cpu_op"]
    )
    calls = Counter(span.name for span in spans)
    by_name, by_kind = dict.fromkeys(calls, 0.0), dict.fromkeys([*KINDS, "elementwise"], 0.0)
    for span in spans:
        by_name[span.name] += span.own
        by_kind[kind_of(span.name)] += span.own
    wall = last - first
    longest = sorted(by_name.items(), key=lambda entry: -entry[1])[:num_top]
    return Breakdown(
        seconds=wall / 1e6,
        shares={kind: time / wall for kind, time in by_kind.items()} | {"idle": 1 - _covered(spans) / wall},
        top=[(name, time / 1e6, calls[name]) for name, time in longest],
        launches=len(spans),
    )


def kind_of(name: str) -> str:
    """matmul, attention, copies, communication or elementwise, by the name of a kernel or operator."""
    return next((kind for kind, words in KINDS.items() if re.search(words, name, re.IGNORECASE)), "elementwise")


def _span(event: Mapping[str, Any]) -> Span:
    return Span(name=event["name"], start=event["ts"], stop=event["ts"] + event["dur"], own=event["dur"])


def _own_times(events: list[Mapping[str, Any]]) -> list[Span]:
    """Operators with the time of those that they call taken off."""
    spans: list[Span] = []
    open_calls: dict[Any, list[int]] = {}
    for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
        callers = open_calls.setdefault(event["tid"], [])
        while callers and spans[callers[-1]].stop <= event["ts"]:
            callers.pop()
        if callers:
            caller = spans[callers[-1]]
            own = caller.own - event["dur"]
            spans[callers[-1]] = Span(name=caller.name, start=caller.start, stop=caller.stop, own=own)
        callers.append(len(spans))
        spans.append(_span(event))
    return spans


def _covered(spans: Iterable[Span]) -> float:
    """Microseconds in which at least one of them runs."""
    covered, end = 0.0, float("-inf")
    for span in sorted(spans, key=lambda span: span.start):
        covered += max(0.0, span.stop - max(span.start, end))
        end = max(end, span.stop)
    return covered
