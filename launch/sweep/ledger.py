"""The files that show a sweep, kept up to date while its points end."""

from pathlib import Path

from triptych.data_pipelines.shards.atomic import replace_file
from triptych.launch.sweep.figures import dependences, draw_curves, draw_dependences, draw_differences
from triptych.launch.sweep.folder import Asked, SweepFolder
from triptych.launch.sweep.results import Reading, Result, grouped, named_group, read_result
from triptych.launch.sweep.tables import groups_table, points_csv


class Ledger:
    """The points of a sweep that have ended, of all its calls, each log read once."""

    def __init__(self, place: SweepFolder, asked: Asked, reading: Reading, reference: str | None = None) -> None:
        """reference: name of the group that the others are compared with."""
        self._place = place
        self._asked = asked
        self._reading = reading
        self._reference = reference
        self._found: dict[str, Result] = {}
        for name in asked.points:
            self.read(name)

    @property
    def results(self) -> list[Result]:
        """Of the points that have ended, in the order in which they were asked for."""
        return [self._found[name] for name in self._asked.points if name in self._found]

    @property
    def num_points(self) -> int:
        return len(self._asked.points)

    def is_done(self, name: str) -> bool:
        return name in self._found and self._found[name].state == "done"

    def read(self, name: str) -> Result | None:
        """Take a point up as it stands on disk; None if it has not ended."""
        result = read_result(self._place.point(name), self._asked.points[name], self._reading)
        self._found.pop(name, None)
        if result is not None:
            self._found[name] = result
        return result

    def write(self) -> list[Path]:
        """results.csv, table.md and the figures, from what has ended so far. Returns those that are there."""
        results = self.results
        groups = grouped(results)
        reference = None if self._reference is None else named_group(groups, self._reference)
        folder, title = self._place.folder, self._asked.run
        table, rows, curves = folder / "table.md", folder / "results.csv", folder / "curves.png"
        replace_file(rows, points_csv(results).encode())
        replace_file(table, groups_table(groups, results, reference).encode())
        draw_curves(groups, curves, reference=reference, title=title)
        written = [table, rows, curves]
        if reference is not None:
            written.append(folder / "differences.png")
            draw_differences(groups, written[-1], reference=reference, title=title)
        if (found := dependences(groups)) is not None:
            path, lines = found
            written.append(folder / f"{path.rpartition('.')[2]}.png")
            draw_dependences(path, lines, written[-1], title=title)
        return [path for path in written if path.exists()]
