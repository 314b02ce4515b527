"""Collectives of a traced step: how long they run, and how much of that nothing else is computed meanwhile.

On CUDA they are NCCL's kernels, and computation is every other kernel. On a CPU they are gloo's, which run in threads
of their own, and computation is what the step's thread does in operators of torch. A kernel that waits for another
process runs, too: time lost to a slower neighbour, or to a pipeline's bubble, is communication here.
"""

import re
from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from triptych.launch.profile.measure.trace import Event, TracedStep, covered, merged, without
from triptych.launch.profile.record import PARTS

COLLECTIVES = {
    "reduce-scatter": r"reduce_?scatter",
    "all-reduce": r"all_?reduce",
    "all-gather": r"all_?gather",
    "all-to-all": r"all_?to_?all",
    "broadcast": r"broadcast",
    "send and receive": r"send|recv",
    "reduce": r"reduce",
}
"""Name to what the names of its kernels hold, in order."""

_WRAPPERS = ("autograd::", "c10d::")  # operators that may only be waiting inside


@dataclass(kw_only=True, slots=True, frozen=True)
class Communication:
    """Seconds. total: of all collectives, each counted; exposed: in which one runs and nothing is computed; kinds: by
    collective; exposed_in: share of each part's seconds that is exposed communication. On CUDA a part lasts as long as
    the host is at it, or its kernels run, whichever is longer: the host asks for them ahead of time.
    """

    total: float
    exposed: float
    kinds: dict[str, float]
    exposed_in: dict[str, float]


def communication(step: TracedStep) -> Communication:
    """Of a traced step."""
    collectives = [event for event in step.on_device if "nccl" in event["name"].lower()]
    launched = _launches(step.events) if step.on_device else {}
    if not step.on_device:
        collectives = [event for event in step.events if event["name"].startswith("gloo:")]
    computing = merged((event["ts"], event["ts"] + event["dur"]) for event in _computation(step))
    kinds: dict[str, float] = {}

    def part_of(event: Event, moment: float) -> str:
        return step.part_at(launched.get(event.get("args", {}).get("correlation"), moment))

    exposed = dict.fromkeys(PARTS, 0.0)
    taken = list(computing)
    for event in sorted(collectives, key=lambda event: event["ts"]):
        interval = (event["ts"], event["ts"] + event["dur"])
        name = collective_of(event["name"])
        kinds[name] = kinds.get(name, 0.0) + event["dur"] / 1e6
        for start, stop in without(interval, _near(taken, interval)):
            exposed[part_of(event, start)] += (stop - start) / 1e6
            insort(taken, (start, stop))
    running: dict[str, list[tuple[float, float]]] = {}
    for event in step.on_device:
        running.setdefault(part_of(event, event["ts"]), []).append((event["ts"], event["ts"] + event["dur"]))
    lasting = {part: max(each, covered(running.get(part, [])) / 1e6) for part, each in part_seconds(step).items()}
    return Communication(
        total=sum(kinds.values()),
        exposed=sum(exposed.values()),
        kinds=kinds,
        exposed_in={part: min(1.0, seconds / lasting[part]) for part, seconds in exposed.items() if lasting[part] > 0},
    )


def collective_of(name: str) -> str:
    """By the name of a kernel, or of gloo's."""
    return next((kind for kind, words in COLLECTIVES.items() if re.search(words, name, re.IGNORECASE)), "other")


def part_seconds(step: TracedStep) -> dict[str, float]:
    """Seconds that the host spent in each part of a traced step."""
    begins = [(step.start, "other"), *step.marks]
    ends = [moment for moment, _ in begins[1:]] + [step.stop]
    found = dict.fromkeys(PARTS, 0.0)
    for (start, part), stop in zip(begins, ends, strict=True):
        found[part] += (stop - start) / 1e6
    return found


def _computation(step: TracedStep) -> Iterable[Event]:
    if step.on_device:
        return (event for event in step.on_device if "nccl" not in event["name"].lower())
    mine = (event for event in step.events if event.get("cat") == "cpu_op" and event.get("tid") == step.thread)
    return (event for event in mine if "::" in event["name"] and not event["name"].startswith(_WRAPPERS))


def _launches(events: Iterable[Event]) -> dict[Any, float]:
    """Correlation to the moment at which the host asked for a kernel."""
    calls = (event for event in events if event.get("cat") in ("cuda_runtime", "cuda_driver"))
    return {event.get("args", {}).get("correlation"): event["ts"] for event in calls}


def _near(taken: list[tuple[float, float]], interval: tuple[float, float]) -> list[tuple[float, float]]:
    """Those that may meet the interval; they are in order and do not meet each other."""
    first = max(0, bisect_left(taken, (interval[0], interval[0])) - 1)
    return taken[first : bisect_left(taken, (interval[1], interval[1]))]
