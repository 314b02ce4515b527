"""Drills: a run meets a fault, ends or lives on, is started again, and must lose little, stay right and be named.

    python tests/drills/run_drills.py --drills 100 --table trainer/results/drills.md

Exit code 1 if any drill came out otherwise.
"""

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE.parent / "launch"), str(HERE)]

from drilling import References, carry_out  # noqa: E402
from judgement import Outcome  # noqa: E402
from launching import prepare_server  # noqa: E402
from plans import EVERY_TOKENS, TOTAL_TOKENS, Drill, planned  # noqa: E402
from scene import build_clock, can_make_networks, can_mount  # noqa: E402
from tiny_world import make_world  # noqa: E402

from triptych.kernels.provenance import processor  # noqa: E402
from triptych.launch.slurm.code_copy import copy_code  # noqa: E402

REPOSITORY = HERE.parents[1]
SEED = 7

HEAD = """# Drills

Written by `make drills`. {number} runs of about 25 steps ({total} tokens, a checkpoint every {every}) meet a fault at
a moment drawn from a seed: a rank waits inside that phase of a step until the fault has struck. Ranks are processes
forked from one that has imported everything, as srun would start them ("ranks") or under what torchrun's agent does
("agent"), or are started by the agent itself ("torchrun"). Each drill

* ends: the seconds are from the fault until no process was left (what was stopped for good is killed then), or until
  the run has finished, where it lives on;
* is told by `triptych postmortem --json`, before it is started again: what kind of fault, rank, step, sample;
* is started again by the same command and comes to its last token, thrown back by at most one interval between two
  checkpoints (0 by a stop); where the fault struck the newest checkpoint itself, which is then marked by *, from there
  (one that is held up while it is written is overtaken by more steps than an interval has);
* has logged the undisturbed run's numbers in every step of every start, bit for bit, and ends with its weights and
  moments. Where a step is skipped, the undisturbed run is one that leaves this step out; where samples cannot be
  read, one on sound shards that takes them for lost.

{hardware}; Python {python}, torch {torch}, DeepSpeed {deepspeed}, megatron-core {megatron}; gloo on CPU, one thread per
process; commit {commit}; {date}; {minutes:.1f} minutes at a load average of {load:.0f}, {at_once} drills at once.

"""
COLUMNS = ("drill", "kind", "layout", "launched as", "struck", "ends after", "named", "thrown back", "curve", "verdict")
DETAILS = {
    "worker": "its worker {}",
    "seconds": "{} s",
    "damage": "{}",
    "source": "{}",
    "side": "link of node {}",
    "jump_seconds": "{:+d} s",
    "kill": "then the other is killed",
}
"""A drill's details in its row."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Done:
    """A drill that was carried out, or was not: why."""

    drill: Drill
    outcome: Outcome
    skipped: str = ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--drills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--only", default="", help="numbers of drills, or part of a kind's name, with commas")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--patience", type=float, default=1.0, help="factor of all deadlines, for a busy machine")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no drill after so many; 0: all")
    parser.add_argument("--keep", type=Path, help="a folder for what drills that come out otherwise leave")
    parser.add_argument("--leave-out-faults", action="store_true", help="no fault strikes: every drill must fail")
    options = parser.parse_args()
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends processes, mounts and networks too
    with tempfile.TemporaryDirectory(prefix="drills") as name:
        last, wrong = "", 0
        for done, number in _each(options, Path(name), began):
            wrong = sum(bool(each.outcome.failures) for each in done)
            last = _summary(done, number)
            if options.table is not None:  # after each drill: what is stopped leaves the table of what it has done
                minutes = (time.monotonic() - began) / 60
                options.table.write_text(f"{_head(options, done, minutes)}{_table(done)}\n{last}\n")
    print(last, *([f"Table: {options.table}"] if options.table else []))
    return min(1, wrong)


def _summary(done, number):
    """The table's last line. number: of drills that there are to be."""
    wrong = sum(bool(each.outcome.failures) for each in done)
    skipped = sum(bool(each.skipped) for each in done)
    last = f"{wrong} of {len(done) - skipped} drills came out otherwise than they must"
    last += f"; {skipped} could not be carried out" if skipped else ""
    return f"{last}; stopped before the other {number - len(done)}." if len(done) < number else f"{last}."


