"""Writes tar shards in the webdataset layout (`{key}.{extension}`), their indices and the manifest, as one pass over
the samples.

The archives are plain POSIX ustar without times or owners, so the same samples give the same bytes everywhere.
"""

import contextlib
import hashlib
import os
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from triptych.data_pipelines.shards.atomic import write_file
from triptych.data_pipelines.shards.index import Span, pack_index
from triptych.data_pipelines.shards.manifest import Damaged, Manifest, Shard, TokenizerRecord, write_manifest
from triptych.data_pipelines.vocabulary import Modality

# webdataset cuts a name at its first dot and lower-cases the extension; ustar holds 100 characters.
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_EXTENSION = re.compile(r"[a-z0-9]+(\.[a-z0-9]+)*")
_MAX_EXTENSION = 32
_MAX_MEMBER_BYTES = 8**11 - 1  # eleven octal digits in a ustar header


@dataclass(kw_only=True, slots=True, frozen=True)
class ShardConfig:
    """When to begin a new shard: at whichever bound the next sample would cross.

    The writer holds one shard's index in memory.
    """

    max_shard_bytes: int = 1 << 30
    max_shard_samples: int = 100_000


def shard_names(number: int) -> tuple[str, str]:
    """File names of a shard and its index."""
    return f"shard-{number:06d}.tar", f"shard-{number:06d}.index.npy"


class ShardWriter:
    """Writes samples to `folder` (which exists) in the order given; the manifest comes last, when the `with` block
    ends well.

    provenance: anything JSON about where the samples come from. Use within `atomic_folder`, so that a crash leaves
    nothing.
    """

    def __init__(self, folder: Path, config: ShardConfig, *, provenance: Mapping[str, Any]) -> None:
        self._folder = folder
        self._config = config
        self._provenance = dict(provenance)
        self._shards: list[Shard] = []
        self._open: _OpenShard | None = None
        self._tokenizers: dict[Modality, TokenizerRecord] = {}
        self._damaged: list[Damaged] = []

    def write(self, key: str, members: Mapping[str, bytes], num_codes: Mapping[Modality, int] | None = None) -> None:
        """Append a sample: extension to bytes. num_codes: codes in its member `<modality>.npy`, by modality.

        ValueError for a key or extension that webdataset would not read back as it is, a key twice in one shard, no
        members, or codes counted that are not among them.
        """
        _check_names(key, members)
        codes = {f"{modality}.npy": count for modality, count in (num_codes or {}).items()}
        for extension in codes.keys() - members.keys():
            raise ValueError(f"sample {key} has codes counted but no {extension}; give the member, or do not count it")
        size = sum(_padded(len(data)) + tarfile.BLOCKSIZE for data in members.values())
        if self._open is not None and not self._open.has_room(size, self._config):
            self._close_shard()
        if self._open is None:
            self._open = _OpenShard(self._folder, len(self._shards))
        self._open.append(key, members, codes)

    def set_tokenizers(self, tokenizers: Mapping[Modality, TokenizerRecord]) -> None:
        """Which tokenizers made the codes; may come last."""
        self._tokenizers = dict(tokenizers)

    def record_damaged(self, damaged: Damaged) -> None:
        """Note in the manifest that a source sample was left out."""
        self._damaged.append(damaged)

    @property
    def num_damaged(self) -> int:
        return len(self._damaged)

    def close(self) -> Manifest:
        """Finish the last shard and write the manifest."""
        self._close_shard()
        manifest = Manifest(
            shards=tuple(self._shards),
            provenance=self._provenance,
            tokenizers=self._tokenizers,
            damaged=tuple(self._damaged),
        )
        write_manifest(self._folder, manifest)
        return manifest

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self._open is not None:
            self._open.abandon()

    def _close_shard(self) -> None:
        if self._open is not None:
            self._shards.append(self._open.finish())
            self._open = None


class _OpenShard:
    """The shard being written."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._name, self._index_name = shard_names(number)
        self._file: BinaryIO = open(folder / self._name, "xb")  # noqa: SIM115 - closed by finish or abandon
        self._digest = hashlib.sha256()
        self._size = 0
        self._rows: list[tuple[str, dict[str, Span]]] = []
        self._keys: set[str] = set()
        self._num_codes: Counter[str] = Counter()
        self._member_bytes: Counter[str] = Counter()

    def has_room(self, size: int, config: ShardConfig) -> bool:
        return self._size + size <= config.max_shard_bytes and len(self._rows) < config.max_shard_samples

    def append(self, key: str, members: Mapping[str, bytes], num_codes: Mapping[str, int]) -> None:
        if key in self._keys:
            raise ValueError(f"sample {key} comes twice in {self._name}; give every sample its own key")
        self._keys.add(key)
        spans = {}
        for extension, data in sorted(members.items()):
            header = tarfile.TarInfo(f"{key}.{extension}")  # time, owner and group are 0 and ""
            header.size, header.mode = len(data), 0o444
            self._put(header.tobuf(tarfile.USTAR_FORMAT))
            spans[extension] = Span(self._size, len(data), zlib.crc32(data), num_codes.get(extension, 0))
            self._put(data)
            self._put(bytes(_padded(len(data)) - len(data)))
            self._member_bytes[extension] += len(data)
        self._rows.append((key, spans))
        self._num_codes.update({extension.removesuffix(".npy"): count for extension, count in num_codes.items()})

    def finish(self) -> Shard:
        self._put(bytes(2 * tarfile.BLOCKSIZE))
        self._put(bytes(-self._size % tarfile.RECORDSIZE))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        index = pack_index(self._rows)
        write_file(self._folder / self._index_name, index)
        return Shard(
            name=self._name,
            index=self._index_name,
            num_bytes=self._size,
            num_samples=len(self._rows),
            sha256=self._digest.hexdigest(),
            index_sha256=hashlib.sha256(index).hexdigest(),
            num_codes=dict(self._num_codes),
            member_bytes=dict(self._member_bytes),
        )

    def abandon(self) -> None:
        with contextlib.suppress(OSError):  # a full disk cannot take the buffer; the error that brought us here says so
            self._file.close()

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._size += len(data)


def _padded(size: int) -> int:
    return size + -size % tarfile.BLOCKSIZE


def _check_names(key: str, members: Mapping[str, bytes]) -> None:
    if not _KEY.fullmatch(key):
        raise ValueError(f"key {key!r} does not fit a tar of samples; use up to 64 letters, digits, - and _")
    if not members:
        raise ValueError(f"sample {key} has no members; leave it out")
    for extension, data in members.items():
        if not _EXTENSION.fullmatch(extension) or len(extension) > _MAX_EXTENSION:
            raise ValueError(
                f"extension {extension!r} of {key} does not fit; use up to 32 lower-case letters, digits and dots"
            )
        if len(data) > _MAX_MEMBER_BYTES:
            raise ValueError(f"{key}.{extension} is larger than 8 GiB; cut it into several samples")
