"""Raw shards to shards of codes, batch by batch."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from triptych.data_pipelines.shards.atomic import atomic_folder
from triptych.data_pipelines.shards.codes import code_extension, pack_codes
from triptych.data_pipelines.shards.decode import RAW_EXTENSIONS, DecodeConfig, decode_json, decode_member
from triptych.data_pipelines.shards.errors import DamagedSample
from triptych.data_pipelines.shards.manifest import Damaged, Manifest, TokenizerRecord, read_manifest
from triptych.data_pipelines.shards.reader import ShardSet
from triptych.data_pipelines.shards.writer import ShardConfig, ShardWriter
from triptych.data_pipelines.tokenizers.protocol import Tokenizer
from triptych.data_pipelines.vocabulary import MODALITIES, Modality


@dataclass(kw_only=True, slots=True, frozen=True)
class EncodeConfig:
    """batch_samples: how many samples a tokenizer gets at once. max_damaged: one more than this ends the work."""

    batch_samples: int = 256
    max_damaged: int = 0
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    shards: ShardConfig = field(default_factory=ShardConfig)


class RawSample(NamedTuple):
    """raw: what the tokenizer of each modality takes. labels: JSON, or None."""

    key: str
    raw: dict[Modality, Any]
    labels: bytes | None


def encode_shards(
    source_folder: Path,
    target_folder: Path,
    tokenizers: Mapping[Modality, Tokenizer],
    config: EncodeConfig | None = None,
    *,
    shard_numbers: range | None = None,
) -> Manifest:
    """Write the codes of every sample of `source_folder` to `target_folder`, all or nothing.

    Each member that one of the tokenizers takes becomes codes; a text sample is one document. Samples keep key, order
    and `.json`. Damaged ones are left out and named in the manifest. shard_numbers: only these shards of the source, so
    that many processes may each encode some of them and `join_sets` make them one.

    ValueError once more than `max_damaged` samples are damaged, if no member is for any of the tokenizers, or if there
    is no such shard.
    """
    config = config or EncodeConfig()
    source = ShardSet.open(source_folder)
    shards = source.manifest.shards
    numbers = range(len(shards)) if shard_numbers is None else shard_numbers
    if any(not 0 <= number < len(shards) for number in numbers):
        raise ValueError(f"{source_folder} has {len(shards)} shards, not {numbers}; give numbers below {len(shards)}")
    provenance = {
        "source": source.manifest.provenance,
        "source_shards": {shards[number].name: shards[number].sha256 for number in numbers},
    }
    found: set[Modality] = set()
    with atomic_folder(target_folder) as partial:
        with ShardWriter(partial, config.shards, provenance=provenance) as writer:
            samples = _sound_samples(source, numbers, tuple(tokenizers), writer, config)
            while batch := list(itertools.islice(samples, config.batch_samples)):
                found |= write_batch(batch, tokenizers, writer).keys()
            if not found:
                kinds = ", ".join(tokenizers)
                raise ValueError(f"{source_folder} has nothing for a tokenizer of {kinds}; give another one")
            records = tokenizer_records(tokenizers)
            writer.set_tokenizers({modality: record for modality, record in records.items() if modality in found})
        return read_manifest(partial)


def tokenizer_records(tokenizers: Mapping[Modality, Tokenizer]) -> dict[Modality, TokenizerRecord]:
    """What a manifest says of the tokenizers that made its codes."""
    return {
        modality: TokenizerRecord(fingerprint=tokenizer.fingerprint, vocab_size=tokenizer.vocab_size)
        for modality, tokenizer in tokenizers.items()
    }


def _sound_samples(
    source: ShardSet,
    numbers: range,
    modalities: tuple[Modality, ...],
    writer: ShardWriter,
    config: EncodeConfig,
) -> Iterator[RawSample]:
    for index in itertools.chain.from_iterable(map(source.samples_of_shard, numbers)):
        try:
            yield _decode(source, index, modalities, config.decode)
        except DamagedSample as error:
            writer.record_damaged(Damaged(key=error.key, reason=error.reason))
            if writer.num_damaged > config.max_damaged:
                limit = f"more than max_damaged={config.max_damaged} samples are damaged"
                raise ValueError(f"{source.folder}: {limit}, the last: {error}") from error


def _decode(source: ShardSet, index: int, modalities: tuple[Modality, ...], config: DecodeConfig) -> RawSample:
    key, members = source.read(index)
    raw: dict[Modality, Any] = {}
    for modality in MODALITIES:
        if modality not in modalities:
            continue
        present = next((extension for extension in RAW_EXTENSIONS[modality] if extension in members), None)
        if present is not None:
            raw[modality] = decode_member(key, modality, members[present], config)
    if "json" in members:
        decode_json(key, members["json"], config)
    return RawSample(key, raw, members.get("json"))


def write_batch(
    batch: Sequence[RawSample], tokenizers: Mapping[Modality, Tokenizer], writer: ShardWriter
) -> dict[Modality, int]:
    """Append the codes of these samples, each modality encoded at once; give the number of codes of each that came."""
    members: list[dict[str, bytes]] = [{} if sample.labels is None else {"json": sample.labels} for sample in batch]
    num_codes: list[dict[Modality, int]] = [{} for _ in batch]
    total: dict[Modality, int] = {}
    for modality, tokenizer in tokenizers.items():
        rows = [row for row, sample in enumerate(batch) if modality in sample.raw]
        if not rows:
            continue
        total[modality] = 0
        for row, codes in zip(rows, tokenizer.encode([batch[row].raw[modality] for row in rows]), strict=True):
            members[row][code_extension(modality)] = pack_codes(codes, tokenizer.vocab_size)
            num_codes[row][modality] = len(codes)
            total[modality] += len(codes)
    for sample, sample_members, sample_codes in zip(batch, members, num_codes, strict=True):
        if sample_codes:
            writer.write(sample.key, sample_members, sample_codes)
    return total
