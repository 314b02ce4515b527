"""Codes to sequences: task and boundary tokens, regions of fixed size closed by END, roles.

    text   [task] t t END t t t ...                          every position after the task token is a target
    t2i    [task] [begin_text] caption END.. [begin_image] codes
    i2t    [task] [begin_image] codes [begin_text] caption END..
    t2s, s2t: the same with [begin_audio] codes END..

The first side of a pair is the condition, the second the target. END fills a region to its end and is predicted where
the region is the target, so the model decides lengths. One uniform length with padding after it, as the paper has it
(arXiv 2602.21472).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


@dataclass(kw_only=True, slots=True, frozen=True)
class RegionSizes:
    """Positions that each side of a pair takes; shorter codes are filled with END, longer ones are cut."""

    text: int
    image: int
    audio: int

    def of(self, modality: Modality) -> int:
        return getattr(self, modality)


@dataclass(kw_only=True, slots=True, frozen=True)
class SequenceLayout:
    """How a sequence of `sequence_length` positions is put together. ValueError if a pair does not fit."""

    vocabulary: Vocabulary
    sequence_length: int
    regions: RegionSizes

    def __post_init__(self) -> None:
        for task in SIDES:
            if self.num_tokens(task) > self.sequence_length:
                raise ValueError(
                    f"a {task} pair takes {self.num_tokens(task)} positions, sequence_length is "
                    f"{self.sequence_length}; raise sequence_length or lower the regions"
                )

    def num_tokens(self, task: Task) -> int:
        """Positions of the task's sequences that are not padding."""
        if task == "text":
            return self.sequence_length
        return 3 + sum(self.regions.of(side) for side in SIDES[task])

    def packed_text(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Tokens and roles [sequence_length] from sequence_length - 1 ids that are already in the vocabulary's text
        range.
        """
        tokens = np.concatenate([[self.vocabulary.special("task_text")], ids])
        roles = np.full(self.sequence_length, Role.TARGET, np.uint8)
        roles[0] = Role.GIVEN
        return tokens, roles

    def pair(self, task: Task, codes: Mapping[Modality, NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Tokens and roles [sequence_length] of one pair; `codes` has both sides of the task."""
        tokens = np.full(self.sequence_length, self.vocabulary.special("pad"), np.int64)
        roles = np.full(self.sequence_length, Role.PADDING, np.uint8)
        tokens[0], roles[0] = self.vocabulary.special(f"task_{task}"), Role.GIVEN
        at = 1
        for modality, role in zip(SIDES[task], (Role.CONDITION, Role.TARGET), strict=True):
            tokens[at], roles[at] = self.vocabulary.special(f"begin_{modality}"), Role.GIVEN
            stop = at + 1 + self.regions.of(modality)
            tokens[at + 1 : stop] = self.region(modality, codes[modality])
            roles[at + 1 : stop] = role
            at = stop
        return tokens, roles

    def region(self, modality: Modality, codes: NDArray[Any]) -> NDArray[np.int64]:
        """Ids of one region: the codes, then END to its size."""
        size = self.regions.of(modality)
        ids = np.full(size, self.vocabulary.end(modality), np.int64)
        kept = codes[:size]
        ids[: len(kept)] = kept + self.vocabulary.codes_start(modality)
        return ids

    def region_slice(self, task: Task, side: int) -> slice:
        """Where the condition (side 0) or the target (side 1) of a pair lies."""
        first = self.regions.of(SIDES[task][0])
        start = 2 if side == 0 else 3 + first
        return slice(start, start + self.regions.of(SIDES[task][side]))

    def region_codes(self, modality: Modality, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Codes of a region up to its first END; ids outside the modality's range are dropped."""
        ends = np.flatnonzero(ids == self.vocabulary.end(modality))
        kept = ids[: ends[0]] if len(ends) else ids
        codes = kept - self.vocabulary.codes_start(modality)
        return codes[(codes >= 0) & (codes < self.vocabulary.num_outputs(modality) - 1)]
