"""The command line of the benchmark; under torchrun, one process per device."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from triptych.launch.environment import placement, prepare_libraries
from triptych.launch.errors import one_line_errors


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    prepare_libraries()
    with one_line_errors(show_traceback=options.traceback):
        from triptych.launch.benchmark.command import benchmark

        benchmark(
            options.run,
            options.settings,
            placement=placement(),
            num_micro_batches=options.micro_batches,
            num_warmup=options.warmup,
            num_steps=options.steps,
            trace=options.trace,
            folder=options.out,
            code=options.commit,
            command=shlex.join(["python", "-m", "triptych.launch.benchmark", *given]),
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m triptych.launch.benchmark",
        description="Time training steps of a run on made-up data with the run's mix of sequences.",
    )
    parser.add_argument("run", help="name of a run, e.g. trimodal_320m")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="PATH=VALUE", help="repeatable")
    parser.add_argument("--micro-batches", type=int, help="per step and data rank, instead of the run's batch")
    parser.add_argument("--warmup", type=int, default=3, help="steps before the clock runs")
    parser.add_argument("--steps", type=int, default=10, help="timed steps")
    parser.add_argument("--trace", action="store_true", help="profile one more step and write its trace")
    parser.add_argument("--out", type=Path, default=Path("trainer/results"), help="folder for the JSON")
    parser.add_argument("--commit", help="of the code, where it runs outside its checkout")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    return parser


if __name__ == "__main__":
    main()
