"""What a set holds, from its manifest and its index; samples are not read, so millions of them take seconds."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.shards.manifest import Manifest, TokenizerRecord
from triptych.data_pipelines.shards.reader import ShardSet
from triptych.data_pipelines.statistics.lengths import LengthCounts, LengthSummary
from triptych.data_pipelines.vocabulary import MODALITIES, Modality

_SAMPLES_AT_ONCE = 1 << 18


@dataclass(kw_only=True, slots=True, frozen=True)
class CodeStatistics:
    """Codes of one modality. lengths: of the samples that have any. num_without: samples that have none.

    tokenizer: which made them, None if the manifest does not say.
    """

    num_codes: int
    lengths: LengthCounts
    num_without: int
    tokenizer: TokenizerRecord | None

    @property
    def summary(self) -> LengthSummary | None:
        return self.lengths.summary()


@dataclass(kw_only=True, slots=True, frozen=True)
class SetStatistics:
    """num_bytes: of the tars. member_bytes: by extension. damaged: samples of the source that were left out, by
    reason.
    """

    name: str
    num_samples: int
    num_shards: int
    num_bytes: int
    member_bytes: dict[str, int]
    codes: dict[Modality, CodeStatistics]
    damaged: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """Plain values, the lengths as their summaries."""
        return {
            "set": self.name,
            "samples": self.num_samples,
            "shards": self.num_shards,
            "bytes": self.num_bytes,
            "member_bytes": self.member_bytes,
            "codes": {modality: _codes_as_json(codes) for modality, codes in self.codes.items()},
            "damaged": self.damaged,
        }


def set_statistics(shards: ShardSet) -> SetStatistics:
    """All of it. ValueError if an index is damaged, or counts other codes than the manifest."""
    manifest, name = shards.manifest, str(shards.folder)
    codes: dict[Modality, CodeStatistics] = {
        modality: _code_statistics(shards, modality)
        for modality in MODALITIES
        if manifest.tokenizers.get(modality) or manifest.num_codes(modality)
    }
    for modality, found in codes.items():
        if found.num_codes != (promised := manifest.num_codes(modality)):
            raise ValueError(
                f"{name}: the index counts {found.num_codes} {modality} codes, the manifest {promised}; copy the set "
                "again, or encode it again"
            )
    return SetStatistics(
        name=name,
        num_samples=manifest.num_samples,
        num_shards=len(manifest.shards),
        num_bytes=sum(shard.num_bytes for shard in manifest.shards),
        member_bytes=_member_bytes(manifest),
        codes=codes,
        damaged=manifest.damaged_by_reason,
    )


def _code_statistics(shards: ShardSet, modality: Modality) -> CodeStatistics:
    counts = LengthCounts.of(_lengths(shards, modality))
    present = counts.without_zeros()
    return CodeStatistics(
        num_codes=int((present.values * present.counts).sum()),
        lengths=present,
        num_without=len(counts) - len(present),
        tokenizer=shards.manifest.tokenizers.get(modality),
    )


def _lengths(shards: ShardSet, modality: Modality) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(shards), _SAMPLES_AT_ONCE):
        yield shards.num_codes(modality, start, min(start + _SAMPLES_AT_ONCE, len(shards)))


def _member_bytes(manifest: Manifest) -> dict[str, int]:
    total: Counter[str] = Counter()
    for shard in manifest.shards:
        total.update(shard.member_bytes)
    return dict(sorted(total.items()))


def _codes_as_json(codes: CodeStatistics) -> dict[str, Any]:
    summary, tokenizer = codes.summary, codes.tokenizer
    return {
        "codes": codes.num_codes,
        "samples_without": codes.num_without,
        "lengths": summary and summary.as_json(),
        "tokenizer": tokenizer and {"fingerprint": tokenizer.fingerprint, "vocab_size": tokenizer.vocab_size},
    }
