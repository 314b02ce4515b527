"""`manifest.json`: what a folder of shards holds, who made it, and how to tell that it is whole."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from triptych.data_pipelines.shards.atomic import write_file
from triptych.data_pipelines.shards.errors import UnreadableShard
from triptych.data_pipelines.storage.folder import Range
from triptych.data_pipelines.storage.location import open_folder
from triptych.data_pipelines.storage.retry import Clock, PatientFolder, RetryConfig, Unread
from triptych.data_pipelines.vocabulary import Modality

FILE_NAME = "manifest.json"
FORMAT = "triptych-shards"
VERSION = 2
_FIRST_BYTES = 8 << 20  # some 15,000 shards
_MAX_BYTES = 256 << 20
_MAX_SAMPLES = 1 << 60
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}")
_AGAIN = "copy it again, or make the folder again"

Count = Annotated[int, Field(strict=True, ge=0, le=_MAX_SAMPLES)]
"""What is counted, as `read_manifest` takes it."""
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]
_Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}\z")]


@dataclass(kw_only=True, slots=True, frozen=True)
class Shard:
    """One tar file and its index. num_codes: by modality. member_bytes: by extension, tar headers not counted."""

    name: str
    index: str
    num_bytes: Annotated[Count, Field(ge=1)]
    num_samples: Count
    sha256: _Digest
    index_sha256: _Digest
    num_codes: dict[_Word, Count]
    member_bytes: dict[_Word, Count]


@dataclass(kw_only=True, slots=True, frozen=True)
class TokenizerRecord:
    """Which tokenizer made the codes."""

    fingerprint: _Word
    vocab_size: Annotated[Count, Field(ge=1)]


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


def read_manifest(folder: str | Path, retry: RetryConfig | None = None, clock: Clock | None = None) -> Manifest:
    """The manifest of a folder: a path, or a URL that fsspec understands.

    ValueError, naming the file, if it is missing, cannot be read, is not JSON, of another version or incomplete, or if
    something in it cannot be: negative counts, a file twice or outside the folder.
    """
    files = PatientFolder(open_folder(folder), retry or RetryConfig(), clock or Clock())
    path = files.path(FILE_NAME)
    data = _content(files)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON; {_AGAIN}") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise ValueError(f"{path} is not a manifest of shards; give a folder of shards")
    version = content.pop("version", None)
    if version != VERSION:
        raise ValueError(f"{path} has version {version!r:.20}, this program reads {VERSION}; make the folder again")
    try:
        manifest = _adapter().validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ascii(".".join(map(str, first["loc"])))[1:200].removesuffix("'")
        raise ValueError(f"{path}: {where}: {first['msg']}; {_AGAIN}") from error
    names = list(_file_names(manifest.shards))
    for name in names:
        if not _NAME.fullmatch(name):  # a manifest from elsewhere must not reach outside its folder
            raise ValueError(f"{path}: {name!r:.100} is not a plain file name; make the folder again")
    if len(set(names)) != len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise ValueError(f"{path}: {twice} is named twice; {_AGAIN}")
    if manifest.num_samples > _MAX_SAMPLES:
        raise ValueError(f"{path}: shards.num_samples: {manifest.num_samples} in all cannot be; {_AGAIN}")
    return manifest


@cache
def _adapter() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)


def _content(files: PatientFolder) -> bytes:
    (data,) = files.read_ranges([Range(FILE_NAME, 0, _FIRST_BYTES, exact=False)])
    if not isinstance(data, Unread) and len(data) == _FIRST_BYTES:
        (more,) = files.read_ranges([Range(FILE_NAME, _FIRST_BYTES, _MAX_BYTES + 1, exact=False)])
        data = more if isinstance(more, Unread) else data + more
    if isinstance(data, Unread):
        if data.reason == "missing":
            raise ValueError(f"{data.detail}; give a folder of shards, or make it again")
        raise UnreadableShard(data.reason, data.detail, data.attempts)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"{files.path(FILE_NAME)} is larger than {_MAX_BYTES} bytes; {_AGAIN}")
    return data


def require_fingerprints(folder: str | Path, manifest: Manifest, fingerprints: Mapping[Modality, str]) -> None:
    """ValueError unless exactly the tokenizers of these fingerprints made the codes of the folder; more than it needs
    may be given.
    """
    for modality, record in manifest.tokenizers.items():
        given = fingerprints.get(modality)
        if given is None:
            raise ValueError(
                f"{folder} holds {modality} codes but no {modality} tokenizer is given; give the one that made them"
            )
        if given != record.fingerprint:
            raise ValueError(
                f"{folder}: the {modality} codes are of tokenizer {record.fingerprint[:12]}, the one given is "
                f"{given[:12]}; give the tokenizer that made them, or encode the shards again"
            )


def _file_names(shards: Iterable[Shard]) -> Iterable[str]:
    for shard in shards:
        yield shard.name
        yield shard.index
