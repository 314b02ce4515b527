"""The console script `triptych`."""

import sys
from collections.abc import Sequence

import typer

from triptych.launch.command_line import data, operating, tokenizer, training
from triptych.launch.environment import is_first_process, prepare_libraries
from triptych.launch.errors import one_line_errors, silent_usage_errors

app = typer.Typer(
    name="triptych",
    help="Masked diffusion transformers over text, image and audio tokens.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(training.app)
app.add_typer(operating.app)
app.add_typer(data.app, name="data")
app.add_typer(tokenizer.app, name="tokenizer")


def main(arguments: Sequence[str] | None = None, prefix: Sequence[str] = ()) -> None:
    """Entry point. `--traceback` anywhere shows where an error came from."""
    given = [*prefix, *(sys.argv[1:] if arguments is None else arguments)]
    show_traceback = "--traceback" in given
    prepare_libraries()
    with one_line_errors(show_traceback=show_traceback):
        arguments = [argument for argument in given if argument != "--traceback"]
        if is_first_process():
            app(args=arguments, prog_name="triptych")
        else:
            with silent_usage_errors():
                app(args=arguments, prog_name="triptych", standalone_mode=False)
