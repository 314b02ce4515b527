"""`triptych tokenizer`."""

from pathlib import Path
from typing import Annotated

import typer

from triptych.launch.command_line.options import Settings

app = typer.Typer(help="Train tokenizers, or adopt pretrained ones.", no_args_is_help=True)


@app.command("train")
def tokenizer_train(
    modality: Annotated[str, typer.Argument(help="text, image or audio.")],
    data: Annotated[Path, typer.Option(help="Raw corpus, as `triptych data make` writes it.")] = Path("data/demo/raw"),
    out: Annotated[Path, typer.Option(help="Folder for the tokenizers.")] = Path("data/demo/tokenizers"),
    settings: Settings = None,
) -> None:
    """Train a tokenizer: byte-level BPE for text, FSQ autoencoders for image and audio."""
    from triptych.launch.commands.data.tokenizer import train as command

    command(modality, data, out, settings or [])


@app.command("adopt")
def tokenizer_adopt(
    modality: Annotated[str, typer.Argument(help="text, image or audio.")],
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of the model; of text also a file, or a tiktoken encoding.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tokenizers.")],
    image_size: Annotated[int | None, typer.Option(help="Image: side of the square pictures, in pixels.")] = None,
    codebooks: Annotated[str | None, typer.Option(help="Audio: flattened, delayed or parallel.")] = None,
    num_codebooks: Annotated[int | None, typer.Option(help="Audio: only the first so many; all if not given.")] = None,
    sample_rate_hertz: Annotated[int | None, typer.Option(help="Audio: of the raw audio; 16000 if not given.")] = None,
    precision: Annotated[str | None, typer.Option(help="Image, audio: float64 (exact) or float32 (faster).")] = None,
) -> None:
    """Make a tokenizer of a pretrained model on this machine: tokenizer.json, tiktoken, VQ images, audio codecs."""
    from triptych.launch.commands.data.tokenizer import adopt as command

    choices = {
        "image_size": image_size,
        "codebooks": codebooks,
        "num_codebooks": num_codebooks,
        "sample_rate_hertz": sample_rate_hertz,
        "precision": precision,
    }
    command(modality, source, out, choices)
