"""Train, sample, evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from triptych.launch.command_line.options import RunFolder, Settings, Weights, given_command

app = typer.Typer()


@app.command()
def demo(
    run_dir: Annotated[Path, typer.Option(help="Where the run and its report go.")] = Path("runs/demo"),
    data_dir: Annotated[Path, typer.Option(help="Where data and tokenizers go; reused if there.")] = Path("data/demo"),
    settings: Settings = None,
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted demo.")] = False,
) -> None:
    """Make data, train tokenizers and the small model, sample all three modalities, write report.html: minutes on 2 CPU
    cores.
    """
    from triptych.launch.commands.training.demo import demo as command

    command(run_dir, data_dir, settings or [], resume=resume, command=given_command())


@app.command()
def train(
    run: Annotated[str, typer.Argument(help="Name of a run, e.g. trimodal_demo.")],
    run_dir: Annotated[Path | None, typer.Option(help="Where the run goes; runs/RUN if not given.")] = None,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option(help="Go on from the newest checkpoint in the run directory.")] = False,
    resume_if_started: Annotated[
        bool,
        typer.Option("--resume-if-started", help="The same where there is one; else begin. For jobs."),
    ] = False,
    describe: Annotated[
        bool, typer.Option(help="Print settings, exact parameter counts, and what each process would hold; stop.")
    ] = False,
    explain: Annotated[
        bool, typer.Option(help="Print every group's values, from base to logical to physical batch; stop.")
    ] = False,
    world_size: Annotated[
        int | None,
        typer.Option(help="With --describe or --explain: of a run on so many processes.", show_default=False),
    ] = None,
) -> None:
    """Train a run, alone or under torchrun."""
    from triptych.launch.commands.training.train import train as command

    command(
        run,
        run_dir,
        settings or [],
        going_on="if started" if resume_if_started else "always" if resume else "never",
        show="explanation" if explain else "description" if describe else None,
        world_size=world_size,
        command=given_command(),
    )


@app.command()
def attention(
    run: Annotated[str, typer.Argument(help="Name of a run, e.g. trimodal_demo.")] = "trimodal_demo",
    settings: Settings = None,
    explain: Annotated[
        bool, typer.Option(help="Say what is asked of them too, which the other function has, and the variables.")
    ] = False,
) -> None:
    """Print which backend computes a run's attention on this machine, and why not another."""
    from triptych.launch.commands.training.attention import attention as command

    command(run, settings or [], explain=explain)


@app.command()
def sweep(
    run: Annotated[str, typer.Argument(help="Name of a run, e.g. trimodal_demo.")],
    out: Annotated[Path, typer.Option(help="Where points, tables and figures go; go on there if it holds some.")],
    settings: Settings = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH=VALUE,VALUE", help="Values of a setting; all grids are multiplied. Repeatable."),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(metavar='"NAME: PATH=VALUE ..."', help="Settings that go together, by name. Repeatable."),
    ] = None,
    processes: Annotated[int, typer.Option(help="Points trained at once; they share the cores.")] = 1,
    last_fraction: Annotated[float, typer.Option(help="Share of tokens that the final loss is the mean over.")] = 0.1,
    windows: Annotated[int, typer.Option(help="Equal windows of tokens that a curve is averaged in.")] = 60,
    reference: Annotated[
        str | None, typer.Option(metavar="GROUP", help="Compare with the spread of this group's seeds.")
    ] = None,
) -> None:
    """Train a run at every point of a grid of settings, several at once; tables and figures. Repeat the command to go
    on.
    """
    from triptych.launch.commands.training.sweep import sweep as command
    from triptych.launch.sweep.results import Reading

    code = command(
        run,
        out,
        settings=settings or [],
        grids=grid or [],
        variants=variant or [],
        num_processes=processes,
        reading=Reading(last_fraction=last_fraction, num_windows=windows),
        reference=reference,
        command=given_command(),
    )
    raise typer.Exit(code)


@app.command()
def sample(
    run_dir: RunFolder,
    task: Annotated[str, typer.Option(help="t2i, t2s, i2t, s2t or text.")] = "t2i",
    prompt: Annotated[
        list[str] | None, typer.Option(help="Caption (t2i, t2s) or beginning (text). Repeatable.")
    ] = None,
    file: Annotated[list[Path] | None, typer.Option(help="Image (i2t) or recording (s2t). Repeatable.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for what is generated.")] = Path("samples"),
    num: Annotated[int, typer.Option(help="Samples per prompt or file.")] = 1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same samples.")] = 0,
    weights: Weights = "weights",
    settings: Settings = None,
) -> None:
    """Generate from a trained run: images, speech, captions, transcripts, text."""
    from triptych.launch.commands.training.sample import sample as command

    command(run_dir, task, prompt or [], file or [], out, num=num, seed=seed, settings=settings or [], weights=weights)


@app.command()
def evaluate(
    run_dir: RunFolder,
    out: Annotated[Path | None, typer.Option(help="Where to write the scores as JSON.")] = None,
    weights: Weights = "weights",
    settings: Settings = None,
) -> None:
    """Score a trained run on held-out data: likelihood bound per modality, judged samples, character errors."""
    from triptych.launch.commands.training.evaluate import evaluate as command

    command(run_dir, out, settings or [], weights)
