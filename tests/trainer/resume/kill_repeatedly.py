"""Kill and resume many runs, damage the newest checkpoint of others, and write tables of what came out.

    python tests/trainer/resume/kill_repeatedly.py --repetitions 20 --table trainer/results/resume.md

Exit code 1 if any run came out otherwise than the uninterrupted one.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from attempts import Attempt
from comparison import Uninterrupted
from damage import KINDS
from layout_comparison import FP32_BOUNDS
from repetitions import CELLS, carry_out, carry_out_damaged, interrupted, planned

from triptych.kernels.provenance import processor

HEAD = """# Killed, resumed, compared

Written by `make test-resume`. {repetitions} runs of about 20 steps (a tri-modal model of 4 layers with dropout,
{total} tokens, a checkpoint every {every}, written in the background, the last two kept) are killed with
SIGKILL once or twice at random moments, all ranks or one of them (a spared rank then fails by itself: the
connection to its neighbour is gone), and resumed from the newest whole checkpoint to the end. Every step that
any attempt has told of, steps done again included, and the weights and moments of the last checkpoint are
compared with a run that was never interrupted.

* In one layout every bit must be the same: losses, metrics, gradient norms, weights, moments. So must every
  step before the first kill in any case.
* Where the layout changes, the bounds are those of the layouts' matrix: losses to {loss:g} relative, weights to
  {weights:g} absolute, exp_avg to {exp_avg:g} and exp_avg_sq to {exp_avg_sq:g} of the tensor's largest element,
  from the uninterrupted runs of the first layout and of the last; the larger of the two is shown.

Killed at step, during: the last step told, and what the checkpoint folder showed once no process was left. Runs
to be killed while they write have a disk that takes 3 ms longer for every box, flush, rename and deletion. Of
the {kills} kills, {in_write} were inside a write, {after} between a checkpoint's commit and the end of the
deletion of old ones.

{hardware}; Python {python}, torch {torch}, DeepSpeed {deepspeed}, megatron-core {megatron}; gloo on CPU, one
thread per process; commit {commit}; {date}; {minutes:.1f} minutes at a load average of {load:.0f} (these runs
are 1 to 4 processes).
"""
DAMAGED = """The run is killed at its 14th step and its newest checkpoint damaged at a random place; the resume
passes over it and says so in one line that names both checkpoints.
"""
COLUMNS = ("seed", "layouts, in the order of the attempts", "killed at step, during", "others", "resumed from")
DIFFERENCES = ("loss", "weights", "exp_avg", "exp_avg_sq")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, required=True)
    parser.add_argument("--table", type=Path, required=True)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uninterrupted = Uninterrupted(folder)
        killed, wrong = _killed(options.repetitions, folder, uninterrupted)
        damaged, wrong_damaged = _damaged(folder, uninterrupted)
    head = _head(options.repetitions, [row[2] for row in killed], (time.monotonic() - started) / 60)
    last = f"{wrong + wrong_damaged} of {len(killed) + len(damaged)} runs came out otherwise than they must."
    tables = [
        _table((*COLUMNS, *DIFFERENCES), killed),
        "## The newest checkpoint damaged\n",
        DAMAGED,
        _table(("seed", "layouts", "damage", "resumed from", *DIFFERENCES), damaged),
    ]
    options.table.write_text("\n".join([head, *tables, f"{last}\n"]))
    print(f"{last} Table: {options.table}")
    return min(1, wrong + wrong_damaged)


def _killed(num_repetitions, folder, uninterrupted):
    rows, wrong = [], 0
    for repetition in planned(num_repetitions):
        outcome = carry_out(repetition, folder, uninterrupted)
        wrong += not outcome.is_right(repetition)
        rows.append(
            [
                str(repetition.seed),
                _layouts(repetition.cells),
                "; ".join(f"{each.step}, {each.during}" for each in outcome.struck),
                "; ".join(each.others for each in outcome.struck),
                "; ".join("the start" if each.newest is None else str(each.newest) for each in outcome.struck),
                *_differences(outcome),
            ]
        )
        print(f"{len(rows)}/{num_repetitions}", *rows[-1], sep=" | ", flush=True)
    return rows, wrong


def _damaged(folder, uninterrupted):
    rows, wrong = [], 0
    alone, two, stages = CELLS[1], CELLS[2], CELLS[6]
    runs = {cell: interrupted(folder / f"before{number}", cell) for number, cell in enumerate((alone, two))}
    for seed, kind in enumerate([*KINDS, *KINDS]):
        before, after = ((alone, alone), (two, stages))[seed // len(KINDS)]
        outcome = carry_out_damaged(runs[before], folder / f"damaged{seed}", kind, seed, after, uninterrupted)
        right = outcome.before.is_none if before == after else outcome.before.is_small and outcome.after.is_small
        wrong += not right
        rows.append([str(seed), _layouts((before, after)), outcome.told, _tokens(outcome.used), *_differences(outcome)])
        print("damaged", *rows[-1], sep=" | ", flush=True)
    return rows, wrong


def _layouts(cells):
    if len(set(cells)) == 1:
        return f"{cells[0]}, {len(cells)} times"
    return ", then ".join(map(str, cells))


def _tokens(checkpoint):
    return str(int(checkpoint.removeprefix("tokens-")))


def _differences(outcome):
    for name in DIFFERENCES:
        larger = max(getattr(outcome.before, name), getattr(outcome.after, name))
        yield f"{larger:.1e}" if larger else "0"


def _table(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _head(repetitions, struck, minutes):
    met = "; ".join(struck).split("; ")
    return HEAD.format(
        repetitions=repetitions,
        kills=len(met),
        in_write=sum(", write of" in each for each in met),
        after=sum("deletion" in each for each in met),
        load=os.getloadavg()[2],
        total=Attempt.__dataclass_fields__["total_tokens"].default,
        every=Attempt.__dataclass_fields__["every_tokens"].default,
        **FP32_BOUNDS,
        hardware=f"{os.cpu_count()} cores ({processor()})",
        python=platform.python_version(),
        torch=version("torch"),
        deepspeed=version("deepspeed"),
        megatron=version("megatron-core"),
        commit=_commit(),
        date=time.strftime("%Y-%m-%d"),
        minutes=minutes,
    )


def _commit():
    """Of the checkout, with a mark where files differ from it."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
