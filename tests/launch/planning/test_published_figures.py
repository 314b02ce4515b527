"""The model against what others measured."""

import csv
from pathlib import Path

import pytest

from triptych.launch.planning import published as package
from triptych.launch.planning.model.assumptions import FITTED, Assumptions
from triptych.launch.planning.published.fit import fit_defaults
from triptych.launch.planning.published.rows import SOURCES, published
from triptych.launch.planning.published.table import TOLERANCE, csv_text, summary

RESULTS = Path(package.__file__).parents[1] / "results"


@pytest.fixture(scope="module")
def rows():
    return published()


def test_the_table_is_what_the_model_says_now(rows):
    assert (RESULTS / "published.csv").read_text() == csv_text(rows)


def test_the_summary_is_of_this_table(rows):
    assert summary(rows) in (RESULTS / "README.md").read_text()


@pytest.mark.parametrize("source", [source for source in SOURCES if source != "llm-foundry"])
def test_a_source_that_nothing_was_fitted_to_is_reproduced(rows, source):
    found = [row for row in rows if row.source == source]
    assert not any(row.fitted for row in found)
    assert {row.name for row in found if abs(row.ratio() - 1) > TOLERANCE} == set()


def test_of_the_source_that_was_fitted_to_the_other_rows_are_reproduced_but_for_seven(rows):
    others = [row for row in rows if row.source == "llm-foundry" and not row.fitted]
    assert sum(abs(row.ratio() - 1) > TOLERANCE for row in others) == 7
    assert len(others) == 197


def test_the_defaults_are_what_the_marked_rows_give(rows):
    found = fit_defaults(rows)
    assumed = Assumptions(matmul_efficiency=1, attention_efficiency=1)
    stated = {"elementwise": assumed.elementwise_factor}
    for architecture, (matmul, attention) in FITTED.items():
        stated |= {f"matmul {architecture}": matmul, f"attention {architecture}": attention}
    assert found == pytest.approx(stated, rel=5e-3)


def test_measured_figures_agree_with_the_utilisation_that_a_source_states_beside_them(rows):
    """Korthikanti et al. state seconds, and 41.5, 51.4, 56.0 and 56.3 % with selective recomputation."""
    stated = {"GPT 22B": 0.415, "GPT 175B": 0.514, "GPT 530B": 0.560, "GPT 1T": 0.563}
    for row in rows:
        if row.source == "megatron-2022" and row.work.recompute == "selective":
            predicted = row.predicted()
            measured = predicted.mfu / row.ratio()
            assert measured == pytest.approx(stated[row.name], abs=0.01)


def test_every_row_of_the_inputs_is_in_the_table(rows):
    with (Path(package.__file__).parents[1] / "results" / "figures.csv").open() as lines:
        assert len(list(csv.DictReader(lines))) == len(rows) == 260
