"""`triptych slurm`: a run, or every point of a sweep, as a job that can be read, submitted and requeued."""

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from triptych.launch.run_directory import commit
from triptych.launch.slurm.job import JobConfig
from triptych.launch.slurm.preparation import Prepared, prepare_run, prepare_sweep
from triptych.launch.sweep.folder import Call, asked_for
from triptych.launch.sweep.grid import parse_grid, parse_variant, sweep_points


def slurm(
    name: str,
    run_dir: Path | None,
    settings: Sequence[str],
    job: JobConfig,
    *,
    grids: Sequence[str],
    variants: Sequence[str],
    at_once: int,
    resume: bool,
    submit: bool,
    command: str,
) -> None:
    """Write the script into the folder and print it, or submit it. With grids or variants the folder is a sweep's.

    ValueError for what cannot run, before anything is written; OSError if sbatch is not there or refuses.
    """
    folder = run_dir or Path("runs") / name
    if grids or variants:
        if resume:
            raise ValueError("--resume is for one run; the points of a sweep go on by themselves, leave it out")
        named = [parse_variant(text) for text in variants]
        points = sweep_points(name, settings=settings, variants=named, grids=[parse_grid(text) for text in grids])
        call = Call(command=command, version=version("triptych"), commit=commit())
        asked = asked_for(name, settings, named, points, call)
        prepared = prepare_sweep(name, folder, points, asked, job, at_once=at_once, command=command)
    else:
        prepared = prepare_run(name, folder, settings, job, resume=resume, command=command)
    for warning in prepared.warnings:
        print(f"triptych: warning: {warning}", file=sys.stderr)
    if not submit:
        print(prepared.text, end="")
        print(f"triptych: submit it with: sbatch {prepared.script}", file=sys.stderr)
        return
    for _ in range(job.chain):  # each waits for those before it: their name is the same, and they ask for a singleton
        print(f"job {_submitted(prepared)}, log in {prepared.script.parent}")


def _submitted(prepared: Prepared) -> str:
    """Give the script to sbatch; the job's number."""
    try:
        done = subprocess.run(
            ["sbatch", "--parsable", str(prepared.script)], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ValueError(
            f"sbatch is not on PATH; submit from a login node of the cluster: sbatch {prepared.script}"
        ) from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise ValueError(f"sbatch refused {prepared.script} ({said}); change the options that it names")
    return done.stdout.strip().partition(";")[0]
