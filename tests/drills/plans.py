"""What is done in each drill, drawn once from a seed: 100 drills are the same 100 on every machine."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from moments import Moment
from troubles import Trouble

LAYOUTS = {"1": 1, "dp2": 2, "tp2": 2, "dp2 tp2": 4}
"""Ranks of each."""

TOTAL_TOKENS, EVERY_TOKENS = 9600, 2000
"""About 25 steps, a checkpoint after every fifth or so: the second after the eleventh."""
FIRST_STEP, LAST_STEP = 2, 15
PHASES = ("data wait", "forward", "step", "checkpoint", "between")


@dataclass(kw_only=True, slots=True)
class Drill:
    """One drill. launcher: "ranks" are started as by srun, rank 0 serving the store; "agent" is forked ranks under
    what torchrun's agent does; "torchrun" is the agent itself, in new processes. victim: the rank that is struck, None
    for all. moment: at which a rank waits for the fault; None where no fault strikes from outside. detail: of the kind.
    """

    number: int = 0
    kind: str
    layout: str
    launcher: str = "ranks"
    victim: int | None = None
    moment: Moment | None = None
    delay_seconds: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    trouble: Trouble | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def num_ranks(self):
        return LAYOUTS[self.layout]


def planned(number, seed):
    """So many drills of all kinds, in their shares of a hundred, shuffled."""
    draw = random.Random(seed)
    kinds = [kind for kind, (share, _) in SHARES.items() for _ in range(share)]
    draw.shuffle(kinds)
    drills = []
    turns = dict.fromkeys(SHARES, 0)
    for at in range(number):
        kind = kinds[at % len(kinds)]
        drill = SHARES[kind][1](draw, turns[kind])
        drill.number, turns[kind] = at, turns[kind] + 1
        drills.append(drill)
    return drills


def _layout(draw, *, least=1):
    return draw.choice([name for name in ("1", "dp2", "dp2", "tp2", "dp2 tp2") if LAYOUTS[name] >= least])


def _launcher(draw, layout):
    return "ranks" if layout == "1" else draw.choice(["ranks", "agent"])


def _moment(draw, phase, rank, **more):
    return Moment(phase=phase, step=draw.randint(FIRST_STEP, LAST_STEP), rank=rank, **more)


def _struck(draw, kind, layout, victim, phase, *, waits=None, **more):
    """A fault from outside, at a phase; waits: the rank that is held up there, the victim if not said."""
    rank = victim if waits is None else waits
    held = _moment(draw, phase, rank if rank is not None else 0, is_released=more.pop("is_released", True))
    launcher = more.pop("launcher", None) or _launcher(draw, layout)
    settings = more.pop("settings", {})
    if phase == "checkpoint":
        settings["fit__checkpoint__writing"] = draw.choice(["background", "blocking"])
    delay = draw.uniform(0.3, 1.0)
    options = {"victim": victim, "moment": held, "delay_seconds": delay, "launcher": launcher, "settings": settings}
    return Drill(kind=kind, layout=layout, **options, **more)


def _kill_rank(draw, turn):
    layout = _layout(draw, least=2)
    victim = draw.randrange(1, LAYOUTS[layout])
    return _struck(draw, "kill a rank", layout, victim, draw.choice(("set-up", *PHASES)))


def _kill_first(draw, turn):
    return _struck(draw, "kill rank 0", _layout(draw), 0, draw.choice(("start-up", *PHASES)))


def _kill_worker(draw, turn):
    layout = draw.choice(("1", "dp2", "tp2"))
    victim = draw.randrange(LAYOUTS[layout])
    number = draw.choice((1, 2))
    drill = _struck(draw, "kill a data worker", layout, victim, draw.choice(("forward", "between")))
    drill.settings["fit__loader__num_workers"] = number
    drill.detail["worker"] = draw.randrange(number)
    return drill


def _stop_for_good(draw, turn):
    layout = _layout(draw, least=2)
    victim = draw.randrange(LAYOUTS[layout])
    return _struck(draw, "SIGSTOP", layout, victim, draw.choice(PHASES))


def _pause(draw, turn):
    layout = _layout(draw)
    victim = draw.randrange(LAYOUTS[layout])
    drill = _struck(draw, "SIGSTOP, a while", layout, victim, draw.choice(PHASES))
    drill.detail["seconds"] = round(draw.uniform(1.0, 2.5), 1)
    return drill


def _pause_too_long(draw, turn):
    layout = _layout(draw, least=2)
    victim = draw.randrange(LAYOUTS[layout])
    return _struck(draw, "SIGSTOP, then SIGCONT", layout, victim, draw.choice(PHASES))


def _full_disk(draw, turn):
    layout = _layout(draw)
    waits = draw.randrange(LAYOUTS[layout])
    return _struck(draw, "full disk", layout, None, draw.choice(("checkpoint", "checkpoint", "between")), waits=waits)


def _corrupt_checkpoint(draw, turn):
    damages = ("truncated tensors", "flipped tensors", "missing tensors", "truncated index", "flipped index")
    drill = _struck(draw, "corrupt checkpoint", _layout(draw), None, "between")
    drill.moment = Moment(phase="between", step=draw.randint(13, 23), rank=0)
    drill.settings["fit__checkpoint__writing"] = "blocking"  # there are two then: the newest and a sound one
    drill.detail = {"damage": (*damages, "missing index")[turn % 6], "seed": draw.randrange(2**30)}
    return drill


def _corrupt_shard(draw, turn):
    """By turns damage that loses a sample, and damage that a start must refuse."""
    layout = _layout(draw)
    detail = {"source": draw.choice(("text", "digits", "speech")), "seed": draw.randrange(2**30)}
    detail["damage"] = "sample" if turn % 3 != 2 else "index"
    return Drill(kind="corrupt shard", layout=layout, launcher=_launcher(draw, layout), detail=detail)


def _nan(draw, turn):
    layout = draw.choice(("1", "dp2", "tp2"))
    step = draw.randint(5, LAST_STEP)
    remedy = ("skip", "stop", "roll_back", "skip", "weights")[turn % 5]
    settings = {"skip": {}, "weights": {}}.get(remedy, {"fit__health__not_finite": remedy})
    if remedy == "roll_back":
        settings["fit__health__after_rollback"] = "repeat"
    kind = {"skip": "objective always", "weights": "weights"}.get(remedy, "objective once")
    # What lies in one rank's rows is not-a-number there alone; ranks that share rows must agree on their loss.
    rank = draw.randrange(2) if layout == "dp2" and kind != "weights" else None
    drill = Drill(kind=f"NaN, {remedy}", layout=layout, launcher=_launcher(draw, layout), settings=settings)
    drill.trouble = Trouble(kind=kind, step=step, rank=rank)
    return drill


def _signal(name):
    def draw_signal(draw, turn):
        phase = ("start-up", "set-up", "data wait", "forward", "step", "checkpoint", "samples", "between")[turn % 8]
        layout = draw.choice(("1", "dp2")) if phase == "samples" else _layout(draw)
        launcher = "torchrun" if turn in (3, 7) else _launcher(draw, layout)
        layout = "dp2" if launcher == "torchrun" else layout
        waits = 0 if phase == "samples" else draw.randrange(LAYOUTS[layout])
        victim = draw.choice([None, draw.randrange(LAYOUTS[layout])]) if launcher == "ranks" else None
        settings = {"watch__samples_every_tokens": 1000, "watch__num_samples": 1} if phase == "samples" else {}
        drill = _struck(
            draw, name, layout, victim, phase, waits=waits, launcher=launcher, settings=settings,
            is_released=phase != "data wait",
        )  # fmt: skip
        drill.detail["signal"] = name
        return drill

    return draw_signal


def _network(draw, turn):
    launcher = ("ranks", "torchrun")[turn % 2]
    layout = draw.choice(("dp2", "tp2")) if launcher == "ranks" else "dp2"
    drill = _struck(draw, "network down", layout, None, draw.choice(("forward", "between")), waits=1, launcher=launcher)
    drill.detail["side"] = draw.randrange(2)
    return drill


def _clock(draw, turn):
    layout, victim = draw.choice(("dp2", "tp2")), draw.randrange(2)
    drill = _struck(draw, "clock jump", layout, victim, draw.choice(("forward", "between")), launcher="ranks")
    drill.detail = {"jump_seconds": draw.choice((-86_400, -3_600, 3_600, 86_400)), "kill": turn % 2 == 1}
    return drill


SHARES: dict[str, tuple[int, Callable[[random.Random, int], Drill]]] = {
    "kill a rank": (11, _kill_rank),
    "kill rank 0": (10, _kill_first),
    "kill a data worker": (8, _kill_worker),
    "SIGSTOP": (6, _stop_for_good),
    "SIGSTOP, a while": (4, _pause),
    "SIGSTOP, then SIGCONT": (4, _pause_too_long),
    "full disk": (7, _full_disk),
    "corrupt checkpoint": (12, _corrupt_checkpoint),
    "corrupt shard": (6, _corrupt_shard),
    "NaN": (10, _nan),
    "SIGTERM": (8, _signal("SIGTERM")),
    "SIGUSR1": (8, _signal("SIGUSR1")),
    "network": (3, _network),
    "clock": (3, _clock),
}
"""How many of a hundred, and how one is drawn."""
