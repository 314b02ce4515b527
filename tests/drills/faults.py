"""How each kind of fault strikes a run, what becomes of the run, how it is mended, and what postmortem must say."""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moments import BEFORE_LOGS, BEFORE_STEPS
from scene import damage_shard, restore_shard

sys.path.append(str(Path(__file__).parent.parent / "trainer" / "resume"))

from damage import damage

LONGEST_SILENCE_SECONDS = 40.0
ANY = object()


@dataclass(kw_only=True, slots=True, frozen=True)
class Naming:
    """What the postmortem must say. kinds: one of them. rank, step, sample: of what went wrong; ANY where it may be
    whatever it likes. says: words that headline, cause or findings must hold, and of says_one_of one. is_refused: there
    is no run to speak of, and it must say so.
    """

    kinds: tuple[str, ...]
    rank: Any = ANY
    step: Any = ANY
    names_sample: bool = False
    says: tuple[str, ...] = ()
    says_one_of: tuple[str, ...] = ()
    is_refused: bool = False


@dataclass(kw_only=True, slots=True, frozen=True)
class Fault:
    """strike: what happens. survives: whether the run must come to its end by itself. spared: ranks that cannot end by
    themselves, by a rank. mend: what people do before they start it again. naming: of a drill whose fault has struck.
    loses_nothing: whether the run was asked to stop, and must resume where it stopped. codes: with which the processes
    may end; None for any.
    """

    strike: Callable[[Any], None] = lambda scene: None
    survives: bool = False
    leaves_stopped: bool = False
    mend: Callable[[Any], None] = lambda scene: None
    naming: Callable[[Any], Naming]
    loses_nothing: bool = False
    codes: frozenset[int] | None = None


def steps_done(scene):
    """The last step that the rank which waited had logged."""
    return scene.reached.get("steps_done", 0)


def _around(scene):
    """Steps that a fault may be said to have struck after: what was logged when it struck, or one that was finished
    meanwhile, and those of a background write.
    """
    done = steps_done(scene)
    last = max((record["step"] for record in scene.notes.get("records", ())), default=done)
    return tuple(range(done, max(done + 1, last) + 1))


def _kill(scene):
    scene.ranks.signal(scene.drill.victim, signal.SIGKILL)


def _killed(scene):
    phase = scene.drill.moment.phase
    if phase in BEFORE_LOGS:
        return Naming(kinds=("never began",), is_refused=True)
    kinds = ("killed", "never began") if phase in BEFORE_STEPS else ("killed",)
    return Naming(kinds=kinds, rank=scene.drill.victim, step=_around(scene))


def _kill_worker(scene):
    os.kill(scene.reached["workers"][scene.drill.detail["worker"]], signal.SIGKILL)


def _worker(scene):
    steps = tuple(range(steps_done(scene), steps_done(scene) + 8))  # what it had made ready is still used
    return Naming(kinds=("data",), rank=scene.drill.victim, step=steps, says=("data worker", "killed by signal 9"))


def _stop(scene):
    scene.ranks.signal(scene.drill.victim, signal.SIGSTOP)


def _stopped_for_good(scene):
    return Naming(kinds=("killed", "paused", "hung"), rank=scene.drill.victim, step=_around(scene))


def _pause(scene):
    scene.ranks.signal(scene.drill.victim, signal.SIGSTOP)
    time.sleep(scene.drill.detail["seconds"])
    scene.ranks.signal(scene.drill.victim, signal.SIGCONT)


def _pause_too_long(scene):
    scene.ranks.signal(scene.drill.victim, signal.SIGSTOP)
    scene.ranks.wait(LONGEST_SILENCE_SECONDS, besides=(scene.drill.victim,))
    scene.ranks.signal(scene.drill.victim, signal.SIGCONT)


def _paused(scene):
    return Naming(kinds=("paused", "killed"), rank=scene.drill.victim, step=_around(scene))


