"""Stage 3: the samples of a part that stay, decoded, tokenized in batches, and written as shards.

`encoded/part-NNNNNN/` is a set of its own; beside it, `summary.json` counts what decoding left out.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import TypeAdapter

from triptych.data_pipelines.prepare.config import PrepareConfig
from triptych.data_pipelines.prepare.filters.pairs import AudioTextFilterConfig, is_silent
from triptych.data_pipelines.prepare.images import fit_image
from triptych.data_pipelines.prepare.inputs.entries import MEDIA, Entry, Kind, Pair
from triptych.data_pipelines.prepare.processes import Meter
from triptych.data_pipelines.prepare.quiet import quiet
from triptych.data_pipelines.prepare.stages.scan import Summary, read_part, write_summary
from triptych.data_pipelines.prepare.work import PartJob, WorkFolder
from triptych.data_pipelines.shards.atomic import atomic_folder, replace_file
from triptych.data_pipelines.shards.decode import DecodeConfig, decode_json, decode_member
from triptych.data_pipelines.shards.encode import RawSample, tokenizer_records, write_batch
from triptych.data_pipelines.shards.errors import DamagedSample
from triptych.data_pipelines.shards.manifest import TokenizerRecord
from triptych.data_pipelines.shards.writer import ShardWriter
from triptych.data_pipelines.tokenizers.protocol import Tokenizer
from triptych.data_pipelines.vocabulary import Modality

_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OUR_KEY = re.compile(r"\d{6,}-\d{9,}")


class TokenizerLoader(Protocol):
    """Can be sent to a process, to load the tokenizers there."""

    def __call__(self, kind: Kind, number: int, num_processes: int) -> Mapping[Modality, Tokenizer]:
        """Those that the kind needs, for process `number` of `num_processes` of this machine."""
        ...


@dataclass(kw_only=True, slots=True, frozen=True)
class EncodeStage:
    """work: the work folder."""

    work: Path
    config: PrepareConfig
    load_tokenizers: TokenizerLoader
    num_processes: int

    def worker(self, number: int) -> "_Encoder":
        tokenizers = self.load_tokenizers(self.config.kind, number, self.num_processes)
        work = WorkFolder(self.work)
        _require_same(work, tokenizers)
        return _Encoder(work, self.config, tokenizers)


def _require_same(work: WorkFolder, tokenizers: Mapping[Modality, Tokenizer]) -> None:
    """ValueError unless all parts of a work folder are encoded by the same tokenizers."""
    records = tokenizer_records(tokenizers)
    if not work.tokenizers.exists():  # processes that start at once write the same
        content = {modality: asdict(record) for modality, record in records.items()}
        replace_file(work.tokenizers, (json.dumps(content, sort_keys=True) + "\n").encode())
    before = TypeAdapter(dict[str, TokenizerRecord]).validate_json(work.tokenizers.read_bytes())
    for modality, record in records.items():
        if before.get(modality) != record:
            raise ValueError(
                f"{work.folder} holds parts encoded with another {modality} tokenizer than {record.fingerprint[:12]}; "
                f"give the one before, or remove {work.tokenizers.name} and encoded/ there to encode anew"
            )


class _Encoder:
    def __init__(self, work: WorkFolder, config: PrepareConfig, tokenizers: Mapping[Modality, Tokenizer]) -> None:
        self._work, self._config, self._tokenizers = work, config, tokenizers

    def run(self, job: PartJob, meter: Meter) -> int:
        summary = Summary()
        with atomic_folder(self._work.encoded(job.number)) as partial:
            with ShardWriter(partial, self._config.shards, provenance={"part": job.number}) as writer:
                writer.set_tokenizers(tokenizer_records(self._tokenizers))
                for batch in _batches(self._samples(job, meter, summary), self._config):
                    meter.tokens(self._write(batch, writer, job))
            write_summary(partial, summary)
        meter.part(job.num_bytes)
        return summary.num_damaged

    def _write(self, batch: list[RawSample], writer: ShardWriter, job: PartJob) -> int:
        try:
            return sum(write_batch(batch, self._tokenizers, writer).values())
        except ValueError as error:
            mend = "--set images.height=.. images.width=.. and images.colours=.. convert images"
            raise ValueError(f"{job.files[job.part[0].file].name} and what follows: {error} ({mend})") from error

    def _samples(self, job: PartJob, meter: Meter, summary: Summary) -> Iterator[RawSample]:
        decisions = np.load(self._work.decisions / f"part-{job.number:06d}.npy")
        keys = _Keys(job.number)
        number = -1
        for number, (file_name, entry) in enumerate(read_part(job, self._config)):
            if number >= len(decisions):
                break
            reason = None
            if decisions[number]:
                assert not isinstance(entry.content, DamagedSample)
                try:
                    raw = self._decode(entry)
                    if isinstance(raw, str):
                        reason = raw
                        summary.left_out[reason] += 1
                    else:
                        key, renamed = keys.of(entry.own_key, number)
                        yield RawSample(key, raw, _labels(entry, renamed, self._config.decode))
                except DamagedSample as error:
                    where = f"{file_name}: {entry.name}"
                    summary.note_damaged(where, error.reason, self._config.num_damaged_named)
                    reason = f"damaged: {error.reason}"
            meter.sample(entry.num_bytes, reason)
        if number + 1 != len(decisions):
            raise ValueError(f"part {job.number} has other samples than when it was scanned; begin in another --work")

    def _decode(self, entry: Entry) -> dict[Modality, Any] | str:
        """What the tokenizers take, or why the sample is left out."""
        if isinstance(entry.content, str):
            return {"text": entry.content}
        media = MEDIA[self._config.kind]
        assert isinstance(entry.content, Pair) and media is not None
        with quiet(entry.content.media):
            raw = decode_member(entry.name, media, entry.content.media, self._config.decode)
        if isinstance(self._config.filters, AudioTextFilterConfig) and is_silent(raw, self._config.filters):
            return "silence"
        if media == "image":
            raw = fit_image(raw, self._config.images)
        return {"text": entry.content.caption.strip(), media: raw}


class _Keys:
    """Keys that no other sample of the part has: a sample's own where it fits, else the numbers of part and sample."""

    def __init__(self, part: int) -> None:
        self._part = part
        self._used: set[str] = set()

    def of(self, own: str | None, number: int) -> tuple[str, str | None]:
        """The key, and the own one if that had to give way."""
        if own is not None and _KEY.fullmatch(own) and not _OUR_KEY.fullmatch(own) and own not in self._used:
            self._used.add(own)
            return own, None
        return f"{self._part:06d}-{number:09d}", own


def _labels(entry: Entry, renamed: str | None, decode: DecodeConfig) -> bytes | None:
    """The sample's own .json; it holds as "source_key" a key that had to give way."""
    labels = entry.content.labels if isinstance(entry.content, Pair) else None
    if renamed is None:
        return labels
    content = {} if labels is None else decode_json(entry.name, labels, decode)
    return json.dumps({**content, "source_key": renamed}).encode()


def _batches(samples: Iterator[RawSample], config: PrepareConfig) -> Iterator[list[RawSample]]:
    """Samples in groups that depend on nothing but the samples, so that codes do not either."""
    batch: list[RawSample] = []
    num_bytes = 0
    for sample in samples:
        batch.append(sample)
        num_bytes += sum(len(raw) if isinstance(raw, str) else raw.nbytes for raw in sample.raw.values())
        if len(batch) == config.batch_samples or num_bytes >= config.batch_bytes:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch
