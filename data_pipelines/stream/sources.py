"""Sources of documents: pairs, and texts. Sizes come from the index, tokens are read when they are asked for."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.shards.codes import Codes
from triptych.data_pipelines.shards.errors import Failure
from triptych.data_pipelines.stream.sequences import SIDES, Document, SequenceLayout
from triptych.data_pipelines.vocabulary import Modality, Task


class Piece(NamedTuple):
    """A document that is wanted: of sample `sample`, its own tokens first..first + length - overhead - 1."""

    sample: int
    first: int
    length: int


class CodeReader(Protocol):
    """Codes by absolute sample index, from shards or from memory."""

    def __len__(self) -> int: ...

    def num_codes(self, modality: Modality, start: int, stop: int) -> NDArray[np.int64]:
        """How many codes samples start..stop-1 have."""
        ...

    def read_codes(
        self, indices: Sequence[int], modalities: Sequence[Modality]
    ) -> Sequence[Mapping[Modality, NDArray[np.int32]] | Failure]:
        """Codes of each sample, or why there are none."""
        ...


class MemoryCodes:
    """Codes that are held in memory, as a `CodeReader`: for sets that fit, and for made-up ones."""

    def __init__(self, codes: Mapping[Modality, Codes]) -> None:
        sizes = {len(side) for side in codes.values()}
        assert len(sizes) == 1, f"modalities differ in their number of samples: {sizes}"
        self._codes, self._size = dict(codes), sizes.pop()

    def __len__(self) -> int:
        return self._size

    def num_codes(self, modality: Modality, start: int, stop: int) -> NDArray[np.int64]:
        return np.diff(self._codes[modality].offsets[start : stop + 1])

    def read_codes(
        self, indices: Sequence[int], modalities: Sequence[Modality]
    ) -> Sequence[Mapping[Modality, NDArray[np.int32]] | Failure]:
        return [{modality: self._codes[modality].item(index) for modality in modalities} for index in indices]


class Source(Protocol):
    """Documents of one task. A sample of more than `longest_piece` tokens is cut; `overhead`: positions that a document
    takes besides its sample's tokens.
    """

    @property
    def task(self) -> Task: ...

    @property
    def longest_piece(self) -> int: ...

    @property
    def overhead(self) -> int: ...

    def __len__(self) -> int:
        """Samples in an epoch."""
        ...

    def sizes(self, start: int, stop: int) -> NDArray[np.int64]:
        """Tokens of samples start..stop-1, by the index."""
        ...

    def documents(self, pieces: Sequence[Piece]) -> list[Document | Failure]:
        """Each document, or why its sample cannot be read."""
        ...


class PairSource:
    """One task over pairs of codes; every pair is a document."""

    overhead = 0

    def __init__(self, task: Task, codes: CodeReader, layout: SequenceLayout) -> None:
        self.task: Task = task
        self._codes, self._layout = codes, layout

    @property
    def longest_piece(self) -> int:
        return self._layout.sequence_length

    def __len__(self) -> int:
        return len(self._codes)

    def sizes(self, start: int, stop: int) -> NDArray[np.int64]:
        condition = SIDES[self.task][0]
        return self._layout.pair_sizes(self.task, self._codes.num_codes(condition, start, stop))

    def documents(self, pieces: Sequence[Piece]) -> list[Document | Failure]:
        found = self._codes.read_codes([piece.sample for piece in pieces], SIDES[self.task])
        return [codes if isinstance(codes, Failure) else self._layout.pair(self.task, codes) for codes in found]


class TextSource:
    """Texts with END behind each, cut into pieces where they are longer than `longest` positions."""

    task: Task = "text"
    overhead = 1

    def __init__(self, codes: CodeReader, layout: SequenceLayout, longest: int) -> None:
        self._codes, self._layout = codes, layout
        self.longest_piece = longest - self.overhead

    def __len__(self) -> int:
        return len(self._codes)

    def sizes(self, start: int, stop: int) -> NDArray[np.int64]:
        return self._codes.num_codes("text", start, stop) + 1

    def documents(self, pieces: Sequence[Piece]) -> list[Document | Failure]:
        found = self._codes.read_codes([piece.sample for piece in pieces], ("text",))
        return [
            codes if isinstance(codes, Failure) else self._layout.text(codes["text"], piece.first, piece.length)
            for codes, piece in zip(found, pieces, strict=True)
        ]
