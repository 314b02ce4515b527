"""`make test-matrix`: every legal layout of 1, 2 and 4 processes against one process, and a table of how far apart."""

import argparse
import pickle
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import layout_paths  # noqa: F401 - before what it makes importable
import pytest
from fast_cells import PLANTED
from gloo_processes import Processes
from layout_bugs import train_planted
from layout_comparison import FP32_BOUNDS, bounds_from_rounding, broken, differences, same
from layout_grid import whole_grid
from layout_rounding import trained_otherwise
from layout_run import Cell, alone, quiet_engine, train, train_all
from layout_table import Matrix, Row, write_table
from torch import distributed

CELLS_PER_START = 120
SECONDS_PER_CELL = 60
REPEATS = 3


def train_into(folder, cells):
    """`train` for each cell in turn; rank 0 leaves each outcome in a file, so that one that fails is known by name."""
    with quiet_engine():
        for index, cell in enumerate(cells):
            outcome = train(cell)
            if distributed.get_rank() == 0:
                (folder / f"{index}.part").write_bytes(pickle.dumps(outcome))
                (folder / f"{index}.part").rename(folder / f"{index}.outcome")


def trained(cells, number, processes):
    """Each cell with its outcome, or with the text of its failure; what comes after a failure starts anew."""
    left = iter(cells)
    while chunk := list(islice(left, CELLS_PER_START)):
        while chunk:
            chunk, results = _one_start(chunk, number, processes)
            yield from results


def _one_start(chunk, number, processes):
    """What is still to do, and (cell, outcome or text) of what is done."""
    failure = None
    with tempfile.TemporaryDirectory() as folder:
        try:
            processes(train_into, number, Path(folder), chunk, timeout_seconds=60 + SECONDS_PER_CELL * len(chunk))
        except pytest.fail.Exception as error:
            failure = str(error)
        files = sorted(Path(folder).glob("*.outcome"), key=lambda path: int(path.stem))
        results = [(cell, pickle.loads(file.read_bytes())) for cell, file in zip(chunk, files, strict=False)]
    if failure is None:
        return [], results
    broken_at = min(len(results), len(chunk) - 1)
    return chunk[broken_at + 1 :], [*results[:broken_at], (chunk[broken_at], failure)]


class Judge:
    """Compares outcomes with their references, which it trains in this process."""

    def __init__(self, cells):
        references = list(dict.fromkeys(cell.reference for cell in cells))
        with alone(), quiet_engine():
            self.references = {cell: train(cell) for cell in references}
            otherwise = {cell: trained_otherwise(cell) for cell in references if cell.precision == "bf16"}
        self.bf16_bounds = {cell: bounds_from_rounding(self.references[cell], runs) for cell, runs in otherwise.items()}
        self._first = {}

    def bounds(self, cell):
        return FP32_BOUNDS if cell.precision == "fp32" else self.bf16_bounds[cell.reference]

    def row(self, cell, result):
        """stable: whether a cell that has run before came to the same, bit for bit; None the first time."""
        if isinstance(result, str):
            return Row(cell=cell, failure=result.strip().splitlines()[-1])
        first = self._first.setdefault(cell, result)
        found = differences(result, self.references[cell.reference])
        return Row(
            cell=cell,
            found=found,
            broken=broken(found, self.bounds(cell)),
            stable=None if first is result else same(first, result),
            seconds=result.seconds,
        )


def rows_of(cells, judge, processes):
    """Of every cell; interleaved ones several times, and the first of each number of processes again at the end."""
    for number in (1, 2, 4):
        mine = [cell for cell in cells if cell.num_processes == number]
        if number == 1:
            with alone():
                for cell in mine:
                    yield judge.row(cell, train_all([cell])[0])
            continue
        plain = [cell for cell in mine if cell.layout.virtual > 1 and cell.recompute == "none"]
        for cell, result in trained([*mine, *plain * (REPEATS - 1), *mine[:1]], number, processes):
            yield judge.row(cell, result)


def planted_rows(judge, processes):
    """(name of the bug, row) of each planted mistake."""
    for number in (2, 4):
        runs = [(cell, name) for cell, name in PLANTED if cell.num_processes == number]
        for (cell, name), outcome in zip(
            runs, processes(train_planted, number, runs, timeout_seconds=1200)[0], strict=True
        ):
            found = differences(outcome, judge.references[cell.reference])
            over = broken(found, FP32_BOUNDS)
            yield name, Row(cell=cell, found=found, broken=over, seconds=outcome.seconds, noticed=outcome.noticed)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path, help="Markdown file to write")
    parser.add_argument("--containing", default="", help="run cells alone whose name contains this")
    options = parser.parse_args()
    started = time.monotonic()
    grid = whole_grid()
    cells = [cell for cell in grid.cells if options.containing in str(cell)]
    with tempfile.TemporaryDirectory() as folder:
        processes = Processes(folder)
        judge = Judge([*cells, Cell(), *(cell for cell, _ in PLANTED)])
        planted = list(planted_rows(judge, processes))
        rows = []
        for row in rows_of(cells, judge, processes):
            rows.append(row)
            print(f"{len(rows):5d} {time.monotonic() - started:6.0f} s  {row}", flush=True)
    matrix = Matrix(
        grid=grid, rows=rows, planted=planted, bf16_bounds=judge.bf16_bounds, seconds=time.monotonic() - started
    )
    write_table(options.table, matrix)
    print(f"{options.table}: {matrix.verdict}")
    return 1 if matrix.is_red else 0


if __name__ == "__main__":
    sys.exit(main())
