"""The work folder: the plan that all processes follow, and what is finished of it. It lies beside the target, on the
same file system, and may go when the set is there.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from triptych.data_pipelines.prepare.config import PrepareConfig
from triptych.data_pipelines.prepare.inputs.files import InputFile, find_files
from triptych.data_pipelines.prepare.inputs.parts import Part, cut_parts
from triptych.data_pipelines.shards.atomic import replace_file

_FORMAT = 1  # of the work folder, and of what decides the same inputs' set
_PACKAGES = ("triptych", "numpy", "datasketch", "pyarrow", "pillow", "soundfile", "soxr", "tokenizers", "torch")


@dataclass(kw_only=True, slots=True, frozen=True)
class Plan:
    """settings: the whole tree. files, parts: what is read, and how it is shared out. versions: of packages that decide
    the result.
    """

    format: int
    settings: dict[str, Any]
    versions: dict[str, str]
    files: tuple[InputFile, ...]
    parts: tuple[Part, ...]


class PartJob(NamedTuple):
    """One part with the files that its pieces are of."""

    number: int
    part: Part
    files: dict[int, InputFile]

    @property
    def num_bytes(self) -> int:
        return sum(piece.num_bytes for piece in self.part)


class WorkFolder:
    """Names of the files in a work folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan, self.decisions = folder / "plan.json", folder / "decisions"
        self.tokenizers = folder / "tokenizers.json"

    def scanned(self, number: int) -> Path:
        return self.folder / "scanned" / f"part-{number:06d}"

    def encoded(self, number: int) -> Path:
        return self.folder / "encoded" / f"part-{number:06d}"

    def leftovers(self) -> Iterator[Path]:
        """What killed processes left half done."""
        return self.folder.glob("*/.part-*.partial-*")


def begin_work(work: WorkFolder, inputs: Sequence[Path], config: PrepareConfig) -> Plan:
    """The plan of a work folder, made if there is none.

    ValueError if there is one of other inputs, settings or versions, or if an input cannot be used.
    """
    files, settings, versions = find_files(inputs, config.kind), settings_mapping(config), package_versions()
    if not work.plan.exists():
        plan = Plan(
            format=_FORMAT, settings=settings, versions=versions, files=files, parts=cut_parts(files, config.inputs)
        )
        work.folder.mkdir(parents=True, exist_ok=True)
        # Tasks of an array that start at once write the same bytes.
        replace_file(work.plan, _json(asdict(plan)))
    plan = _read_plan(work.plan)
    change = next(_changes(plan, files, settings, versions), None)
    if change is not None:
        raise ValueError(
            f"{work.folder} was begun with {change}; go back to that, remove the folder, or give another --work"
        )
    return plan


def jobs(plan: Plan, numbers: Sequence[int]) -> list[PartJob]:
    """What a process is told of some parts."""
    return [
        PartJob(number, plan.parts[number], {piece.file: plan.files[piece.file] for piece in plan.parts[number]})
        for number in numbers
    ]


def inputs_digest(files: Sequence[InputFile], config: PrepareConfig) -> str:
    """Of what decides a set, time stamps and versions aside."""
    sizes = [[file.name, file.num_bytes] for file in files]
    return hashlib.sha256(_json([_FORMAT, settings_mapping(config), sizes])).hexdigest()


def settings_mapping(config: PrepareConfig) -> dict[str, Any]:
    """The tree as JSON holds it."""
    return json.loads(json.dumps(asdict(config)))


def package_versions() -> dict[str, str]:
    """Versions of what is installed of the packages that decide a set's bytes."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def require_unchanged(file: InputFile) -> None:
    """ValueError unless a file is as it was when the plan was made."""
    try:
        about = file.path.stat()
    except FileNotFoundError:
        raise ValueError(f"{file.name} is gone; put it back, or begin again in another --work") from None
    if (about.st_size, about.st_mtime_ns) != (file.num_bytes, file.modified_ns):
        raise ValueError(f"{file.name} has changed since the work began; put it back, or begin again in another --work")


def _read_plan(path: Path) -> Plan:
    try:
        return TypeAdapter(Plan).validate_json(path.read_bytes())
    except ValidationError:
        raise ValueError(
            f"{path} is damaged or of another version; remove its folder, or give another --work"
        ) from None


def _changes(
    plan: Plan, files: Sequence[InputFile], settings: Mapping[str, Any], versions: Mapping[str, str]
) -> Iterator[str]:
    """What a plan has other than now, as a person would say it."""
    if plan.format != _FORMAT:
        yield f"format {plan.format}, not {_FORMAT}"
    for path, before, now in _differences(plan.settings, settings):
        yield f"{path}={before}, not {now}"
    before, now = ({file.name: file for file in some} for some in (plan.files, files))
    for name in (*before, *now):
        if name not in now or name not in before:
            yield f"{'' if name in before else 'no '}input {name}"
        elif before[name] != now[name]:
            yield f"another content of {name}"
    if plan.files != tuple(files):
        yield "its inputs in another order"
    for name, before, now in _differences(plan.versions, versions):
        yield f"{name} {before}, not {now}"


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys((*before, *now)):
        one, other = before.get(name), now.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _differences(one, other, f"{path}{name}.")
        elif one != other:
            yield f"{path}{name}", one, other


def _json(content: Any) -> bytes:
    return (json.dumps(content, sort_keys=True) + "\n").encode()
