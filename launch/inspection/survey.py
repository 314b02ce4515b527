"""Reads some samples of a set, spread over all of it, and counts what they hold.

Shape legend: V codes of a vocabulary.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.shards.codes import code_extension, unpack_codes
from triptych.data_pipelines.shards.decode import RAW_EXTENSIONS, decode_json, decode_member
from triptych.data_pipelines.shards.errors import DamagedSample, UnreadableShard
from triptych.data_pipelines.shards.manifest import Manifest
from triptych.data_pipelines.shards.reader import Sample, ShardSet
from triptych.data_pipelines.vocabulary import MODALITIES, Modality
from triptych.launch.inspection.config import InspectionConfig

_MOST_DAMAGED = 50  # kept with their reasons; all are counted
_MOST_CODES = 1 << 24
_SHORTEST_EVEN = 8  # codes or values that a member must have before being all alike says anything
UNITS: Mapping[Modality, str] = {"text": "characters", "image": "pixels", "audio": "seconds"}


@dataclass(kw_only=True, slots=True, frozen=True)
class DamagedRead:
    """A sample that cannot be used. key: "" if not even that could be read."""

    index: int
    key: str
    reason: str
    detail: str


@dataclass(kw_only=True, slots=True)
class Survey:
    """indices: of the samples that were read, ascending. counts_V: by modality how often each code occurs; long enough
    for the largest that was met. sizes: of raw members, in UNITS. alike: samples whose contents an earlier one had.
    even: by modality, members of one value throughout.
    """

    indices: list[int]
    damaged: list[DamagedRead] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    counts_V: dict[Modality, NDArray[np.int64]] = field(default_factory=dict)
    sizes: dict[Modality, list[float]] = field(default_factory=dict)
    even: Counter[Modality] = field(default_factory=Counter)
    alike: int = 0

    @property
    def num_damaged(self) -> int:
        return self.reasons.total()

    def num_codes(self, modality: Modality) -> int:
        """Codes of this modality that were read."""
        return int(self.counts_V[modality].sum()) if modality in self.counts_V else 0


def spread(total: int, number: int, seed: int) -> list[int]:
    """`number` of 0..total-1 (all if there are no more), ascending: one drawn from each of as many equal parts."""
    if number >= total:
        return list(range(total))
    generator = np.random.default_rng([seed, total, number])
    edges = [total * part // number for part in range(number + 1)]
    return [int(generator.integers(start, stop)) for start, stop in itertools.pairwise(edges)]


def indices_to_read(manifest: Manifest, config: InspectionConfig) -> list[int]:
    """Which samples to read: as many as the config's bounds allow, spread over the set."""
    extensions = {extension for shard in manifest.shards for extension in shard.member_bytes}
    media = any(name in extensions for modality in ("image", "audio") for name in RAW_EXTENSIONS[modality])
    bytes_a_sample = max(1, sum(shard.num_bytes for shard in manifest.shards) // max(1, manifest.num_samples))
    number = min(config.max_raw_read if media else config.max_samples_read, config.max_bytes_read // bytes_a_sample)
    return spread(manifest.num_samples, max(1, number), config.seed)


def survey(shards: ShardSet, config: InspectionConfig) -> Survey:
    """Read them. What cannot be read or decoded is noted, and the rest goes on."""
    found = Survey(indices=indices_to_read(shards.manifest, config))
    seen: set[bytes] = set()
    for index in found.indices:
        try:
            sample = read_sample(shards, index)
            _count(found, sample, seen, config)
        except DamagedSample as error:
            found.reasons[error.reason] += 1
            if len(found.damaged) < _MOST_DAMAGED:
                found.damaged.append(DamagedRead(index=index, key=error.key, reason=error.reason, detail=error.detail))
    return found


def read_sample(shards: ShardSet, index: int) -> Sample:
    """Sample `index`. DamagedSample, with an empty key, if its shard cannot be read either."""
    try:
        return shards.read(index)
    except UnreadableShard as error:
        raise DamagedSample("", error.reason, error.detail) from error


def raw_member(members: Mapping[str, bytes], modality: Modality) -> tuple[str, bytes] | None:
    """Extension and bytes of the member that a tokenizer of this modality would take."""
    return next(((name, members[name]) for name in RAW_EXTENSIONS[modality] if name in members), None)


def _count(found: Survey, sample: Sample, seen: set[bytes], config: InspectionConfig) -> None:
    key, members = sample
    for modality in MODALITIES:
        if (packed := members.get(code_extension(modality))) is not None:
            codes = unpack_codes(key, packed)
            _add(found, key, modality, codes)
            found.even[modality] += _is_even(codes)
        if (raw := raw_member(members, modality)) is not None:
            _measure(found, key, modality, raw[1], config)
    if "json" in members:
        decode_json(key, members["json"])
    digest = _digest(members[name] for name in sorted(members) if name != "json")
    found.alike += digest in seen
    seen.add(digest)


def _add(found: Survey, key: str, modality: Modality, codes: NDArray[np.int32]) -> None:
    if len(codes) and not 0 <= codes.min() <= codes.max() < _MOST_CODES:
        raise DamagedSample(key, "codes", f"the {modality} codes {codes.min()}..{codes.max()} are of no vocabulary")
    known = found.counts_V.get(modality, np.zeros(0, np.int64))
    counts = np.bincount(codes, minlength=len(known))
    found.counts_V[modality] = counts + np.pad(known, (0, len(counts) - len(known)))


def _measure(found: Survey, key: str, modality: Modality, data: bytes, config: InspectionConfig) -> None:
    value = decode_member(key, modality, data, config.decode)
    if modality == "text":
        size = float(len(value))
    elif modality == "image":
        size = float(value.shape[0] * value.shape[1])
    else:
        size = len(value) / config.decode.sample_rate_hertz
    found.sizes.setdefault(modality, []).append(size)
    if modality != "text":
        found.even[modality] += _is_even(value)


def _is_even(values: NDArray) -> bool:
    return values.size >= _SHORTEST_EVEN and values.min() == values.max()


def _digest(parts: Iterable[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()
