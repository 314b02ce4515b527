"""The rows that programs and people read."""

import csv
import math

from made_up_sweep import make_sweep

from triptych.launch.sweep.ledger import Ledger
from triptych.launch.sweep.results import Reading, grouped, named_group, read_results
from triptych.launch.sweep.tables import groups_table, points_csv

RATE = "fit.optimizer.peak_learning_rate"
LOSSES = {"0.001": 3.0, "0.01": 2.0, "0.1": math.nan}


def loss_of(point):
    rate = LOSSES[point.name.split(",")[0].partition("=")[2]]
    return [rate + point.values["fit.seed"]] * 10


def swept(folder, failed=("peak_learning_rate=0.01,seed=1",)):
    return make_sweep(folder, grids=[f"{RATE}=1e-3,1e-2,0.1", "fit.seed=0,1"], losses=loss_of, failed=failed)


def rows_of(table):
    """Cells of a Markdown table's body."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")][2:]


def test_the_csv_has_a_row_per_point(tmp_path):
    swept(tmp_path)
    rows = list(csv.DictReader(points_csv(read_results(tmp_path)).splitlines()))
    assert rows[0] == {
        "point": "peak_learning_rate=0.001,seed=0",
        "variant": "",
        RATE: "0.001",
        "fit.seed": "0",
        "tokens": "1000",
        "final_loss": "3.0",
        "state": "done",
        "reason": "",
    }
    assert [row["state"] for row in rows] == ["done", "done", "done", "failed", "done", "done"]


def test_a_failed_or_diverged_point_has_no_final_loss(tmp_path):
    swept(tmp_path)
    rows = list(csv.DictReader(points_csv(read_results(tmp_path)).splitlines()))
    assert [row["final_loss"] for row in rows] == ["3.0", "4.0", "2.0", "", "", ""]


def test_the_table_has_a_row_per_group(tmp_path):
    swept(tmp_path)
    results = read_results(tmp_path)
    assert rows_of(groups_table(grouped(results), results)) == [
        ["peak_learning_rate=0.001", "3.5000", "0.7071", "2", "0"],
        ["peak_learning_rate=0.01", "**2.0000**", "–", "1", "1"],
        ["peak_learning_rate=0.1", "diverged", "–", "2", "0"],
    ]


def test_the_table_says_why_a_point_failed(tmp_path):
    swept(tmp_path)
    results = read_results(tmp_path)
    assert "- peak_learning_rate=0.01,seed=1 failed: the disk is full; free some" in groups_table(
        grouped(results), results
    )


def test_the_table_compares_with_a_reference(tmp_path):
    swept(tmp_path, failed=())
    results = read_results(tmp_path, Reading(num_windows=10))
    groups = grouped(results)
    table = groups_table(groups, results, named_group(groups, "peak_learning_rate=0.001"))
    assert [row[4:] for row in rows_of(table)] == [
        ["+0.0000", "+0.0", "100\u202f%"],
        ["-1.0000", "-1.4", "100\u202f%"],
        ["–", "–", "0\u202f%"],
    ]


def test_results_are_written_while_points_end(tmp_path):
    place = make_sweep(
        tmp_path, grids=["fit.seed=0,1"], losses=lambda point: [1.0] * 10 if point.name == "seed=0" else None
    )
    names = {path.name for path in Ledger(place, place.read(), Reading()).write()}
    assert names == {"table.md", "results.csv", "curves.png"}


def test_a_numeric_grid_of_three_values_has_a_figure_of_its_own(tmp_path):
    place = swept(tmp_path)
    written = Ledger(place, place.read(), Reading()).write()
    assert written[-1] == tmp_path / "peak_learning_rate.png"


def test_nothing_half_written_is_left(tmp_path):
    place = swept(tmp_path)
    Ledger(place, place.read(), Reading()).write()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
