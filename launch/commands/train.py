"""`triptych train`."""

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from triptych.configs.registry import named_run
from triptych.configs.tree import to_yaml, with_settings
from triptych.configs.trimodal import TrimodalRun
from triptych.launch.display import Display
from triptych.launch.environment import placement
from triptych.launch.run_directory import RunDirectory


def train(
    name: str, run_dir: Path | None, settings: Sequence[str], *, resume: bool, describe: bool, command: str
) -> None:
    """Train a named run, go on with it, or describe it. A resumed run keeps the settings that it was started with,
    `settings` on top.
    """
    directory = RunDirectory(folder=run_dir or Path("runs") / name)
    run = with_settings(directory.read() if resume else named_run(name), settings)
    if run.name != name:
        raise ValueError(
            f"{directory.folder} holds the run {run.name}, not {name}; name that run, or another --run-dir"
        )
    if describe:
        print_description(run, Console())
        return
    from triptych.launch.training import train as train_run
    from triptych.trainer.parallel.groups import process_groups

    with process_groups(placement()) as groups, Display(rank=groups.placement.rank) as display, display.stage(name):
        outcome = train_run(run, directory, groups, command=command, resume=resume, reporters=[display.reporter()])
    if outcome.stopped:
        resuming = f"triptych train {name} --run-dir {directory.folder} --resume"
        print(f"stopped at {outcome.tokens:,} tokens; go on with: {resuming}")


def print_description(run: TrimodalRun, console: Console) -> None:
    """Settings, exact parameter counts per part, tokens. The model is built without memory for its weights."""
    from triptych.models.trimodal.counts import parameter_counts
    from triptych.trainer.parallel.groups import process_groups
    from triptych.trainer.parallel.placement import Placement

    console.print(to_yaml(run), highlight=False)
    with process_groups(Placement()) as groups, torch.device("meta"):
        counts = parameter_counts(run.build_model(groups))
    for part, number in counts.items():
        console.print(f"{part:>12} {number:>16,}", highlight=False)
    console.print(f"{'parameters':>12} {sum(counts.values()):>16,}", highlight=False)
    console.print(f"{'tokens':>12} {run.fit.total_tokens:>16,}", highlight=False)
