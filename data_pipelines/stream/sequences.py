"""Codes to documents: task and boundary tokens, regions closed by END, roles.

    text   [task] t t END                                    every position after the task token is a target
    t2i    [task] [begin_text] caption END.. [begin_image] codes
    i2t    [task] [begin_image] codes [begin_text] caption END..
    t2s, s2t: the same with [begin_audio] codes END..

The first side of a pair is the condition, the second the target. END fills a region to its end and is predicted where
the region is the target, so the model decides lengths: a target always takes its whole region. A condition is given,
so it may take less.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.batch import Role
from triptych.data_pipelines.vocabulary import Modality, Task, Vocabulary

SIDES: Mapping[Task, tuple[Modality, Modality]] = {
    "t2i": ("text", "image"),
    "i2t": ("image", "text"),
    "t2s": ("text", "audio"),
    "s2t": ("audio", "text"),
}
"""Condition and target of each paired task."""


class Document(NamedTuple):
    """tokens: int64 [n]. roles: uint8 [n]."""

    tokens: NDArray[np.int64]
    roles: NDArray[np.uint8]


@dataclass(kw_only=True, slots=True, frozen=True)
class RegionSizes:
    """Positions that each side of a pair may take; shorter codes are filled with END, longer ones are cut.

    condition_multiple: a condition takes what its codes and one END need, filled up to a multiple of this; None: all of
    its region, as arXiv 2602.21472 pads. The multiple is our choice: the fewer positions, the less is spent on END.
    """

    text: int
    image: int
    audio: int
    condition_multiple: int | None = None

    def __post_init__(self) -> None:
        if self.condition_multiple is not None and self.condition_multiple < 1:
            raise ValueError(
                f"regions.condition_multiple is {self.condition_multiple}; set it to 1 or more, or to null"
            )

    def of(self, modality: Modality) -> int:
        return getattr(self, modality)

    def condition_sizes(self, modality: Modality, num_codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of conditions of so many codes, elementwise."""
        if self.condition_multiple is None:
            return np.full_like(num_codes, self.of(modality))
        needed = -(-(num_codes + 1) // self.condition_multiple) * self.condition_multiple
        return np.minimum(needed, self.of(modality))


@dataclass(kw_only=True, slots=True, frozen=True)
class SequenceLayout:
    """How a document is put together; none is longer than `sequence_length`. ValueError if a pair may be."""

    vocabulary: Vocabulary
    sequence_length: int
    regions: RegionSizes

    def __post_init__(self) -> None:
        for task in SIDES:
            if self.longest(task) > self.sequence_length:
                raise ValueError(
                    f"a {task} pair takes {self.longest(task)} positions, sequence_length is "
                    f"{self.sequence_length}; raise sequence_length or lower the regions"
                )

    def longest(self, task: Task) -> int:
        """Most positions that a document of the task takes."""
        if task == "text":
            return self.sequence_length
        return 3 + sum(self.regions.of(side) for side in SIDES[task])

    def pair_sizes(self, task: Task, num_condition_codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of pairs whose conditions have so many codes, elementwise."""
        condition, target = SIDES[task]
        return 3 + self.regions.of(target) + self.regions.condition_sizes(condition, num_condition_codes)

    def text(self, codes: NDArray[Any], first: int, length: int) -> Document:
        """`length` positions: the task's token, and tokens first..first + length - 2 of a text with END behind it.
        All there is, if that is less.
        """
        size = min(length, len(codes) + 2 - first)
        document = Document(np.empty(size, np.int64), np.empty(size, np.uint8))
        self.write_texts([codes], np.array([first]), np.array([size]), np.array([0]), *document)
        return document

    def write_texts(
        self,
        codes: Sequence[NDArray[Any]],
        firsts_N: NDArray[np.int64],
        lengths_N: NDArray[np.int64],
        starts_N: NDArray[np.int64],
        tokens_T: NDArray[np.int64],
        roles_T: NDArray[np.uint8],
    ) -> None:
        """As `text`, of N pieces, each from where it starts in the arrays. No piece is longer than there is."""
        task, code_0, end = _text_ids(self.vocabulary)
        stops_N = starts_N + lengths_N
        has_end_N = firsts_N + lengths_N - 1 > np.array([len(text) for text in codes], np.int64)
        columns = (firsts_N, starts_N + 1, stops_N - has_end_N)
        for text, first, start, stop in zip(codes, *(column.tolist() for column in columns), strict=True):
            tokens_T[start:stop] = text[first : first + stop - start]
        # What is the same for all is done for whole runs of documents: a row's, where none is lost.
        breaks_N = starts_N[1:] != stops_N[:-1]
        runs = zip(
            starts_N[np.append(True, breaks_N)].tolist(), stops_N[np.append(breaks_N, True)].tolist(), strict=True
        )
        for start, stop in runs:
            tokens_T[start:stop] += code_0
            roles_T[start:stop] = Role.TARGET
        tokens_T[starts_N], roles_T[starts_N] = task, Role.GIVEN
        tokens_T[stops_N[has_end_N] - 1] = end

    def pair(self, task: Task, codes: Mapping[Modality, NDArray[Any]]) -> Document:
        """One pair; `codes` has both sides of the task."""
        size = int(self.pair_sizes(task, np.array([len(codes[SIDES[task][0]])]))[0])
        document = Document(np.empty(size, np.int64), np.empty(size, np.uint8))
        self.write_pair(task, codes, *document)
        return document

    def write_pair(
        self,
        task: Task,
        codes: Mapping[Modality, NDArray[Any]],
        tokens: NDArray[np.int64],
        roles: NDArray[np.uint8],
    ) -> None:
        """As `pair`, into arrays of the pair's size."""
        condition, target = SIDES[task]
        ids = _pair_ids(self.vocabulary, task)
        behind = len(tokens) - self.regions.of(target)  # where the target begins, behind its boundary token
        tokens[0], tokens[1], tokens[behind - 1] = ids.task, ids.begin_condition, ids.begin_target
        roles[:2] = roles[behind - 1] = Role.GIVEN
        _fill(tokens[2 : behind - 1], codes[condition], *ids.condition)
        _fill(tokens[behind:], codes[target], *ids.target)
        roles[2 : behind - 1], roles[behind:] = Role.CONDITION, Role.TARGET

    def target_slice(self, task: Task, length: int) -> slice:
        """Where the target of a pair of `length` positions lies."""
        return slice(length - self.regions.of(SIDES[task][1]), length)

    def region_codes(self, modality: Modality, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Codes of a region up to its first END; ids outside the modality's range are dropped."""
        ends = np.flatnonzero(ids == self.vocabulary.end(modality))
        kept = ids[: ends[0]] if len(ends) else ids
        codes = kept - self.vocabulary.codes_start(modality)
        return codes[(codes >= 0) & (codes < self.vocabulary.num_outputs(modality) - 1)]


class _PairIds(NamedTuple):
    """condition, target: each (id of code 0, id of END)."""

    task: int
    begin_condition: int
    begin_target: int
    condition: tuple[int, int]
    target: tuple[int, int]


@lru_cache(maxsize=8)
def _text_ids(vocabulary: Vocabulary) -> tuple[int, int, int]:
    """Ids of the task, of code 0 and of END."""
    return vocabulary.special("task_text"), vocabulary.codes_start("text"), vocabulary.end("text")


@lru_cache(maxsize=32)
def _pair_ids(vocabulary: Vocabulary, task: Task) -> _PairIds:
    condition, target = SIDES[task]
    return _PairIds(
        task=vocabulary.special(f"task_{task}"),
        begin_condition=vocabulary.special(f"begin_{condition}"),
        begin_target=vocabulary.special(f"begin_{target}"),
        condition=(vocabulary.codes_start(condition), vocabulary.end(condition)),
        target=(vocabulary.codes_start(target), vocabulary.end(target)),
    )


def _fill(ids: NDArray[np.int64], codes: NDArray[Any], start: int, end: int) -> None:
    """One region: the codes, then END to its size."""
    kept = ids[: len(codes)]
    kept[:] = codes[: len(ids)]
    kept += start
    ids[len(kept) :] = end
