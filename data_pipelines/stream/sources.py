"""Sources of sequences: pairs, and packed text. Both hold codes in memory as one flat array with offsets."""

import zlib
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.shards.codes import Codes
from triptych.data_pipelines.stream.sequences import SIDES, SequenceLayout
from triptych.data_pipelines.vocabulary import Modality, Task

Sequence = tuple[NDArray[np.int64], NDArray[np.uint8]]
"""Tokens and roles of one sequence, both [sequence_length]."""


class Source(Protocol):
    """Sequences by absolute index. `num_tokens`: positions of each that are not padding."""

    @property
    def num_tokens(self) -> int: ...

    def __len__(self) -> int: ...

    def sequence(self, index: int) -> Sequence: ...


class PairSource:
    """One task over pairs of codes."""

    def __init__(self, task: Task, codes: Mapping[Modality, Codes], layout: SequenceLayout) -> None:
        self.task: Task = task
        self._layout = layout
        self._codes: dict[Modality, Codes] = {modality: codes[modality] for modality in SIDES[task]}
        sizes = {len(side) for side in self._codes.values()}
        assert len(sizes) == 1, f"the two sides of {task} differ in number: {sizes}"
        self._size = sizes.pop()

    @property
    def num_tokens(self) -> int:
        return self._layout.num_tokens(self.task)

    def __len__(self) -> int:
        return self._size

    def sequence(self, index: int) -> Sequence:
        return self._layout.pair(self.task, {side: codes.item(index) for side, codes in self._codes.items()})


class TextSource:
    """Documents end to end, END after each, cut into windows: packed text without padding.

    A window may hold the end of one document and the start of the next, and attends across them.
    """

    task: Task = "text"

    def __init__(self, codes: Codes, layout: SequenceLayout) -> None:
        self._layout = layout
        vocabulary = layout.vocabulary
        lengths = np.diff(codes.offsets)
        ids = np.full(len(codes.flat) + len(lengths), vocabulary.end("text"), np.int64)
        documents = np.repeat(np.arange(len(lengths)), lengths)
        ids[np.arange(len(codes.flat)) + documents] = codes.flat.astype(np.int64) + vocabulary.codes_start("text")
        window = layout.sequence_length - 1
        self._windows = ids[: len(ids) // window * window].reshape(-1, window)

    @property
    def num_tokens(self) -> int:
        return self._layout.num_tokens("text")

    def __len__(self) -> int:
        return len(self._windows)

    def sequence(self, index: int) -> Sequence:
        return self._layout.packed_text(self._windows[index])


def source_id(name: str) -> int:
    """A source's number in the noise's key: from its name, so that other sources may come and go."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF
