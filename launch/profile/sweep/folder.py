"""A sweep's folder: what was asked for, and how each point ended.

sweep.json   table.md   sweep.html   points/NAME/{outcome.json, rankN.log, a profile's files}
"""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from triptych.configs.tree import from_mapping
from triptych.data_pipelines.shards.atomic import replace_file
from triptych.launch.profile.record import ProfileRecord, read_record
from triptych.launch.profile.sweep.points import Point
from triptych.launch.profile.sweep.processes import State


@dataclass(kw_only=True, slots=True, frozen=True)
class Outcome:
    """Of one point. reason: why it is not done. record: the file in its folder. peak_bytes: of the process that held
    most; tokens_per_second: of all, at the median step's seconds; quartiles: of those.
    """

    point: Point
    state: State
    reason: str = ""
    record: str | None = None
    tokens_per_second: float | None = None
    step_seconds: float | None = None
    quartiles: tuple[float, float] | None = None
    peak_bytes: int | None = None
    commit: str = ""

    @property
    def speed(self) -> float:
        """Tokens per second; 0 if it is not done."""
        return self.tokens_per_second or 0.0


@dataclass(kw_only=True, slots=True, frozen=True)
class ProfileFolder:
    """Paths under a sweep's folder, and what is kept there."""

    folder: Path

    @property
    def asked(self) -> Path:
        return self.folder / "sweep.json"

    def place(self, point: Point) -> Path:
        """Of a point."""
        return self.folder / "points" / point.name

    def require_same(self, asked: Mapping[str, Any]) -> None:
        """ValueError if the folder holds a sweep of something else, as far as that came."""
        if not self.asked.exists():
            return
        try:
            found = json.loads(self.asked.read_text(encoding="utf-8"))["asked"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{self.asked} is damaged; remove it, or choose another --out") from None
        for name, value in asked.items():
            if found.get(name) != value:
                raise ValueError(
                    f"{self.folder} holds a sweep with {name} {found.get(name)}, not {value}; choose another --out"
                )

    def begin(self, asked: Mapping[str, Any]) -> None:
        """Write down what is asked before there is any point, for whoever comes after a sweep that was killed."""
        if not self.asked.exists():
            replace_file(self.asked, (json.dumps({"asked": dict(asked)}, indent=2) + "\n").encode())

    def read(self, point: Point, commit: str) -> Outcome | None:
        """How a point ended before; None if it did not, or with another commit, or failed for other reasons than
        memory: it is tried again.
        """
        path = self.place(point) / "outcome.json"
        try:
            outcome = from_mapping(Outcome, json.loads(path.read_text(encoding="utf-8")), origin=str(path))
        except (FileNotFoundError, ValueError):
            return None
        if (outcome.point, outcome.commit) != (point, commit):  # a folder has the last parts of the paths in its name
            return None
        return outcome if outcome.state in ("done", "out of memory") else None

    def keep(self, outcome: Outcome) -> None:
        """Write how a point ended."""
        place = self.place(outcome.point)
        place.mkdir(parents=True, exist_ok=True)
        replace_file(place / "outcome.json", (json.dumps(asdict(outcome), indent=2) + "\n").encode())

    def newest_record(self, point: Point) -> tuple[str, ProfileRecord] | None:
        """The profile that a point's processes have written last."""
        found = sorted(path for path in self.place(point).glob("*.json") if path.name != "outcome.json")
        return (found[-1].name, read_record(found[-1])) if found else None

    @contextmanager
    def held(self) -> Iterator[None]:
        """ValueError if another sweep is at work here."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ValueError(f"another sweep is at work in {self.folder}; wait, or choose another --out") from None
            yield
