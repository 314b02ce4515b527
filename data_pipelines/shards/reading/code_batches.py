"""Codes of many samples at once, or why a sample has none.

Shape legend: N samples asked for, R of them in one shard, K modalities.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.shards.codes import code_extension, unpack_codes
from triptych.data_pipelines.shards.errors import DamagedSample, Failure
from triptych.data_pipelines.shards.index import MEMBER, key_of
from triptych.data_pipelines.shards.manifest import Manifest
from triptych.data_pipelines.shards.reading.index_pages import IndexPages
from triptych.data_pipelines.shards.reading.members import LACKING, MemberReader
from triptych.data_pipelines.storage.retry import Unread
from triptych.data_pipelines.vocabulary import Modality

SampleCodes = dict[Modality, NDArray[np.int32]]


class _ShardRows(NamedTuple):
    """Samples of one shard. places_R: which of those asked for. records_R: their rows of the index, or why not."""

    number: int
    places_R: NDArray[np.intp]
    records_R: NDArray[Any] | Unread


class CodeBatches:
    """Puts together what an index and the members of a set give."""

    def __init__(self, index: IndexPages, members: MemberReader, manifest: Manifest) -> None:
        self._index = index
        self._members = members
        self._shards = manifest.shards
        self._vocab_sizes = {modality: record.vocab_size for modality, record in manifest.tokenizers.items()}

    def read(
        self,
        samples_N: NDArray[np.int64],
        numbers_N: NDArray[np.int64],
        rows_N: NDArray[np.int64],
        modalities: Sequence[Modality],
    ) -> list[SampleCodes | Failure]:
        """Of each sample its codes, or the failure. samples_N: absolute indices. numbers_N: of their shards. rows_N:
        within these.
        """
        shards = self._records(numbers_N, rows_N)
        spans_KN = np.zeros((len(modalities), len(samples_N)), MEMBER)
        unread: dict[int, Unread] = {}
        for _, places_R, records_R in shards:
            if isinstance(records_R, Unread):
                unread.update(dict.fromkeys(places_R.tolist(), records_R))
                continue
            for turn, modality in enumerate(modalities):
                if code_extension(modality) in (records_R.dtype.names or ()):
                    spans_KN[turn, places_R] = records_R[code_extension(modality)]
        members = self._members.read(np.tile(numbers_N, len(modalities)), spans_KN.reshape(-1))
        counts = spans_KN["num_codes"].reshape(-1).tolist()
        found: list[SampleCodes | Failure] = []
        for place in range(len(samples_N)):
            codes: SampleCodes = {}
            problem = unread.get(place)
            for turn, modality in enumerate(modalities if problem is None else ()):
                at = turn * len(samples_N) + place
                part = self._decoded(modality, members[at], counts[at])
                if isinstance(part, Unread):
                    problem = part
                    break
                codes[modality] = part
            found.append(codes if problem is None else self._failure(int(samples_N[place]), place, shards, problem))
        return found

    def _records(self, numbers_N: NDArray[np.int64], rows_N: NDArray[np.int64]) -> list[_ShardRows]:
        """The samples' rows of the indices, by shard, and in their order within each."""
        order_N = np.lexsort((rows_N, numbers_N))
        ordered_N = numbers_N[order_N]
        edges = [0, *(np.flatnonzero(ordered_N[1:] != ordered_N[:-1]) + 1).tolist(), len(order_N)]
        places = {int(ordered_N[a]): order_N[a:b] for a, b in itertools.pairwise(edges) if a < b}
        records = self._index.rows({number: rows_N[part] for number, part in places.items()})
        return [_ShardRows(number, part, records[number]) for number, part in places.items()]

    def _decoded(self, modality: Modality, data: memoryview | Unread, num_codes: int) -> NDArray[np.int32] | Unread:
        """num_codes: by the index."""
        if isinstance(data, Unread):
            return (
                Unread(reason="no codes", detail=f"no {modality} codes", attempts=1) if data.reason == LACKING else data
            )
        try:
            codes = unpack_codes("", data, self._vocab_sizes.get(modality))
        except DamagedSample as error:
            return Unread(reason=error.reason, detail=error.detail, attempts=1)
        if len(codes) != num_codes:
            detail = f"{len(codes)} {modality} codes where the index says {num_codes}"
            return Unread(reason="codes", detail=detail, attempts=1)
        return codes

    def _failure(self, sample: int, place: int, shards: Sequence[_ShardRows], problem: Unread) -> Failure:
        (part,) = (part for part in shards if place in part.places_R)
        key = ""
        if not isinstance(part.records_R, Unread):
            key = key_of(part.records_R[int(np.flatnonzero(part.places_R == place)[0])])
        return Failure(
            sample=sample,
            key=key,
            shard=self._shards[part.number].name,
            reason=problem.reason,
            detail=problem.detail,
            attempts=problem.attempts,
        )
