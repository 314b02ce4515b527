"""From what all ranks show of themselves to whether they hang, and which of them lets the others wait. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from triptych.trainer.parallel.watch.obituary import Obituary
from triptych.trainer.parallel.watch.progress import SLOW, Phase, Whereabouts


@dataclass(kw_only=True, slots=True, frozen=True)
class HangLimits:
    """When a rank counts as not getting on. seconds: in one phase of a step, and at least `steps` median steps; 0 is
    never. slow_seconds: in a phase that may take long: the start, a checkpoint, samples, an evaluation.
    """

    seconds: float
    steps: float
    slow_seconds: float

    def of(self, phase: Phase, step_seconds: float) -> float:
        """Seconds that a phase may take; infinite if nothing is ever too long."""
        if not self.seconds:
            return float("inf")
        return self.slow_seconds if phase in SLOW else max(self.seconds, self.steps * step_seconds)


@dataclass(kw_only=True, slots=True, frozen=True)
class Stance:
    """What a rank shows. still_seconds: for which it has been in this phase of this step."""

    host: str
    step: int
    here: Whereabouts
    still_seconds: float

    @property
    def place(self) -> str:
        return f"after step {self.step}, in {self.here.place or 'no code of ours'}"


def hang(stances: Mapping[int, Stance], limits: HangLimits, step_seconds: float) -> Obituary | None:
    """Who lets the others wait, once nobody gets on; None as long as anybody may still.

    Ranks that wait in a collective are victims. Those that do not are the cause; if all do, those that wait in another
    place, as they have passed the others by or never came.
    """
    for stance in stances.values():
        # The others may have waited for as long as a slow one has been at it, and each looks at its own time.
        if stance.still_seconds < limits.of(stance.here.phase, step_seconds) / 2:
            return None
    longest = max(stance.still_seconds for stance in stances.values())
    absent = [rank for rank, stance in stances.items() if not stance.here.meets]
    if absent:
        culprit = max(absent, key=lambda rank: stances[rank].still_seconds)
        doing = f"hung in {_words(stances[culprit].here.phase)} for {longest:.0f} s"
        waiting = "" if len(stances) == 1 else ", while the others wait for it in a collective"
        if len(absent) > 1:
            waiting = f"; so are {len(absent) - 1} other ranks"
        return _obituary(culprit, stances[culprit], f"{doing}{waiting}")
    places: dict[str, list[int]] = {}
    for rank, stance in stances.items():
        places.setdefault(stance.here.place, []).append(rank)
    if len(places) > 1:
        culprit = min(places.values(), key=len)[0]
        usual = max(places, key=lambda place: len(places[place]))
        return _obituary(culprit, stances[culprit], f"waits in another collective than the others, who are in {usual}")
    cause = f"all ranks have waited for each other in {next(iter(places)) or 'a collective'} for {longest:.0f} s: "
    return Obituary(rank=None, cause=f"{cause}look at the network between their nodes, and at the stacks in dumps/")


def _obituary(rank: int, stance: Stance, cause: str) -> Obituary:
    return Obituary(rank=rank, host=stance.host, cause=f"{cause}; stacks are in dumps/", place=stance.place)


def _words(phase: Phase) -> str:
    named: dict[Phase, str] = {
        "forward_backward": "the forward and backward pass",
        "step": "the optimizer's step",
        "between": "the loop",
        "data": "its data",
    }
    return named.get(phase, phase)
