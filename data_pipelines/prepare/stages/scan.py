"""Stage 1: read a part, apply the rules that need no decoding, and note what tells a sample from others.

`scanned/part-NNNNNN/` holds `kept.npy` (bool per sample), `digests.npy` (uint64 [kept, 2]), of texts `signatures.npy`
(uint32 [kept, permutations]) and `bands.npy` (uint64 [bands, kept]), and `summary.json`.
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from triptych.data_pipelines.prepare.config import PrepareConfig
from triptych.data_pipelines.prepare.duplicates.signatures import MinHasher, digest
from triptych.data_pipelines.prepare.duplicates.words import WordReader
from triptych.data_pipelines.prepare.filters.pairs import AudioTextFilterConfig, bad_audio_text, bad_image_text
from triptych.data_pipelines.prepare.filters.text import TextFilterConfig, bad_length, bad_text
from triptych.data_pipelines.prepare.inputs.entries import Entry, Pair
from triptych.data_pipelines.prepare.inputs.parts import read_piece
from triptych.data_pipelines.prepare.processes import Meter
from triptych.data_pipelines.prepare.work import PartJob, WorkFolder, require_unchanged
from triptych.data_pipelines.shards.atomic import atomic_folder, write_file
from triptych.data_pipelines.shards.errors import DamagedSample, shown

_SUMMARY = "summary.json"
_MAX_WHERE = 300  # characters


@dataclass(kw_only=True, slots=True)
class Summary:
    """What a part came to. left_out, damaged: number by reason. named: where some of the damaged are, and why. sha256:
    of the files that begin in this part, by their number.
    """

    num_samples: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    damaged: Counter[str] = field(default_factory=Counter)
    named: list[tuple[str, str]] = field(default_factory=list)
    sha256: dict[int, str] = field(default_factory=dict)

    @property
    def num_damaged(self) -> int:
        return self.damaged.total()

    def note_damaged(self, where: str, reason: str, max_named: int) -> None:
        self.damaged[reason] += 1
        if len(self.named) < max_named:
            self.named.append((shown(where, _MAX_WHERE), reason))


def read_part(job: PartJob, config: PrepareConfig) -> Iterator[tuple[str, Entry]]:
    """The samples of a part in order, each with the name of its file. ValueError if a file has changed."""
    for file in job.files.values():
        require_unchanged(file)
    for piece in job.part:
        file = job.files[piece.file]
        for entry in read_piece(file, piece, config.kind, config.inputs, config.decode):
            yield file.name, entry


def read_summary(folder: Path) -> Summary:
    """ValueError if a part's summary is damaged."""
    path = folder / _SUMMARY
    try:
        return TypeAdapter(Summary).validate_json(path.read_bytes())
    except ValidationError:
        raise ValueError(f"{path} is damaged; remove its folder {folder}, and repeat the stage") from None


def write_summary(folder: Path, summary: Summary) -> None:
    """Write `summary.json`."""
    fields = {field.name: getattr(summary, field.name) for field in dataclasses.fields(summary)}
    write_file(folder / _SUMMARY, (json.dumps(fields, sort_keys=True) + "\n").encode())


@dataclass(kw_only=True, slots=True, frozen=True)
class ScanStage:
    """work: the work folder."""

    work: Path
    config: PrepareConfig

    def worker(self, number: int) -> "_Scanner":
        return _Scanner(WorkFolder(self.work), self.config)


class _Scanner:
    def __init__(self, work: WorkFolder, config: PrepareConfig) -> None:
        self._work, self._config = work, config
        self._reader = WordReader()
        near = config.kind == "text" and config.deduplication.near_duplicates > 0
        self._minhasher = MinHasher(config.deduplication) if near else None

    def run(self, job: PartJob, meter: Meter) -> int:
        summary, kept = Summary(), []
        digests: list[bytes] = []
        signatures: list[NDArray[np.uint32]] = []
        for file_name, entry in read_part(job, self._config):
            reason = self._judge(entry, file_name, digests, signatures, summary)
            kept.append(reason is None)
            meter.sample(entry.num_bytes, reason)
        summary.num_samples = len(kept)
        for piece in job.part:
            if piece.start == 0:
                with open(job.files[piece.file].path, "rb") as file:
                    summary.sha256[piece.file] = hashlib.file_digest(file, "sha256").hexdigest()
        with atomic_folder(self._work.scanned(job.number)) as partial:
            np.save(partial / "kept.npy", np.array(kept, bool))
            np.save(partial / "digests.npy", np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2))
            if self._minhasher is not None:
                num_permutations = self._config.deduplication.num_permutations
                table = np.array(signatures, np.uint32).reshape(-1, num_permutations)
                np.save(partial / "signatures.npy", table)
                np.save(partial / "bands.npy", self._minhasher.bands(table))
            write_summary(partial, summary)
        meter.part(job.num_bytes)
        return summary.num_damaged

    def _judge(
        self,
        entry: Entry,
        file_name: str,
        digests: list[bytes],
        signatures: list[NDArray[np.uint32]],
        summary: Summary,
    ) -> str | None:
        """Note a sample that is kept; of another give the reason."""
        try:
            if isinstance(entry.content, DamagedSample):
                raise entry.content
            if isinstance(entry.content, str):
                reason = self._judge_text(entry.content, digests, signatures)
            else:
                reason = self._judge_pair(entry.name, entry.content)
                digests += [digest(entry.content)] if reason is None else []
        except DamagedSample as error:
            summary.note_damaged(f"{file_name}: {entry.name}", error.reason, self._config.num_damaged_named)
            return f"damaged: {error.reason}"
        if reason is not None:
            summary.left_out[reason] += 1
        return reason

    def _judge_text(self, text: str, digests: list[bytes], signatures: list[NDArray[np.uint32]]) -> str | None:
        filters = self._config.filters
        assert isinstance(filters, TextFilterConfig)
        reason = bad_length(text, filters)
        if reason is not None:
            return reason
        words = self._reader.words(text)
        reason = bad_text(text, words, filters)
        if reason is None:
            digests.append(digest(text))
            if self._minhasher is not None:
                signatures.append(self._minhasher.signature(words, digests[-1]))
        return reason

    def _judge_pair(self, key: str, pair: Pair) -> str | None:
        filters = self._config.filters
        assert not isinstance(filters, TextFilterConfig)
        if isinstance(filters, AudioTextFilterConfig):
            return bad_audio_text(key, pair, filters, self._config.decode)
        return bad_image_text(key, pair, filters, self._config.decode)
