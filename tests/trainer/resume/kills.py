"""SIGKILL at a random moment of an attempt, and what was going on when it struck."""

import time
from dataclasses import dataclass

from triptych.trainer.checkpoint.disk.folders import complete_checkpoints

POLL_SECONDS = 0.001
MOMENTS = ("step", "write", "commit")


@dataclass(kw_only=True, slots=True, frozen=True)
class Kill:
    """When, and whom. moment: "step", after the count-th step told; "write", after the count-th folder has appeared in
    which a checkpoint is being written; "commit", after the count-th has got its name. delay_seconds: from then on.
    victims: the ranks, in the order in which they are killed.
    """

    moment: str
    count: int
    delay_seconds: float
    victims: tuple[int, ...]


@dataclass(kw_only=True, slots=True, frozen=True)
class Struck:
    """What a kill has met. step: the last one that was told of. during: what the checkpoint folder shows. newest:
    tokens of the checkpoint to resume from, None if there is none. others: how the ranks that were spared ended.
    """

    step: int
    during: str
    newest: int | None
    others: str


def random_kill(draw, num_ranks, *, moment, last_count):
    """A kill whose moment within a step, a write or the tidying after it is drawn evenly; half of them spare all ranks
    but one.
    """
    longest = {"step": 0.3, "write": 0.5, "commit": 0.05}[moment]
    victims = draw.sample(range(num_ranks), draw.choice([1, num_ranks]))
    count = draw.randint(1, last_count)
    return Kill(moment=moment, count=count, delay_seconds=draw.uniform(0.0, longest), victims=tuple(victims))


def run_and_kill(attempt, kill, *, timeout_seconds=120, patience_seconds=10):
    """Start the ranks, kill at the moment, and return what that met once none of them is left. The spared may take
    `patience_seconds` to end by themselves. AssertionError if the run ended first.
    """
    with attempt.start() as ranks:
        _wait_for(attempt, kill, ranks, time.monotonic() + timeout_seconds)
        time.sleep(kill.delay_seconds)
        assert any(code is None for code in ranks.codes), f"{attempt} had ended before {kill}: {attempt.tracebacks()}"
        ranks.kill(kill.victims)
        struck_at = time.monotonic()
        others = "all killed"
        if len(kill.victims) < len(ranks.processes):
            if ranks.wait(patience_seconds):
                others = f"failed within {time.monotonic() - struck_at:.1f} s"
            else:
                others = "still waiting, killed"
    curve, complete = attempt.curve, complete_checkpoints(attempt.checkpoints)
    return Struck(
        step=curve[-1]["step"] if curve else 0,
        during=_during(attempt.checkpoints, complete),
        newest=int(complete[-1].name.removeprefix("tokens-")) if complete else None,
        others=others,
    )


def _wait_for(attempt, kill, ranks, deadline):
    """Poll until the moment has come."""
    seen = set(_names(attempt.checkpoints))
    reached = 0
    while time.monotonic() < deadline:
        if kill.moment == "step":
            reached = len(attempt.curve)
        else:
            names = set(_names(attempt.checkpoints))
            beginning = ".partial-tokens" if kill.moment == "write" else "tokens"
            reached += sum(name.startswith(beginning) for name in names - seen)
            seen = (seen | names) if kill.moment == "commit" else names
        if reached >= kill.count:
            return
        assert any(code is None for code in ranks.codes), f"{attempt} had ended before {kill}: {attempt.tracebacks()}"
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"{attempt} did not come to {kill}")


def _names(folder):
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _during(folder, complete):
    partial = [name for name in _names(folder) if name.startswith(".partial-")]
    if any(name.startswith(".partial-dropped") for name in partial):
        return "deletion of an old checkpoint"
    if partial:
        files = len(list((folder / partial[0]).iterdir()))
        return f"write of {int(partial[0].rpartition('-')[2])}, {files} files begun"
    if len(complete) > 2:  # CheckpointConfig.keep_last
        return "between commit and deletion"
    return "no write"
