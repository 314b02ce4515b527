"""What is written about results: table and picture. All numbers here are made up."""

import json

import pytest
from made_up_results import made_up_document, made_up_run

from triptych.kernels.flash_sigmoid.bench.plot import plot
from triptych.kernels.flash_sigmoid.bench.record import write_json
from triptych.kernels.flash_sigmoid.bench.table import markdown
from triptych.kernels.flash_sigmoid.benchmark import main


@pytest.fixture
def page():
    return markdown(made_up_run())


def row_of(page, *cells):
    (row,) = [line for line in page.splitlines() if all(cell in line for cell in cells)]
    return [cell.strip() for cell in row.split("|")[1:-1]]


def test_a_row_has_time_throughput_share_and_ratios(page):
    row = row_of(page, "full, 1 x 16384", "| triton | 4 |")
    assert row[2:] == ["4", "1.00", "549.8", "73%", "1.25", ""]


def test_a_failure_is_a_row_with_its_reason(page):
    assert row_of(page, "planted")[:3] == [
        "full, 1 x 16384, 16 x 128, bfloat16",
        "gluon",
        "failed: RuntimeError: planted / with a bar",
    ]


def test_every_row_of_a_table_is_as_wide_as_its_head(page):
    blocks = [block.splitlines() for block in page.split("\n\n") if block.startswith("| ")]
    assert len(blocks) == 5
    assert [len({line.count("|") for line in block}) for block in blocks] == [1] * len(blocks)


def test_what_was_not_reached_is_counted_and_in_no_table(page):
    assert "left out when time was up: 1 of 10" in page
    assert "not reached" not in page


def test_goals_are_judged(page):
    assert "- pass: forward / sdpa flash, at least 1.17: 1.25 (triton)" in page
    assert "- not measured: backward / sdpa cudnn, at least 1.00" in page


@pytest.mark.parametrize(
    "fact", ["MADE UP", "commit made up", "torch made up", "750 TFLOP/s", "4 B H S^2 D", "- a made up note"]
)
def test_the_page_says_where_numbers_come_from(page, fact):
    assert fact in page


def test_a_run_on_a_cpu_has_no_goals():
    found = {**made_up_run(), "hardware": {"device": "MADE UP processor", "threads": 1}}
    assert "## Goals" not in markdown(found)


def test_results_are_drawn(tmp_path):
    plot(made_up_run(), tmp_path / "made_up.png")
    assert (tmp_path / "made_up.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(ValueError, match="nothing to draw"):
        plot(made_up_document([]), tmp_path / "made_up.png")


def test_results_from_elsewhere_are_drawn_and_tabulated(tmp_path, page):
    write_json(tmp_path, "made_up", made_up_run())
    main(["--plot", str(tmp_path / "made_up.json")])
    assert (tmp_path / "made_up.md").read_text() == page
    assert (tmp_path / "made_up.png").exists()


def test_a_number_that_is_none_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path, "made_up", {"value": json.loads("NaN")})
