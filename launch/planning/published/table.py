"""Predicted against published, as a table: `python -m triptych.launch.planning.published.table FOLDER` writes it."""

import csv
import io
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from triptych.launch.planning.published.rows import SOURCES, Published, published

TOLERANCE = 0.2
"""How far from the published figure a prediction may be to count as one that reproduces it."""

COLUMNS: tuple[str, ...] = (
    "source",
    "model",
    "device",
    "devices",
    "tensor",
    "pipeline",
    "virtual",
    "length",
    "micro_batch",
    "batch",
    "recompute",
    "precision",
    "assumed",
    "fitted",
    "measured_tokens_per_second_per_device",
    "predicted_tokens_per_second_per_device",
    "predicted_mfu",
    "error",
)


def table_rows(rows: Sequence[Published]) -> list[dict[str, str]]:
    """One for each published figure, values as they are written. error: predicted over measured, less 1."""
    return [_row(row) for row in rows]


def csv_text(rows: Sequence[Published]) -> str:
    """The whole table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table_rows(rows))
    return text.getvalue()


def summary(rows: Sequence[Published]) -> str:
    """Markdown: of each source and device the rows, how many are within the tolerance, and which are not."""
    lines = [
        "| source | device | rows | within 20 % | mean predicted / published | lowest | highest |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    keys = dict.fromkeys((row.source, row.device.name, row.fitted) for row in rows)
    for source, device, fitted in keys:
        ratios = [row.ratio() for row in rows if (row.source, row.device.name, row.fitted) == (source, device, fitted)]
        within = sum(abs(ratio - 1) <= TOLERANCE for ratio in ratios)
        name = f"{source}, the rows fitted to" if fitted else source
        numbers = f"{statistics.fmean(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f}"
        lines.append(f"| {name} | {device} | {len(ratios)} | {within} | {numbers} |")
    lines += ["", "Beyond 20 %:", "", *(f"* {_named(row)}: {row.ratio() - 1:+.0%}" for row in _beyond(rows))]
    return "\n".join(lines) + "\n"


def _beyond(rows: Sequence[Published]) -> list[Published]:
    return [row for row in rows if abs(row.ratio() - 1) > TOLERANCE]


def _named(row: Published) -> str:
    work = row.work
    return (
        f"{row.source}, {row.name}, {row.device.name} x {work.layout.num_devices}, {work.rows.length} positions, "
        f"micro-batch {work.micro_batch}, recompute {work.recompute}"
    )


def _row(row: Published) -> dict[str, str]:
    work, predicted = row.work, row.predicted()
    layout = work.layout
    assumed = [f"{name}={value:g}" for name, value in row.changes.items()]
    values = (
        row.source,
        row.name,
        row.device.name,
        layout.num_devices,
        layout.tensor,
        layout.pipeline,
        layout.virtual,
        work.rows.length,
        work.micro_batch,
        work.batch,
        work.recompute,
        work.precision,
        " ".join(assumed if work.overlapped else [*assumed, "overlapped=0"]),
        "yes" if row.fitted else "no",
        f"{row.measured:.1f}",
        f"{predicted.tokens_per_second / layout.num_devices:.1f}",
        f"{predicted.mfu:.3f}",
        f"{row.ratio() - 1:+.3f}",
    )
    return dict(zip(COLUMNS, map(str, values), strict=True))


def main() -> None:
    """Write the table, and its summary below the mark in README.md."""
    folder = Path(sys.argv[1])
    rows = published()
    (folder / "published.csv").write_text(csv_text(rows), encoding="utf-8")
    head = (folder / "README.md").read_text(encoding="utf-8").partition("<!-- table -->")[0]
    sources = "\n".join(f"* {name}: {words}" for name, words in SOURCES.items())
    text = f"{head}<!-- table -->\n{summary(rows)}\nSources:\n\n{sources}\n"
    (folder / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