def _each(options, folder, began):
    """Carry the drills out. Yields all that are done, in their order, after each, and how many there are to be."""
    copy_code(REPOSITORY, folder / "code", "0" * 40)
    prepare_server(folder / "code")
    world = make_world(folder / "world")
    references = References(folder, world, patience=options.patience)
    reasons = {"network down": can_make_networks(), "full disk": can_mount(folder / "world")}
    reasons["clock jump"] = None if build_clock(folder) else "needs a C compiler"
    chosen = [drill for drill in planned(options.drills, options.seed) if _is_chosen(drill, options.only)]
    for drill in chosen:  # not while others run
        if drill.kind not in ("NaN, skip", "corrupt shard"):
            references.of(drill, ())
    done = []

    def one(drill):
        late = options.minutes and time.monotonic() - began > 60 * options.minutes
        reason = reasons.get(drill.kind) or ("no time was left" if late else "")
        place = folder / f"drill{drill.number}"
        if reason:
            return Done(drill=drill, outcome=Outcome(), skipped=reason)
        strikes = not options.leave_out_faults
        outcome = carry_out(drill, place, world, references, patience=options.patience, strikes=strikes)
        if options.keep is not None and outcome.failures:
            shutil.copytree(place, options.keep / place.name, dirs_exist_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        return Done(drill=drill, outcome=outcome)

    with ThreadPoolExecutor(options.at_once) as pool:
        try:
            for future in as_completed([pool.submit(one, drill) for drill in chosen]):
                done.append(future.result())
                print(f"{len(done)}/{len(chosen)}", *_row(done[-1]), sep=" | ", flush=True)
                yield sorted(done, key=lambda each: each.drill.number), len(chosen)
        finally:
            pool.shutdown(cancel_futures=True)


def _is_chosen(drill, only):
    names = [each.strip() for each in only.split(",") if each.strip()]
    numbers = {int(each) for each in names if each.isdecimal()}
    return not names or drill.number in numbers or any(each in drill.kind for each in names if not each.isdecimal())


def _row(done):
    drill, outcome = done.drill, done.outcome
    moment = drill.moment
    who = "" if drill.victim is None else f"rank {drill.victim}"
    about = [
        DETAILS[name].format(value) for name, value in drill.detail.items() if name in DETAILS and value is not False
    ]
    if drill.trouble is not None:
        about.append(f"step {drill.trouble.step}")
    where = "" if moment is None else f"{moment.phase}, step {moment.step}"
    verdict = outcome.verdict or {}
    named = [verdict.get("kind", "no run")]
    named += [f"{name} {verdict[name]}" for name in ("rank", "step") if verdict.get(name) is not None]
    ended = "never" if outcome.ended_seconds is None else f"{outcome.ended_seconds:.1f} s"
    judged = (done.skipped and f"not done: {done.skipped}") or "; ".join(outcome.failures) or "right"
    return (
        str(drill.number),
        drill.kind,
        drill.layout,
        drill.launcher,
        ", ".join(filter(None, [who, *about, where])),
        "" if done.skipped else ended,
        "" if done.skipped else ", ".join(named),
        "" if done.skipped else f"{outcome.lost_tokens}{'*' if outcome.hit else ''}",
        outcome.curve,
        judged.replace("|", "/").replace("\n", " "),
    )


def _table(done):
    lines = [COLUMNS, ["---"] * len(COLUMNS), *map(_row, done)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _head(options, done, minutes):
    return HEAD.format(
        number=sum(not each.skipped for each in done),
        total=TOTAL_TOKENS,
        every=EVERY_TOKENS,
        hardware=f"{os.cpu_count()} cores ({processor()})",
        python=platform.python_version(),
        torch=version("torch"),
        deepspeed=version("deepspeed"),
        megatron=version("megatron-core"),
        commit=_commit(),
        date=time.strftime("%Y-%m-%d"),
        minutes=minutes,
        load=os.getloadavg()[2],
        at_once=options.at_once,
    )


def _commit():
    """Of the checkout, with a mark where files differ from it."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
