"""`triptych train`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console

from triptych.configs.registry import named_run
from triptych.configs.tree import with_settings
from triptych.configs.trimodal import TrimodalRun
from triptych.launch.display import Display
from triptych.launch.environment import placement
from triptych.launch.many_processes import all_processes
from triptych.launch.run_directory import RunDirectory
from triptych.trainer.parallel.refusal import require_layout
from triptych.trainer.scaling.scaling import require_sound_batches


def train(
    name: str,
    run_dir: Path | None,
    settings: Sequence[str],
    *,
    going_on: Literal["never", "always", "if started"],
    show: Literal["description", "explanation"] | None,
    world_size: int | None,
    command: str,
) -> None:
    """Train a named run, go on with it, or show what it is. A resumed run keeps the settings that it was started with,
    `settings` on top. going_on: "if started" also begins a run that was only prepared or has no checkpoint yet, by its
    own settings. world_size: show the run on so many processes, instead of as many as there are.

    ValueError for a layout that does not fit, before any process group is opened.
    """
    place = placement()
    processes = all_processes(place)
    with processes.failing_together():
        if world_size is not None and (show is None or world_size < 1):
            raise ValueError(
                "--world-size is a number of processes for --describe or --explain; add one, or start them with "
                "torchrun"
            )
        directory = RunDirectory(folder=run_dir or Path("runs") / name, may_hold_start=going_on == "if started")
        # Decided once for all: what one node's file system shows, another's may not show yet.
        start = processes.agree("start", lambda: _start(directory, going_on))
        resume = start == "resumed"
        run = with_settings(named_run(name) if start == "new" else directory.read(), settings)
        if run.name != name:
            raise ValueError(
                f"{directory.folder} holds the run {run.name}, not {name}; name that run, or another --run-dir"
            )
        require_layout(run.plan(world_size or place.world_size))
        if show is not None:
            if place.rank == 0:
                _print(show, run, world_size or place.world_size)
            return
        plan = run.plan(place.world_size)
        for warning in require_sound_batches(run.fit, run.facts, plan.layout, plan.data_ranks):
            if place.rank == 0:
                print(f"triptych: warning: {warning}", file=sys.stderr)
        from triptych.launch.training import train as train_run
        from triptych.trainer.parallel.groups import process_groups

        with (
            processes.watched(run.fit.watch),
            process_groups(place, run.fit.parallel, store=processes.store) as groups,
            processes.failing_together(),  # again: groups whose processes are gone may never close
            Display(rank=place.rank) as display,
            display.stage(name),
        ):
            reporters = [*processes.reporters, display.reporter()]
            outcome = train_run(
                run, directory, groups, command=command, resume=resume, reporters=reporters, log_to=processes.log_to
            )
        if place.rank == 0:
            directory.note_end(outcome.tokens, stopped=outcome.stopped)
        if outcome.stopped and place.rank == 0:
            resuming = f"triptych train {name} --run-dir {directory.folder} --resume"
            print(f"stopped at {outcome.tokens:,} tokens; go on with: {resuming}")


def _start(directory: RunDirectory, going_on: Literal["never", "always", "if started"]) -> str:
    """What this is: a "new" run, one that was "prepared" and has no checkpoint, or one to be "resumed"."""
    if going_on != "if started":
        return "new" if going_on == "never" else "resumed"
    if not directory.settings.exists():
        return "new"
    return "resumed" if directory.can_resume else "prepared"


def _print(show: Literal["description", "explanation"], run: TrimodalRun, world_size: int) -> None:
    if show == "description":
        from triptych.launch.commands.training.description import print_description

        print_description(run, world_size, Console())
    else:
        from triptych.launch.commands.training.explanation import print_explanation

        print_explanation(run, world_size, Console())
