"""Writes a report: both files whole, or the old ones untouched."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from triptych.data_pipelines.shards.atomic import replace_file
from triptych.launch.report.data import ReportData
from triptych.launch.report.page import render
from triptych.trainer.evaluation.scores import json_safe

HTML_NAME = "report.html"
JSON_NAME = "report.json"


def write_report(data: ReportData, folder: Path) -> tuple[Path, Path]:
    """Writes report.html and report.json into `folder` (created) and gives their paths.

    report.json: the scores as `Scores.to_json` gives them, with "title", "marks", "run" and "notes" beside. Each file
    appears under its name only when it is complete and on disk. OSError, naming the file, if it cannot be written.
    """
    folder = Path(folder)
    texts = {HTML_NAME: render(data), JSON_NAME: json.dumps(report_json(data), indent=2, allow_nan=False) + "\n"}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        replace_file(folder / name, text.encode("utf-8", errors="replace"))  # half a surrogate pair becomes ?
    return folder / HTML_NAME, folder / JSON_NAME


def report_json(data: ReportData) -> dict[str, Any]:
    """The content of report.json; numbers that are not finite are null."""
    beside = {
        "title": data.title,
        "marks": {name: asdict(mark) for name, mark in data.marks.items()},
        "run": asdict(data.run),
        "notes": list(data.notes),
    }
    return data.scores.to_json() | json_safe(beside)
