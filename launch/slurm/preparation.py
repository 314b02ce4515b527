"""What lies in a run's folder before its job is submitted: settings, code, script."""

import hashlib
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.configs.registry import named_run
from triptych.configs.tree import with_settings
from triptych.configs.trimodal import TrimodalRun
from triptych.launch.run_directory import RunDirectory
from triptych.launch.slurm.job import JobConfig
from triptych.launch.slurm.script import Script
from triptych.launch.sweep.folder import Asked, SweepFolder
from triptych.launch.sweep.grid import Point
from triptych.trainer.checkpoint.disk.folders import checkpoint_folder, complete_checkpoints
from triptych.trainer.parallel.refusal import require_layout
from triptych.trainer.scaling.scaling import require_sound_batches


@dataclass(kw_only=True, slots=True, frozen=True)
class Prepared:
    """A script where it lies, and what is not as it should be."""

    script: Path
    text: str
    warnings: tuple[str, ...]


def prepare_run(
    name: str, folder: Path, settings: Sequence[str], job: JobConfig, *, resume: bool, command: str
) -> Prepared:
    """Make a run's folder ready for a job. resume: of a run that has begun, `settings` on top of its own.

    A folder that was made ready before, and in which no job has begun, is made anew. ValueError, before anything is
    written, for settings or a layout that cannot be, and for a folder that holds a run, or none to resume.
    """
    folder = _sound(folder)
    directory = RunDirectory(folder=folder)
    run = with_settings(directory.read() if resume else named_run(name), settings)
    if run.name != name:
        raise ValueError(f"{folder} holds the run {run.name}, not {name}; name that run, or another --run-dir")
    warnings = _require_sound(run, job)
    if not resume:
        _clear_prepared(directory)
        directory.start(run, command)
    else:
        if not directory.code.exists():
            directory.copy_code()
        _require_it_goes_on(run, directory)
    script = Script(
        run=name,
        folder=folder,
        job=job,
        name=_job_name(folder),
        python=sys.executable,
        workdir=Path.cwd(),
        command=command,
        settings=tuple(settings) if resume else (),
    )
    return _written(script, warnings)


def prepare_sweep(
    name: str, folder: Path, points: Sequence[Point], asked: Asked, job: JobConfig, *, at_once: int, command: str
) -> Prepared:
    """Make a sweep's folder ready for an array of jobs, a point each. Points that are trained already stay as they are.

    ValueError, before anything is written, as `prepare_run`, and for a folder of another sweep.
    """
    if job.chain > 1:
        raise ValueError("--chain is for one run; the points of a sweep requeue themselves, leave it out")
    place = SweepFolder(folder=_sound(folder))
    if place.asked.exists():
        asked = place.read().joined(asked, place.folder)
    runs = {point.name: _point(name, point) for point in points}
    warnings = [line for run in runs.values() for line in _require_sound(run, job)]
    for point, run in runs.items():
        place.point(point).require_settings(run)
    code = RunDirectory(folder=place.folder)
    place.folder.mkdir(parents=True, exist_ok=True)
    if not code.code.exists():
        code.copy_code()
    place.write(asked)
    for point, run in runs.items():
        directory = place.point(point).run
        directory.folder.mkdir(parents=True, exist_ok=True)
        if not directory.code.exists():
            directory.code.symlink_to(Path("..") / ".." / code.code.name)
        if not directory.settings.exists():
            directory.start(run, command)
        _make_slurm_folder(directory.folder)
    listing = place.folder / "slurm" / "points.txt"
    _make_slurm_folder(place.folder)
    listing.write_text("".join(f"{place.point(point).folder}\n" for point in runs))
    script = Script(
        run=name,
        folder=place.folder,
        job=job,
        name=_job_name(place.folder),
        python=sys.executable,
        workdir=Path.cwd(),
        command=command,
        points=listing,
        num_points=len(runs),
        points_at_once=at_once,
    )
    return _written(script, list(dict.fromkeys(warnings)))


def _point(name: str, point: Point) -> TrimodalRun:
    try:
        run = with_settings(named_run(name), point.settings)
    except ValueError as error:
        raise ValueError(f"point {point.name}: {error}") from None
    if run.name != name:
        raise ValueError(f"--set name={run.name} is another run; sweep that one by its name")
    return run


def _require_sound(run: TrimodalRun, job: JobConfig) -> list[str]:
    """Warnings; ValueError for a layout or a batch that so many processes cannot have."""
    plan = run.plan(job.num_nodes * job.gpus_per_node)
    require_layout(plan)
    return list(require_sound_batches(run.fit, run.facts, plan.layout, plan.data_ranks))


def _clear_prepared(directory: RunDirectory) -> None:
    """Make way for a new beginning where none was begun: only what preparing has written is there."""
    begun = directory.checkpoints.exists() or directory.log(0).parent.exists()
    if directory.settings.exists() and (directory.folder / "slurm").exists() and not begun:
        shutil.rmtree(directory.code, ignore_errors=True)
        directory.settings.unlink()
    directory.require_unused()


def _require_it_goes_on(run: TrimodalRun, directory: RunDirectory) -> None:
    """ValueError for a run that has come to its end; one that is given a later end is finished no more."""
    found = complete_checkpoints(directory.checkpoints)
    if found and found[-1].name >= checkpoint_folder(directory.checkpoints, run.fit.total_tokens).name:
        raise ValueError(
            f"{directory.folder} has come to its end, {run.fit.total_tokens:,} tokens; add --set fit.total_tokens=... "
            "to go on"
        )
    directory.finished.unlink(missing_ok=True)


def _written(script: Script, warnings: Sequence[str]) -> Prepared:
    folder = _make_slurm_folder(script.folder)
    path = folder / "job.sbatch"
    path.write_text(script.text)
    path.chmod(0o755)
    return Prepared(script=path, text=script.text, warnings=tuple(warnings))


def _make_slurm_folder(folder: Path) -> Path:
    """Where logs go, without which Slurm fails a job and says nothing. Failures of before no longer count."""
    place = folder / "slurm"
    place.mkdir(parents=True, exist_ok=True)
    (place / "fruitless").unlink(missing_ok=True)
    return place


def _sound(folder: Path) -> Path:
    """The folder, absolute. ValueError for a name that a batch script cannot hold."""
    found = folder.absolute()
    for place in (found, Path.cwd()):
        if set(str(place)) & set("\"'\\\n$`#:,"):
            raise ValueError(
                f"{place} has one of \" ' \\ $ ` # : , or a line break in its name, which sbatch, PYTHONPATH or a "
                "container would take for something else; choose another folder"
            )
    return found


def _job_name(folder: Path) -> str:
    """A name for the jobs of this folder and of no other: they wait for each other by it."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name)[:40]
    return f"{readable}-{hashlib.sha256(str(folder).encode()).hexdigest()[:6]}"
