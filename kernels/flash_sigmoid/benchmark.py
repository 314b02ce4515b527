"""Our kernels against their peers, errors included: `python -m triptych.kernels.flash_sigmoid.benchmark`.

Without CUDA the CPU path is measured against torch's scaled_dot_product_attention. Nothing is written without --out.
"""

import argparse
import json
import re
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from triptych.kernels.flash_sigmoid.bench.cases import GRIDS, NOT_REACHED, Grid
from triptych.kernels.flash_sigmoid.bench.measuring import measure
from triptych.kernels.flash_sigmoid.bench.plot import plot
from triptych.kernels.flash_sigmoid.bench.record import document, write_json
from triptych.kernels.flash_sigmoid.bench.running import Record, compile_all, run_jobs
from triptych.kernels.flash_sigmoid.bench.summary import goals
from triptych.kernels.flash_sigmoid.bench.table import markdown

_SECONDS_BETWEEN_WRITES = 20.0
"""A run that is killed leaves its numbers up to there."""


def main(arguments: Sequence[str] | None = None, grid: Grid | None = None) -> None:
    """Measure and print; with --plot, draw and tabulate what was measured before. grid: instead of the device's."""
    started = time.monotonic()
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    if options.plot:
        found = json.loads(options.plot.read_text())
        options.plot.with_suffix(".md").write_text(markdown(found))
        plot(found, options.plot.with_suffix(".png"))
        return
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device is cuda, and torch finds no CUDA device; leave it out to measure the CPU path")
    grid = _narrowed(grid or GRIDS[options.device], options)
    command = shlex.join(["python", "-m", "triptych.kernels.flash_sigmoid.benchmark", *given])
    found = document([], grid, options.device, command=command, commit=options.commit, note=options.note)
    name = options.name or _slug(found["hardware"]["device"])
    written = started
    for record in _measured(grid, options.device, started, 60 * options.minutes):
        found["records"].append(record)
        if options.out and time.monotonic() > written + _SECONDS_BETWEEN_WRITES:
            write_json(options.out, name, found)
            written = time.monotonic()
    if options.out:
        _write(found, options.out, name)
    print(markdown(found))
    if options.device == "cuda":
        print(*goals(found), sep="\n")


def _measured(grid: Grid, device: str, started: float, seconds: float) -> Iterator[Record]:
    """Every record, told as it comes. Compilation may take half of the time."""
    if grid.num_compilers:
        half = started + seconds / 2
        small = grid.compilations()
        for record in compile_all(small, device, measure, deadline=half, num_processes=grid.num_compilers):
            print(_line(record))
            yield record
        print(f"compiled in {time.monotonic() - started:.0f} s", flush=True)
    for record in run_jobs(grid.jobs(), device, measure, deadline=started + seconds):
        if record.get("failed") != NOT_REACHED:
            print(_line(record), flush=True)
        yield record


def _write(found: dict[str, Any], folder: Path, name: str) -> None:
    """JSON first: a table or picture that fails can be made again from it."""
    write_json(folder, name, found)
    (folder / f"{name}.md").write_text(markdown(found))
    try:
        plot(found, folder / f"{name}.png")
    except (ModuleNotFoundError, ValueError) as error:
        print(f"no picture: {error}")


def _narrowed(grid: Grid, options: argparse.Namespace) -> Grid:
    changes = {
        "ours": tuple(options.ours.split(",")) if options.ours else grid.ours,
        "lengths": tuple(options.lengths) if options.lengths else grid.lengths,
        "head_dims": tuple(options.head_dims) if options.head_dims else grid.head_dims,
        "dtype": options.dtype or grid.dtype,
    }
    return replace(grid, **changes)


def _line(record: Record) -> str:
    shape = record["shape"]
    where = (
        "" if shape is None else f"{'causal' if shape['causal'] else 'full'} {shape['length']} x {shape['head_dim']}"
    )
    what = f"{record['kind']} {record['contender']} {record['direction']} {where} {record['num_keys'] or ''}".strip()
    if "failed" in record:
        return f"{what}: failed: {record['failed']}"
    return f"{what}: " + ", ".join(f"{name} {value:.3g}" for name, value in list(record["values"].items())[:4])


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{name} {time.strftime('%Y%m%d-%H%M%S')}".lower()).strip("-")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m triptych.kernels.flash_sigmoid.benchmark",
        description="Time and check sigmoid attention against its peers, the goals first.",
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=device)
    parser.add_argument("--minutes", type=float, default=8.0, help="after which jobs are left out")
    parser.add_argument("--out", type=Path, help="folder for the JSON, table and picture")
    parser.add_argument("--name", help="of these files, instead of the device and the time")
    parser.add_argument("--commit", default="unknown", help="of the code")
    parser.add_argument("--note", default="", help="what else a reader must know")
    parser.add_argument("--ours", help="kernels, with commas, instead of the device's")
    parser.add_argument("--lengths", type=int, nargs="+", help="instead of the device's")
    parser.add_argument("--head-dims", type=int, nargs="+", help="instead of the device's")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="instead of the device's")
    parser.add_argument("--plot", type=Path, metavar="JSON", help="measure nothing: table and picture of these results")
    return parser


if __name__ == "__main__":
    main()
