import json
from dataclasses import replace
from pathlib import Path

import pytest
from report_samples import SCORES, full

from triptych.launch.report.data import RunFacts
from triptych.launch.report.write import write_report


def test_both_files_are_written(tmp_path):
    page, numbers = write_report(full(), tmp_path / "new" / "folder")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert {path.name for path in page.parent.iterdir()} == {"report.html", "report.json"}
    assert json.loads(numbers.read_text(encoding="utf-8"))["commit"] == "abc123"


def test_the_numbers_are_at_the_top_level(tmp_path):
    values = json.loads(write_report(full(), tmp_path)[1].read_text(encoding="utf-8"))
    assert SCORES.to_json().items() <= values.items()
    assert values["marks"]["t2i_accuracy"] == {"target": 0.85, "chance": 0.1}


def test_no_not_a_number_gets_into_the_json(tmp_path):
    data = replace(full(), run=RunFacts(stages={"data": float("nan")}), scores=replace(SCORES, seconds=float("inf")))
    values = json.loads(write_report(data, tmp_path)[1].read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert values["run"]["stages"] == {"data": None}
    assert values["seconds"] is None


def test_half_a_surrogate_pair_can_be_written(tmp_path):
    page, _ = write_report(full(words="half \ud83d a pair"), tmp_path)
    assert "half ? a pair" in page.read_text(encoding="utf-8")


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    page, _ = write_report(full(words="old"), tmp_path)
    before = page.read_bytes()

    def full_disk(self, target):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_report(full(words="new"), tmp_path)
    assert page.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.json"}


def test_a_page_that_cannot_be_made_touches_nothing(tmp_path):
    broken = replace(full(), digits=(replace(full().digits[0], caption=None, generated=None),))
    with pytest.raises(TypeError):
        write_report(broken, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
