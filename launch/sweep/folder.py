"""A sweep's folder: what was asked for, each point's run, what came of it.

sweep.yaml   results.csv   table.md   curves.png   points/NAME/{console.log,outcome.yaml and a run's directory}
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from triptych.configs.tree import from_mapping, parse_value, to_mapping
from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.shards.atomic import replace_file
from triptych.launch.run_directory import RunDirectory
from triptych.launch.sweep.grid import Point, Variant
from triptych.trainer.checkpoint.disk.folders import checkpoint_folder, complete_checkpoints

State = Literal["done", "failed"]


@dataclass(kw_only=True, slots=True, frozen=True)
class Call:
    """One command that this folder was written by, and the code that it ran."""

    command: str
    version: str
    commit: str


@dataclass(kw_only=True, slots=True, frozen=True)
class Asked:
    """What was asked for, in all calls together. settings: of all points. variants: name to settings. points: by
    name, in the order in which they were first asked for.
    """

    run: str
    settings: list[str]
    variants: dict[str, list[str]] = field(default_factory=dict)
    points: dict[str, Point] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    def joined(self, later: "Asked", folder: Path) -> "Asked":
        """This and a later call. ValueError if they do not belong into one folder: one name would mean two things."""
        if self.run != later.run:
            raise ValueError(f"{folder} holds a sweep of {self.run}, not of {later.run}; choose another --out")
        if _assigned(self.settings) != _assigned(later.settings):
            raise ValueError(
                f"{folder} holds a sweep with other --set ({' '.join(self.settings) or 'none'}); repeat those, or "
                "choose another --out"
            )
        for name, settings in later.variants.items():
            if name in self.variants and _assigned(self.variants[name]) != _assigned(settings):
                raise ValueError(
                    f"{folder} holds a variant {name} with other settings ({' '.join(self.variants[name]) or 'none'}); "
                    "give it another name, or choose another --out"
                )
        return Asked(
            run=self.run,
            settings=self.settings,
            variants={**self.variants, **later.variants},
            points={**self.points, **later.points},
            calls=self.calls + [call for call in later.calls if call not in self.calls[-1:]],
        )


def asked_for(
    run: str, settings: Sequence[str], variants: Sequence[Variant], points: Sequence[Point], call: Call
) -> Asked:
    """One call's part of it."""
    return Asked(
        run=run,
        settings=list(settings),
        variants={variant.name: list(variant.settings) for variant in variants},
        points={point.name: point for point in points},
        calls=[call],
    )


@dataclass(kw_only=True, slots=True, frozen=True)
class SweepFolder:
    """Paths under a sweep's folder, and what is kept there."""

    folder: Path

    @property
    def asked(self) -> Path:
        return self.folder / "sweep.yaml"

    def point(self, name: str) -> "PointFolder":
        return PointFolder(folder=self.folder / "points" / name)

    def read(self) -> Asked:
        """What was asked for. ValueError if no sweep is here, or its file is damaged."""
        try:
            text = self.asked.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ValueError(f"{self.folder} holds no sweep (no sweep.yaml); name the folder of a sweep") from None
        try:
            document = yaml.safe_load(text)
            points = document["points"]
            document["points"] = {name: {"name": name, **about} for name, about in points.items()}
            return from_mapping(Asked, document, origin=str(self.asked))
        except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.asked} is damaged ({' '.join(str(error).split())}); restore it") from None

    def write(self, asked: Asked) -> None:
        """Keep what was asked for."""
        points = {name: _without_name(point) for name, point in asked.points.items()}
        document = {**to_mapping(asked), "points": points}
        replace_file(self.asked, yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120).encode())

    @contextmanager
    def held(self) -> Iterator[int]:
        """Make the folder and keep other sweeps out of it. Yields a file descriptor: the folder stays held until every
        process that inherits it has ended, so that none trains on behind a sweep that was killed. ValueError if it is
        held already.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"another sweep, or a run that it has left behind, writes to {self.folder}; wait for it, or end it"
                ) from None
            yield descriptor
        finally:
            os.close(descriptor)


@dataclass(kw_only=True, slots=True, frozen=True)
class PointFolder:
    """One point's run."""

    folder: Path

    @property
    def run(self) -> RunDirectory:
        return RunDirectory(folder=self.folder)

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    @property
    def _outcome(self) -> Path:
        return self.folder / "outcome.yaml"

    def require_settings(self, wanted: TrimodalRun) -> None:
        """ValueError if a run was started here with other settings."""
        if not self.run.settings.exists():
            return
        there, here = _flat(to_mapping(self.run.read())), _flat(to_mapping(wanted))
        for path in {**here, **there}:
            if there.get(path) != here.get(path):
                raise ValueError(
                    f"{self.folder} was started with {path}={there.get(path)}, not {here.get(path)}; choose another "
                    "--out, or remove that folder"
                )

    def is_trained(self, total_tokens: int) -> bool:
        """Whether the run has reached its end, to its last checkpoint."""
        found = complete_checkpoints(self.run.checkpoints)
        return bool(found) and found[-1].name >= checkpoint_folder(self.run.checkpoints, total_tokens).name

    def can_resume(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self.run.settings.exists() and bool(complete_checkpoints(self.run.checkpoints))

    def clear(self) -> None:
        """Take away what is left of a run that has no checkpoint; what it printed stays."""
        self.run.settings.unlink(missing_ok=True)
        for folder in (self.run.checkpoints, self.run.log(0).parent, self.run.tensorboard):
            shutil.rmtree(folder, ignore_errors=True)

    def outcome(self) -> tuple[State | None, str]:
        """How the point ended and why, as it was recorded; None if it has not, or a later attempt is under way."""
        try:
            document = yaml.safe_load(self._outcome.read_text(encoding="utf-8"))
            return document["state"], document["reason"]
        except FileNotFoundError:
            return None, ""
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise ValueError(f"{self._outcome} is damaged ({' '.join(str(error).split())}); remove it") from None

    def record(self, state: State, reason: str = "") -> None:
        """Keep how the point ended."""
        replace_file(self._outcome, yaml.safe_dump({"state": state, "reason": reason}, allow_unicode=True).encode())

    def forget(self) -> None:
        """A new attempt is about to start."""
        self._outcome.unlink(missing_ok=True)

    def last_line(self) -> str:
        """The last thing that the run printed."""
        lines = self.console.read_text(encoding="utf-8", errors="replace").split("\n") if self.console.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _without_name(point: Point) -> dict[str, Any]:
    return {name: value for name, value in to_mapping(point).items() if name != "name"}


def _assigned(settings: Sequence[str]) -> dict[str, Any]:
    return {path: parse_value(text) for path, _, text in (setting.partition("=") for setting in settings)}


def _flat(document: Any, path: str = "") -> dict[str, Any]:
    """Leaves by dotted path."""
    if not isinstance(document, Mapping) or not document:
        return {path: document}
    parts = (_flat(value, f"{path}.{name}" if path else str(name)) for name, value in document.items())
    return {name: value for part in parts for name, value in part.items()}