def _fill(scene):
    with (scene.folder / "disk" / "filler").open("wb", buffering=0) as file:
        for size in (2**20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def _disk(scene):
    return Naming(kinds=("disk",), step=_around(scene), says=("space",))


def _corrupt(scene):
    scene.ranks.signal_all(signal.SIGKILL)
    scene.ranks.wait(10)
    draw = random.Random(scene.drill.detail["seed"])
    scene.notes["damaged"] = newest = max(scene.checkpoints())
    (folder,) = (scene.run / "checkpoints").glob(f"tokens-*{newest}")
    scene.notes["done"] = damage(folder, scene.drill.detail["damage"], draw)


def _corrupted(scene):
    (name,) = [path.name for path in (scene.run / "checkpoints").glob(f"tokens-*{scene.notes['damaged']}")]
    return Naming(kinds=("killed",), step=_around(scene), says=(name, "damaged"))


def damage_data(scene):
    """Before the start: a shard of the drill's copy of the data."""
    detail = scene.drill.detail
    scene.notes["lost"] = damage_shard(scene.data, detail["damage"], detail["seed"], detail["source"])


def _restore(scene):
    restore_shard(scene.data, scene.notes["sound data"], scene.drill.detail["source"])


def _lost(scene):
    if scene.drill.detail["damage"] == "index":
        return Naming(kinds=("never began",), is_refused=True)
    samples = tuple(f"{source} {number} " for source, number in scene.notes["lost"])
    return Naming(kinds=("finished",), says=("could not be read", "checksum"), says_one_of=samples)


def _signal_those(scene):
    number = getattr(signal, scene.drill.detail["signal"])
    if scene.drill.victim is None:
        scene.ranks.signal_all(number)
    else:
        scene.ranks.signal(scene.drill.victim, number)


def _stopped(scene):
    phase = scene.drill.moment.phase
    if phase in BEFORE_LOGS:
        return Naming(kinds=("never began", "stopped"), is_refused=True)
    if phase in BEFORE_STEPS:
        return Naming(kinds=("stopped", "never began"))
    return Naming(kinds=("stopped",))


def _cut(scene):
    scene.set_link(scene.drill.detail["side"], "down")


def _join(scene):
    scene.set_link(scene.drill.detail["side"], "up")


def _parted(scene):
    return Naming(kinds=("killed", "hung"), step=_around(scene))


def _jump(scene):
    scene.clock.jump(scene.drill.detail["jump_seconds"])
    if scene.drill.detail["kill"]:
        time.sleep(1.0)
        scene.ranks.signal(1 - scene.drill.victim, signal.SIGKILL)


def _jumped(scene):
    if scene.drill.detail["kill"]:
        return Naming(kinds=("killed",), rank=1 - scene.drill.victim, step=_around(scene))
    return Naming(kinds=("finished",))


def _finished(scene):
    return Naming(kinds=("finished",))


def _skipped(scene):
    step = scene.drill.trouble.step
    return Naming(kinds=("finished",), says=("left out", f"step {step}"))


def _gone_back(scene):
    step = scene.drill.trouble.step
    return Naming(kinds=("finished",), says=("went back", f"step {step}"))


def _unhealthy(scene):
    step = scene.drill.trouble.step
    return Naming(kinds=("unhealthy",), step=(step,), rank=_or_any(scene.drill.trouble.rank), names_sample=True)


def _poisoned(scene):
    return Naming(kinds=("unhealthy",), step=tuple(range(scene.drill.trouble.step, scene.drill.trouble.step + 4)))


def _or_any(rank):
    return ANY if rank is None else rank


_STOP = Fault(strike=_signal_those, naming=_stopped, loses_nothing=True)

FAULTS = {
    "kill a rank": Fault(strike=_kill, naming=_killed),
    "kill rank 0": Fault(strike=_kill, naming=_killed),
    "kill a data worker": Fault(strike=_kill_worker, naming=_worker),
    "SIGSTOP": Fault(strike=_stop, naming=_stopped_for_good, leaves_stopped=True),
    "SIGSTOP, a while": Fault(strike=_pause, naming=_finished, survives=True),
    "SIGSTOP, then SIGCONT": Fault(strike=_pause_too_long, naming=_paused),
    "full disk": Fault(
        strike=_fill, naming=_disk, mend=lambda scene: (scene.folder / "disk" / "filler").unlink(missing_ok=True)
    ),
    "corrupt checkpoint": Fault(strike=_corrupt, naming=_corrupted),
    "corrupt shard": Fault(naming=_lost, survives=True),
    "corrupt index of a shard": Fault(naming=_lost, mend=_restore),
    "NaN, skip": Fault(naming=_skipped, survives=True),
    "NaN, stop": Fault(naming=_unhealthy),
    "NaN, roll_back": Fault(naming=_gone_back, survives=True),
    "NaN, weights": Fault(naming=_poisoned),
    "SIGTERM": _STOP,
    "SIGUSR1": _STOP,
    "network down": Fault(strike=_cut, naming=_parted, mend=_join),
    "clock jump": Fault(strike=_jump, naming=_jumped),
    "clock jump, survived": Fault(strike=_jump, naming=_jumped, survives=True),
}


def fault_of(drill):
    """A drill's; some kinds have two."""
    if drill.kind == "corrupt shard" and drill.detail["damage"] == "index":
        return FAULTS["corrupt index of a shard"]
    if drill.kind == "clock jump" and not drill.detail["kill"]:
        return FAULTS["clock jump, survived"]
    return FAULTS[drill.kind]


def read_verdict(printed):
    """The JSON that postmortem has printed; None if it is none."""
    try:
        return json.loads(printed)
    except json.JSONDecodeError:
        return None
