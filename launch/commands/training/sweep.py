"""`triptych sweep`: a run's grid of settings, trained point by point, and what came of it."""

import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from triptych.configs.registry import named_run
from triptych.configs.tree import with_settings
from triptych.configs.trimodal import TrimodalRun
from triptych.launch.display import Display, DisplayConfig, Speed
from triptych.launch.environment import placement
from triptych.launch.errors import INTERRUPTED
from triptych.launch.report.numbers import duration, fixed, short
from triptych.launch.run_directory import commit
from triptych.launch.signals import stop_requests
from triptych.launch.sweep.folder import Asked, Call, SweepFolder, asked_for
from triptych.launch.sweep.grid import SEED, Point, parse_grid, parse_variant, sweep_points
from triptych.launch.sweep.ledger import Ledger
from triptych.launch.sweep.processes import Ended, Job, latest, train_jobs
from triptych.launch.sweep.results import Reading
from triptych.trainer.parallel.refusal import require_layout
from triptych.trainer.scaling.scaling import require_sound_batches

FAILED = 1
SECONDS_BETWEEN_UPDATES = 1.0


def sweep(
    name: str,
    out: Path,
    *,
    settings: Sequence[str],
    grids: Sequence[str],
    variants: Sequence[str],
    num_processes: int,
    reading: Reading,
    reference: str | None,
    command: str,
) -> int:
    """Train every point that is not trained yet; the exit code: 1 if a point failed, 130 if it was stopped.

    ValueError, before anything is written, for a point that cannot run, a folder of another sweep, or a reference that
    is no group of two seeds or more.
    """
    if placement().world_size > 1:
        raise ValueError("a sweep starts processes of its own; start it without torchrun")
    if num_processes < 1:
        raise ValueError(f"--processes {num_processes} train nothing; give 1 or more")
    named = [parse_variant(text) for text in variants]
    points = sweep_points(name, settings=settings, variants=named, grids=[parse_grid(text) for text in grids])
    runs = [checked_run(name, point) for point in points]
    place = SweepFolder(folder=out)
    asked = asked_for(
        name, settings, named, points, Call(command=command, version=version("triptych"), commit=commit())
    )
    if place.asked.exists():
        asked = place.read().joined(asked, out)
    require_reference(asked, reference)
    jobs = [_job(name, point, run, place) for point, run in zip(points, runs, strict=True)]
    for job, run in zip(jobs, runs, strict=True):
        job.place.require_settings(run)
    with place.held() as descriptor:
        place.write(asked)
        return _train(jobs, Ledger(place, asked, reading, reference), num_processes, descriptor, command)


def checked_run(name: str, point: Point) -> TrimodalRun:
    """A point's settings as a run of one process. ValueError, naming the point, if it cannot run."""
    run = named_run(name)
    try:
        run = with_settings(run, point.settings)
        if run.name != name:
            raise ValueError(f"--set name={run.name} is another run; sweep that one by its name")
        plan = run.plan(1)
        require_layout(plan)
        require_sound_batches(run.fit, run.facts, plan.layout, plan.data_ranks)
    except ValueError as error:
        raise ValueError(f"point {point.name}: {error}") from None
    return run


def require_reference(asked: Asked, reference: str | None) -> None:
    """ValueError unless the reference is a group of this folder with two points or more."""
    if reference is None:
        return
    groups = [point.group for point in asked.points.values()]
    if reference not in groups:
        there = " or ".join(dict.fromkeys(groups))
        raise ValueError(f"--reference {reference} is no group of this sweep; name {there}")
    if groups.count(reference) < 2:
        raise ValueError(f"--reference {reference} has one seed, so no spread; add --grid {SEED}=0,1,2")


def _job(run: str, point: Point, settings: TrimodalRun, place: SweepFolder) -> Job:
    return Job(
        run=run,
        name=point.name,
        settings=point.settings,
        total_tokens=settings.fit.total_tokens,
        place=place.point(point.name),
    )


def _train(jobs: Sequence[Job], ledger: Ledger, num_processes: int, descriptor: int, command: str) -> int:
    waiting = [job for job in jobs if not _was_done(job, ledger)]
    with Display(DisplayConfig(seconds_between_lines=30.0)) as display, stop_requests() as stop_requested:
        if len(waiting) < len(jobs):
            display.message(f"{len(jobs) - len(waiting)} of {len(jobs)} points were done before")
        if waiting:
            with display.stage(f"sweep of {waiting[0].run}, {len(waiting)} points"):
                train_jobs(
                    waiting,
                    num_processes=num_processes,
                    descriptor=descriptor,
                    stop_requested=stop_requested,
                    ended=lambda ended: _record(ended, ledger, display),
                    under_way=_progress(waiting, display),
                )
    for path in ledger.write():
        print(path)
    num_done = sum(ledger.is_done(job.name) for job in jobs)
    if stop_requested() and num_done < len(jobs):
        print(f"stopped with {num_done} of {len(jobs)} points done; go on with: {command}")
        return INTERRUPTED
    if num_done < len(jobs):
        print(f"{len(jobs) - num_done} of {len(jobs)} points failed; try them again with: {command}")
        return FAILED
    return 0


def _was_done(job: Job, ledger: Ledger) -> bool:
    if not ledger.is_done(job.name) and job.place.is_trained(job.total_tokens):
        job.place.record("done")  # a sweep that was killed has left a run that went on to its end
        ledger.read(job.name)
    return ledger.is_done(job.name)


def _record(ended: Ended, ledger: Ledger, display: Display) -> None:
    """Keep and show how a point ended; one that was told to stop has not."""
    job = ended.job
    if ended.stopped:
        display.message(f"{job.name}: stopped at {short(latest(job.place)[0])} tokens")
        return
    job.place.record("failed" if ended.failure else "done", ended.failure)
    result = ledger.read(job.name)
    assert result is not None, "a point whose end was recorded has ended"
    ledger.write()
    count = f"{len(ledger.results)} of {ledger.num_points}"
    if ended.failure:
        display.message(f"{count}  {job.name}: failed: {ended.failure}")
    else:
        took = f"{short(result.tokens)} tokens in {duration(ended.seconds)}"
        display.message(f"{count}  {job.name}: loss {fixed(result.final, 4)}, {took}")


def _progress(jobs: Sequence[Job], display: Display) -> Callable[[Sequence[Job]], None]:
    """Shows how far all of `jobs` are together, and the last loss of those that are running."""
    tokens = {job.name: min(latest(job.place)[0], job.total_tokens) for job in jobs}
    total, began, before = sum(job.total_tokens for job in jobs), time.monotonic(), sum(tokens.values())
    seen, shown = set[str](), began

    def under_way(running: Sequence[Job]) -> None:
        nonlocal shown, before
        now = time.monotonic()
        if now - shown < SECONDS_BETWEEN_UPDATES:
            return
        shown, losses = now, {}
        names = {job.name for job in running}
        for job in jobs:
            if job.name in names:
                reached, metrics = latest(job.place)
                tokens[job.name] = min(reached, job.total_tokens)
                losses[job.name] = metrics.get("loss", float("nan"))
            elif job.name in seen:
                tokens[job.name] = job.total_tokens  # ended, well or not: there is nothing more to wait for
        seen.update(names)
        done = sum(tokens.values())
        if running and done < total:
            rate = max(0, done - before) / (now - began)
            display.update(tokens=done, total_tokens=total, metrics=losses, speed=Speed(tokens_per_second=rate))

    return under_way
