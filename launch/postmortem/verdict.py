"""From what a run has left to what went wrong first. No reading here."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from triptych.launch.postmortem.collectives import odd_collective
from triptych.launch.postmortem.evidence import LEFT, CheckpointState, Evidence, Rank, seconds_of
from triptych.trainer.health.judge import ROLLED_BACK, SKIPPED, SPIKE, STRAGGLER, UNHEALTHY
from triptych.trainer.loader.losses import LOST

Kind = Literal[
    "finished", "running", "stopped", "killed", "paused", "hung", "unhealthy", "diverged", "disk", "data", "checkpoint",
    "refused", "error", "never began",
]  # fmt: skip
Grade = Literal["good", "odd", "bad"]

FRESH_BEATS, FRESH_SECONDS = 5.0, 15.0
"""A heartbeat is fresh for so many beats, and at least so many seconds: file systems over a network show it late."""

SESSION_SECONDS = 60.0
"""For so long the ranks of one session end one after another."""

_KINDS: tuple[tuple[str, Kind], ...] = (
    (r"was stopped for \d+ s", "paused"),
    (r"no sign of life|connections closed|no answer from its store|has not joined|Connection closed by peer", "killed"),
    (r"^hung in|waits in another collective|have waited for each other", "hung"),
    (r"not finite|robust deviations", "unhealthy"),
    (r"ranks disagree|replicas differ|do not run the same", "diverged"),
    (r"disk space|No space left|quota|Read-only file system", "disk"),
    (r"samples could not be read|data worker|\bshards?\b", "data"),
    (r"\bcheckpoints?\b", "checkpoint"),
    (r"^interrupted|ended by SIGTERM", "stopped"),
)
"""What causes say, in the order in which they are looked for."""

_MENDS: dict[Kind, str] = {
    "killed": "look at that node's kernel log (dmesg) for a killed process or a failed device, then resume",
    "paused": "find out who stops processes there (SIGSTOP, a frozen container, a suspended machine), then resume",
    "hung": "read that rank's stack below: it names the line that does not return",
    "unhealthy": "look at the samples below; lower the learning rate or change fit.health, then resume",
    "diverged": "suspect that rank's hardware (memory, GPU) or other code there; leave its node out, then resume",
    "disk": "free disk space or quota, then resume: nothing half-written is left",
    "data": "mend or restore the shards below (triptych data verify), then resume",
    "checkpoint": "restore a sound checkpoint, then resume",
    "stopped": "nothing is wrong; go on with --resume",
    "refused": "do as the message says, then start again",
    "error": "read the traceback in the launcher's output; resume once it is mended",
    "never began": "look at the launcher's output: no process of the run has come to its first step",
}


@dataclass(kw_only=True, slots=True, frozen=True)
class Finding:
    """Something besides the verdict that one should know."""

    grade: Grade
    text: str


@dataclass(kw_only=True, slots=True, frozen=True)
class Verdict:
    """What became of a run. headline: one line. rank, step, place, collective, sample: of what went wrong first, as far
    as is known. cause: the run's own words. certainty: how the verdict is known.
    """

    kind: Kind
    grade: Grade
    headline: str
    rank: int | None = None
    host: str = ""
    step: int | None = None
    place: str = ""
    collective: str = ""
    sample: str = ""
    cause: str = ""
    certainty: str = ""
    mend: str = ""
    findings: tuple[Finding, ...] = ()


def judge(evidence: Evidence) -> Verdict:
    """The verdict over a run."""
    found = _of_an_end(evidence) or _of_a_good_end(evidence) or _of_silence(evidence)
    kind: Kind = found["kind"]
    collective = odd_collective(evidence.collectives)
    grade: Grade = "bad"
    if kind in ("finished", "running"):
        grade = "good"
    elif kind == "stopped":
        grade = "odd"
    if kind in ("killed", "paused", "hung", "error") and collective is not None:
        found.setdefault("collective", str(collective))
        if found.get("rank") is None and kind == "hung":
            found["rank"] = collective.absent[0]
    rank = evidence.ranks.get(found.get("rank", -1) if found.get("rank") is not None else -1)
    if rank is not None:
        found.setdefault("host", rank.beat.host if rank.beat else "")
        found.setdefault("step", rank.step)
        if not found.get("place") and rank.beat is not None and kind in ("killed", "paused", "hung"):
            found["place"] = rank.beat.place
    findings = tuple(_findings(evidence))
    if grade == "good" and any(finding.grade == "bad" for finding in findings):
        grade = "odd"
    return Verdict(grade=grade, mend=_MENDS.get(kind, ""), findings=findings, **found)


def _of_an_end(evidence: Evidence) -> dict[str, Any] | None:
    """Of the cause that ranks have written when they ended. A rank's own words come before others' about it."""
    ends = [(rank, rank.left) for rank in evidence.ranks.values() if rank.left and rank.left["event"] == "end"]
    if not ends or evidence.finished:
        return None
    own = [end for rank, end in ends if end.get("rank") == rank.number and "others have ended" not in end["cause"]]
    paused = [(rank, end) for rank, end in ends if re.search(_KINDS[0][0], str(end.get("cause", "")))]
    end = min((own or [end for _, end in ends]), key=seconds_of)
    cause = str(end.get("cause", ""))
    kinds: list[Kind] = [kind for pattern, kind in _KINDS if re.search(pattern, cause)]
    kind: Kind = kinds[0] if kinds else "error"
    if kind == "killed" and paused and paused[0][0].number == end.get("rank"):
        kind = "paused"  # it has come back, and says so itself
    if kind == "error" and end.get("code") == 2:
        kind = "refused"
    number = end.get("rank")
    found: dict[str, Any] = {"kind": kind, "rank": number, "host": end.get("host", ""), "place": end.get("place", "")}
    found |= {"cause": cause, "certainty": f"written by {len(ends)} of {evidence.world_size} ranks as they ended"}
    if step := re.search(r"(?:in|of) step (\d+)", cause) or re.search(r"after step (\d+)", found["place"]):
        found["step"] = int(step[1])
    if kind == "unhealthy":
        found["step"] = _first_of_a_row(evidence, found.get("step", 0))
        found["sample"] = _samples(evidence, found["step"])
        if named := re.search(r"rank (\d+)", cause):
            found["rank"] = int(named[1])
    if kind == "diverged" and (named := re.search(r"on rank (\d+)", cause)):
        found["rank"] = int(named[1])
    if kind == "data":
        found["sample"] = _first_lost(evidence)
    if number in evidence.ranks and kind not in ("refused", "checkpoint"):
        found.setdefault("step", evidence.ranks[number].step)
    elif number is None and kind == "disk" and evidence.ranks:  # a failed save is all ranks' own, and names no one
        found.setdefault("step", max(rank.step for rank in evidence.ranks.values()))
    found["headline"] = _headline(kind, found, evidence)
    return found


def _of_a_good_end(evidence: Evidence) -> dict[str, Any] | None:
    """Of a run that came to its last token, or was asked to stop and has."""
    left = [rank.left for rank in evidence.ranks.values() if rank.left]
    first = evidence.ranks.get(0)
    tokens = f"{first.tokens:,} tokens, step {first.step:,}" if first else "unknown tokens"
    if evidence.finished or (left and all(event["event"] == "finished" for event in left)):
        return {"kind": "finished", "headline": f"The run has finished: {tokens}", "certainty": "it says so itself"}
    if left and all(event["event"] == "stopped" for event in left):
        headline = f"The run was asked to stop, and did, with a checkpoint: {tokens}"
        return {"kind": "stopped", "headline": headline, "certainty": "every rank has left in order"}
    return None


def _of_silence(evidence: Evidence) -> dict[str, Any]:
    """Of a run that has written no end: it runs, or has died without a word."""
    beats = {number: rank.beat for number, rank in evidence.ranks.items() if rank.beat is not None}
    if not beats and (step := max((rank.step for rank in evidence.ranks.values()), default=0)):
        headline = f"The run came to step {step:,} by its logs, and has no heartbeats that tell when it ended"
        return {"kind": "killed", "headline": headline, "step": step, "certainty": "by its logs alone"}
    if not beats:
        return {"kind": "never began", "headline": "The run never began: no rank has left a sign"}
    age = {number: evidence.now - beat.time for number, beat in beats.items()}
    fresh = {n for n, beat in beats.items() if age[n] <= max(FRESH_SECONDS, FRESH_BEATS * beat.beat_seconds)}
    step = max(rank.step for rank in evidence.ranks.values())
    if len(fresh) == len(beats):
        still = max(beats.values(), key=lambda beat: beat.still_seconds)
        doing = f"step {still.step + 1:,}, {still.phase} for {still.still_seconds:.0f} s"
        headline = f"The run is running: {len(beats)} of {evidence.world_size} ranks show signs of life, {doing}"
        return {"kind": "running", "headline": headline, "step": step, "certainty": "by its heartbeats"}
    first = min(beats, key=lambda number: beats[number].time)
    last = max(beats.values(), key=lambda beat: beat.time)
    apart = last.time - beats[first].time
    found: dict[str, Any] = {"kind": "killed", "step": evidence.ranks[first].step, "place": beats[first].place}
    found["cause"] = evidence.hints[0].meaning if evidence.hints else ""
    why = f": {found['cause']}" if found["cause"] else ""
    if len(beats) > 1 and apart > 2 * beats[first].beat_seconds + 1:
        found |= {"rank": first, "host": beats[first].host}
        found["certainty"] = f"its heartbeat stopped {apart:.0f} s before the last of the others"
        found["headline"] = f"Rank {first} ({beats[first].host}) fell silent first, after step {found['step']:,}{why}"
        return found
    whole = "the process" if evidence.world_size == 1 else "all ranks"
    found["certainty"] = "no rank has written a cause, and the heartbeats stopped together"
    found |= {"rank": 0, "host": beats[first].host} if evidence.world_size == 1 else {}
    found["headline"] = f"Without a word, {whole} ended after step {found['step']:,}{why}"
    return found


def _headline(kind: Kind, found: dict[str, Any], evidence: Evidence) -> str:
    number = found["rank"]
    who = "The run" if number is None else f"Rank {number}" + (f" ({found['host']})" if found["host"] else "")
    if evidence.world_size == 1 and number == 0:
        who = "The run"
    step = f" after step {found['step']:,}" if found.get("step") is not None else ""
    words: dict[Kind, str] = {
        "killed": f"{who} was killed, or its node was lost{step}"
        if "connection" in found["cause"]
        else f"{who} fell silent{step}: stopped (SIGSTOP, a frozen container), or its node was lost",
        "paused": f"{who} was stopped and came back too late{step}",
        "hung": f"{who} hung{step}" if number is not None else f"All ranks waited for each other{step}",
        "unhealthy": f"{who} had a loss or gradient that is not as it should be, in step {found.get('step', '?')}",
        "diverged": f"{who} is no longer the same run as the others{step}",
        "disk": f"{who} was refused by its disk{step}",
        "data": f"{who} could not read its data{step}",
        "checkpoint": f"{who} could not go on from or write a checkpoint{step}",
        "stopped": f"{who} was ended by a signal{step}",
        "refused": f"{who} was refused{step}",
    }
    return words.get(kind, f"{who} failed{step}")


_TROUBLES = {
    UNHEALTHY: "steps at which fit.health stopped the run",
    ROLLED_BACK: "times the run went back to a checkpoint",
    SKIPPED: "steps were left out by the optimizer",
    SPIKE: "spikes of loss or gradient were noted",
}


def _findings(evidence: Evidence) -> Iterator[Finding]:
    events = [event for rank in evidence.ranks.values() for event in rank.events]
    for name, text in _TROUBLES.items():
        steps = {event["step"]: event.get("cause", "") for event in events if event.get("event") == name}
        if steps:
            first = min(steps)
            grade: Grade = "bad" if name == UNHEALTHY else "odd"
            yield Finding(grade=grade, text=f"{len(steps):,} {text}; the first in step {first:,}: {steps[first]}")
    for event in events:
        if event.get("event") == STRAGGLER:
            slow, usual = event["seconds"], event["median_seconds"]
            text = f"{event['who']} was slow by itself in step {event['step']:,}: {slow:.3g} s, median {usual:.3g} s"
            yield Finding(grade="odd", text=text)
    lost = {_lost_key(event): event for event in events if event.get("event") == LOST}
    if lost:
        text = f"{len(lost):,} samples could not be read; the first: {_first_lost(evidence)}"
        yield Finding(grade="odd", text=text)
    for event in events:
        if event.get("event") == "checkpoint":
            yield Finding(grade="odd", text=str(event.get("cause", "")))
    for state in evidence.checkpoints:
        if state.fault is not None:
            yield Finding(
                grade="bad", text=f"checkpoint {state.name} is damaged: {state.fault}{_instead(evidence, state)}"
            )
    for hint in evidence.hints:
        yield Finding(grade="odd", text=f"{hint.meaning} ({hint.file}: {hint.line})")
    for rank in evidence.ranks.values():
        if rank.damage:
            yield Finding(grade="odd", text=f"{rank.name}: {rank.damage}")
    missing = sorted(set(range(evidence.world_size)) - evidence.ranks.keys())
    if missing:
        some = ", ".join(map(str, missing[:8])) + (" and more" if len(missing) > 8 else "")
        yield Finding(grade="odd", text=f"of {len(missing)} ranks nothing is here: {some}")


def _instead(evidence: Evidence, state: CheckpointState) -> str:
    sound = [other.name for other in evidence.checkpoints if other.fault is None and other.tokens < state.tokens]
    return f"; a resume goes on from {sound[-1]}" if sound else "; no older one is sound"


def _first_of_a_row(evidence: Evidence, step: int) -> int:
    """The step with which the trouble began that ended in `step`: the first of those skipped one after another."""
    skipped = {
        event["step"] for rank in evidence.ranks.values() for event in rank.events if event.get("event") == SKIPPED
    }
    while step - 1 in skipped:
        step -= 1
    return step


def _samples(evidence: Evidence, step: int) -> str:
    """Which samples the batch of a troubled step was of, a few of them."""
    events = [event for rank in evidence.ranks.values() for event in rank.events if event.get("step") == step]
    ids = [each for event in events if event.get("event") in _TROUBLES for each in event.get("samples", ())]
    told = ", ".join(_sample(each) for each in ids[:6]) + (f" and {len(ids) - 6} more" if len(ids) > 6 else "")
    return f"the batch of step {step:,}: {told}" if ids else ""


def _first_lost(evidence: Evidence) -> str:
    lost = [event for rank in evidence.ranks.values() for event in rank.events if event.get("event") == LOST]
    if not lost:
        return ""
    first = min(lost, key=lambda event: event.get("step", 0))
    return f"{_sample(first)} of {first.get('shard')}: {first.get('reason')} ({first.get('detail')})"


def _sample(facts: dict[str, Any]) -> str:
    return f"{facts.get('source')} {facts.get('sample')} (epoch {facts.get('epoch')})"


def _lost_key(event: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(event.get(name) for name in ("source", "epoch", "sample", "offset"))


def timeline(evidence: Evidence) -> list[tuple[dict[str, Any], list[Rank]]]:
    """All events but lost samples in the order of their time, each once, with the ranks that wrote it. Of a run that
    was resumed, ends that are further apart than ranks end one after another are those of different sessions.
    """
    written = [(event, rank) for rank in evidence.ranks.values() for event in rank.events if event["event"] != LOST]
    found: list[tuple[dict[str, Any], list[Rank]]] = []
    latest: dict[tuple[Any, ...], tuple[dict[str, Any], list[Rank]]] = {}
    for event, rank in sorted(written, key=lambda pair: seconds_of(pair[0])):
        about = event.get("cause", "") if event["event"] not in LEFT[1:] else ""
        key = (event["event"], event.get("step"), event.get("rank") if event["event"] == "end" else None, about)
        same = latest.get(key)
        if same is None or (event["event"] in LEFT and seconds_of(event) - seconds_of(same[0]) > SESSION_SECONDS):
            same = latest[key] = (event, [])
            found.append(same)
        same[1].append(rank)
    return found
