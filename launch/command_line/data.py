"""`triptych data`."""

from pathlib import Path
from typing import Annotated

import typer

from triptych.launch.command_line.options import RunFolder, Settings

app = typer.Typer(
    help="Make, prepare, encode, verify, inspect and count shards; account for a run's samples.", no_args_is_help=True
)


@app.command("make")
def data_make(folder: Annotated[Path, typer.Argument(help="Where the raw shards go.")] = Path("data/demo/raw")) -> None:
    """Make the demo's raw data on this machine: prose, digits with captions, spoken digits."""
    from triptych.launch.commands.data.data import make as command

    command(folder)


@app.command("encode")
def data_encode(
    source: Annotated[Path, typer.Argument(help="Folder of raw shards (one set).")],
    target: Annotated[Path, typer.Argument(help="Folder for the encoded shards.")],
    tokenizers: Annotated[Path, typer.Option(help="Folder with one tokenizer per modality.")] = Path(
        "data/demo/tokenizers"
    ),
    max_damaged: Annotated[int, typer.Option(help="Damaged samples to skip before giving up.")] = 0,
) -> None:
    """Encode raw shards to shards of codes."""
    from triptych.launch.commands.data.data import encode as command

    command(source, target, tokenizers, max_damaged=max_damaged)


@app.command("prepare")
def data_prepare(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Files, or folders of them.")],
    kind: Annotated[str, typer.Option(help="text, image-text or audio-text.")],
    out: Annotated[Path, typer.Option(help="Folder for the set, e.g. codes/mine/train.")],
    tokenizers: Annotated[Path, typer.Option(help="Folder with one tokenizer per modality.")],
    work: Annotated[
        Path | None, typer.Option(help="Where parts go meanwhile; OUT.work if not given.", show_default=False)
    ] = None,
    processes: Annotated[int, typer.Option(help="Processes on this machine.")] = 1,
    stage: Annotated[
        str | None, typer.Option(help="Only scan, deduplicate, encode or join; all if not given.", show_default=False)
    ] = None,
    part: Annotated[
        int | None, typer.Option(help="Of --stage scan or encode: which share, from 0.", show_default=False)
    ] = None,
    num_parts: Annotated[
        int | None,
        typer.Option(help="How many shares; both are those of a Slurm array if not given.", show_default=False),
    ] = None,
    near_duplicates: Annotated[
        float | None, typer.Option(help="Texts this similar are kept once, 0.8; 0 for none.", show_default=False)
    ] = None,
    text_field: Annotated[
        str | None, typer.Option(help="Of JSON or a table, what holds the text: text.", show_default=False)
    ] = None,
    max_damaged: Annotated[int, typer.Option(help="Damaged samples to skip before giving up.")] = 0,
    settings: Settings = None,
) -> None:
    """Raw data to a filtered, deduplicated, tokenized set. Repeat the command to go on.

    Text: .jsonl, .txt, .parquet, .tar; pairs: .tar of .jpg, .png, .webp, or .flac, .wav, .mp3, .ogg, each with .txt or
    .json; also with .gz or .zst. On a Slurm cluster every task of an array does its share of a stage: sbatch
    --array=0-63 --wrap "triptych data prepare ... --stage scan", one task of --stage deduplicate, an array of --stage
    encode, one task of --stage join, each with --dependency=afterok on the one before.
    """
    from triptych.launch.commands.data.preparation import prepare as command

    command(
        inputs,
        kind,
        out,
        tokenizers,
        settings or [],
        work=work,
        stage=stage,
        processes=processes,
        part=part,
        num_parts=num_parts,
        near_duplicates=near_duplicates,
        text_field=text_field,
        max_damaged=max_damaged,
    )


@app.command("verify")
def data_verify(folder: Annotated[Path, typer.Argument(help="Folder of shards (one set).")]) -> None:
    """Check every byte of a set of shards against its manifest."""
    from triptych.launch.commands.data.data import verify as command

    command(folder)


@app.command("stats")
def data_stats(
    sets: Annotated[list[str], typer.Argument(metavar="SET...", help="Folders of shards, or their URLs.")],
    run: Annotated[str | None, typer.Option(metavar="NAME", help="Say what packing does under this run.")] = None,
    settings: Settings = None,
    task: Annotated[str | None, typer.Option(help="Say what packing does for text, t2i, i2t, t2s or s2t.")] = None,
    row_length: Annotated[int | None, typer.Option(help="Positions of a row, where no run says it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count what sets hold, from manifest and index alone: lengths, damage, tokenizers, and padding once packed."""
    from triptych.launch.commands.data.inspection import PackingOptions
    from triptych.launch.commands.data.inspection import stats as command

    packing = PackingOptions(run=run, settings=tuple(settings or ()), task=task, row_length=row_length)
    command(sets, packing, as_json=as_json)


@app.command("inspect")
def data_inspect(
    folder: Annotated[str, typer.Argument(metavar="SET", help="Folder of shards, or its URL.")],
    out: Annotated[Path, typer.Option(help="The page to write, an .html file.")],
    tokenizers: Annotated[
        Path | None, typer.Option(help="Folder with one tokenizer per modality; without, codes stay numbers.")
    ] = None,
    num_samples: Annotated[int, typer.Option(help="Samples shown on the page.")] = 24,
    seed: Annotated[int, typer.Option(help="Which samples are read; the same seed gives the same page.")] = 0,
) -> None:
    """Write one page about a set: whether it is sound, lengths, use of codes, samples decoded back."""
    from triptych.launch.commands.data.inspection import inspect as command
    from triptych.launch.inspection.config import InspectionConfig

    command(folder, tokenizers, out, InspectionConfig(num_samples=num_samples, seed=seed))


@app.command("account")
def data_account(
    run_dir: RunFolder,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say where every document that a run planned has gone: planned = seen + lost, per source and epoch, from plan and
    logs.

    Exit code 1 if it does not add up.
    """
    from triptych.launch.accounting.account import account as command

    raise typer.Exit(command(run_dir, as_json=as_json))
