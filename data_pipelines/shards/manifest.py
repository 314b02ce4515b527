"""`manifest.json`: what a folder of shards holds, who made it, and how to tell that it is whole."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from triptych.data_pipelines.shards.atomic import write_file
from triptych.data_pipelines.tokenizers.protocol import Tokenizer
from triptych.data_pipelines.vocabulary import Modality

FILE_NAME = "manifest.json"
FORMAT = "triptych-shards"
VERSION = 2


@dataclass(kw_only=True, slots=True, frozen=True)
class Shard:
    """One tar file and its index. num_codes: by modality. member_bytes: by extension, tar headers not counted."""

    name: str
    index: str
    num_bytes: int
    num_samples: int
    sha256: str
    index_sha256: str
    num_codes: dict[str, int]
    member_bytes: dict[str, int]


@dataclass(kw_only=True, slots=True, frozen=True)
class TokenizerRecord:
    """Which tokenizer made the codes."""

    fingerprint: str
    vocab_size: int


@dataclass(kw_only=True, slots=True, frozen=True)
class Damaged:
    """A source sample that was left out, and why."""

    key: str
    reason: str


@dataclass(kw_only=True, slots=True, frozen=True)
class Manifest:
    """Everything about a folder of shards but the samples. Its size grows with the number of shards, not of samples."""

    shards: tuple[Shard, ...]
    provenance: dict[str, Any]
    tokenizers: dict[Modality, TokenizerRecord] = field(default_factory=dict)
    damaged: tuple[Damaged, ...] = ()

    @property
    def num_samples(self) -> int:
        return sum(shard.num_samples for shard in self.shards)

    def num_codes(self, modality: Modality) -> int:
        """Codes of this modality in all shards."""
        return sum(shard.num_codes.get(modality, 0) for shard in self.shards)

    def member_bytes(self, extension: str) -> int:
        """Bytes of all members with this extension, such as the bytes of all texts for "txt"."""
        return sum(shard.member_bytes.get(extension, 0) for shard in self.shards)

    @property
    def damaged_by_reason(self) -> dict[str, int]:
        return dict(Counter(sample.reason for sample in self.damaged))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`; the same manifest gives the same bytes."""
    content = {"format": FORMAT, "version": VERSION, **asdict(manifest)}
    write_file(folder / FILE_NAME, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder.

    ValueError, naming the file, if it is missing, not JSON, of another version or incomplete.
    """
    path = folder / FILE_NAME
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{path} is missing; give a folder of shards, or make it again") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON; copy it again, or make the folder again") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise ValueError(f"{path} is not a manifest of shards; give a folder of shards")
    version = content.pop("version", None)
    if version != VERSION:
        raise ValueError(f"{path} has version {version!r}, this program reads {VERSION}; make the folder again")
    try:
        manifest = TypeAdapter(Manifest).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: {where}: {first['msg']}; copy it again, or make the folder again") from error
    for name in _file_names(manifest.shards):
        if Path(name).name != name:  # a manifest from elsewhere must not reach outside its folder
            raise ValueError(f"{path}: {name!r} is not a plain file name; make the folder again")
    return manifest


def require_fingerprints(folder: Path, manifest: Manifest, tokenizers: Mapping[Modality, Tokenizer]) -> None:
    """ValueError unless exactly these tokenizers made the codes of the folder; more than it needs may be given."""
    for modality, record in manifest.tokenizers.items():
        tokenizer = tokenizers.get(modality)
        if tokenizer is None:
            raise ValueError(
                f"{folder} holds {modality} codes but no {modality} tokenizer is given; give the one that made them"
            )
        if tokenizer.fingerprint != record.fingerprint:
            raise ValueError(
                f"{folder}: the {modality} codes are of tokenizer {record.fingerprint[:12]}, the one given is "
                f"{tokenizer.fingerprint[:12]}; give the tokenizer that made them, or encode the shards again"
            )


def _file_names(shards: Iterable[Shard]) -> Iterable[str]:
    for shard in shards:
        yield shard.name
        yield shard.index
