"""Options that several commands have."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a setting, e.g. fit.physical_batch=32. Repeatable."),
]
RunFolder = Annotated[Path, typer.Argument(help="Directory of a trained run.")]
Weights = Annotated[str, typer.Option(metavar="NAME", help="Which of its weights: its own, or an average's name.")]


def given_command() -> str:
    """The command line as it was given, for records."""
    return shlex.join(["triptych", *sys.argv[1:]])
