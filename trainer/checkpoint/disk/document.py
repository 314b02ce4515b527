"""state.json: where the run stood, and the index of the files beside it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

FORMAT = 3
STATE = "state.json"


class Damaged(ValueError):
    """A checkpoint that is not what was written: something is missing, cut short or altered."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Header:
    """What a checkpoint holds besides tensors, as `TrainState` has it. cursor: one counter per data source. identity:
    what the run that resumes must agree with. carried: the numbers of what else the run carries, by name.
    """

    tokens: int
    step: int
    logical_updates: float
    batch: int | None
    cursor: Mapping[str, int]
    identity: Mapping[str, Any]
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True, frozen=True)
class StoredFile:
    """A file as it was written. sha256: hexadecimal."""

    sha256: str
    num_bytes: int


@dataclass(kw_only=True, slots=True, frozen=True)
class StoredBox:
    """A box of a whole parameter, and where it lies: the tensor `key` of the safetensors file `file`."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: str
    key: str


@dataclass(kw_only=True, slots=True, frozen=True)
class StoredTensor:
    """A whole parameter of `shape`; its boxes tile it."""

    shape: tuple[int, ...]
    boxes: tuple[StoredBox, ...]


@dataclass(kw_only=True, slots=True, frozen=True)
class Document:
    """The whole of state.json. files: by name. index: part, then parameter name."""

    header: Header
    files: Mapping[str, StoredFile]
    index: Mapping[str, Mapping[str, StoredTensor]]

    def files_of(self, part: str) -> set[str]:
        """Names of the files that hold a part. Empty if the checkpoint has no such part."""
        return {box.file for tensor in self.index.get(part, {}).values() for box in tensor.boxes}


def encode_document(document: Document) -> bytes:
    """The text of state.json; its own checksum included, so that an altered digit is noticed."""
    content: dict[str, Any] = {"format": FORMAT, **asdict(document.header)}
    content["files"] = {name: asdict(file) for name, file in document.files.items()}
    content["index"] = {
        part: {name: asdict(tensor) for name, tensor in tensors.items()} for part, tensors in document.index.items()
    }
    return json.dumps({**content, "sha256": _checksum(content)}).encode()


def read_document(folder: Path) -> Document:
    """The index of a checkpoint. `Damaged` if it is missing or altered; ValueError if it has another format."""
    path = folder / STATE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Damaged(f"{path} is missing; name a checkpoint, a folder under a run's checkpoints/") from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise Damaged(f"{path} is damaged ({error}); use an older checkpoint") from None
    if not isinstance(content, dict) or "format" not in content:
        raise Damaged(f"{path} is damaged (it names no format); use an older checkpoint")
    told = content.pop("sha256", None)
    # Where the checksum is that of our format, the digit is what was altered.
    if content["format"] != FORMAT and told != _checksum({**content, "format": FORMAT}):
        raise ValueError(
            f"{path} has format {content['format']}, this version reads {FORMAT}; use the version that wrote it"
        )
    if told != _checksum(content):
        raise Damaged(f"{path} does not match its own checksum; use an older checkpoint")
    return _decode(content)


def _decode(content: Mapping[str, Any]) -> Document:
    header = Header(**{entry.name: content[entry.name] for entry in fields(Header)})
    files = {name: StoredFile(**file) for name, file in content["files"].items()}
    index = {
        part: {name: _decode_tensor(tensor) for name, tensor in tensors.items()}
        for part, tensors in content["index"].items()
    }
    return Document(header=header, files=files, index=index)


def _decode_tensor(tensor: Mapping[str, Any]) -> StoredTensor:
    boxes = (
        StoredBox(offsets=tuple(box["offsets"]), sizes=tuple(box["sizes"]), file=box["file"], key=box["key"])
        for box in tensor["boxes"]
    )
    return StoredTensor(shape=tuple(tensor["shape"]), boxes=tuple(boxes))


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
