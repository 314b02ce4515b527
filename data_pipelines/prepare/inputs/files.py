"""The files that the inputs of a command stand for."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from triptych.data_pipelines.prepare.inputs.entries import Kind

Format = Literal["lines", "table", "text", "tar"]
_FORMATS: dict[str, Format] = {".jsonl": "lines", ".parquet": "table", ".txt": "text", ".tar": "tar", ".tgz": "tar"}
_COMPRESSED = (".gz", ".zst")


@dataclass(kw_only=True, slots=True, frozen=True)
class InputFile:
    """name: the path as it was given. modified_ns: its time stamp, by which a change is noticed."""

    name: str
    format: Format
    num_bytes: int
    modified_ns: int

    @property
    def path(self) -> Path:
        return Path(self.name)

    @property
    def compressed(self) -> bool:
        return self.path.suffix in (*_COMPRESSED, ".tgz")


def find_files(inputs: Sequence[Path], kind: Kind) -> tuple[InputFile, ...]:
    """The files among `inputs` and, by name, in the folders among them, however deep; hidden ones are passed over, and
    so are files of other kinds.

    ValueError for an input that is not there or not of a kind that is read, for one given twice, or if there is no
    file.
    """
    found: list[InputFile] = []
    for path in inputs:
        if path.is_dir():
            inside = sorted(child for child in path.rglob("*") if not _hidden(child.relative_to(path)))
            found += [_input_file(child, kind) for child in inside if _format(child, kind) and child.is_file()]
        elif _format(path, kind) is None:
            raise ValueError(f"{path} is none of {', '.join(_suffixes(kind))}; give such files, or folders of them")
        else:
            found.append(_input_file(path, kind))
    for file, other in zip(found, _repeated(found), strict=True):
        if other:
            raise ValueError(f"{file.name} is given twice; give it once")
    if not found:
        given = ", ".join(map(str, inputs))
        raise ValueError(f"{given}: there is no {', '.join(_suffixes(kind))}; give files, or folders that hold some")
    return tuple(found)


def _repeated(files: Iterable[InputFile]) -> Iterator[bool]:
    seen: set[Path] = set()
    for file in files:
        path = file.path.resolve()
        yield path in seen
        seen.add(path)


def _input_file(path: Path, kind: Kind) -> InputFile:
    about, form = path.stat(), _format(path, kind)
    assert form is not None
    return InputFile(name=str(path), format=form, num_bytes=about.st_size, modified_ns=about.st_mtime_ns)


def _format(path: Path, kind: Kind) -> Format | None:
    name = path.with_suffix("") if path.suffix in _COMPRESSED else path
    form = _FORMATS.get(name.suffix)
    if form is None or (kind != "text" and form != "tar") or (form == "table" and name != path):
        return None
    return form


def _suffixes(kind: Kind) -> tuple[str, ...]:
    """As a person reads them."""
    plain = tuple(suffix for suffix, form in _FORMATS.items() if kind == "text" or form == "tar")
    return (*plain, "the same with .gz or .zst")


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
