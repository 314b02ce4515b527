"""Sources of documents: pairs, and texts. Sizes come from the index, tokens are read when they are asked for.

Shape legend: N samples or documents, U samples without repeats, T tokens of a batch.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.shards.codes import Codes
from triptych.data_pipelines.shards.errors import Failure
from triptych.data_pipelines.stream.sequences import SIDES, SequenceLayout
from triptych.data_pipelines.vocabulary import Modality, Task

Block = tuple[int, int]
"""Consecutive samples: the first, and the one behind the last."""


class Pieces(NamedTuple):
    """Documents that are wanted, each int64 [N]. samples_N: absolute sample index. firsts_N: where in the sample's own
    tokens it begins. lengths_N: positions. starts_N: where in the batch its first position is.
    """

    samples_N: NDArray[np.int64]
    firsts_N: NDArray[np.int64]
    lengths_N: NDArray[np.int64]
    starts_N: NDArray[np.int64]


class CodeReader(Protocol):
    """Codes by absolute sample index, from shards or from memory."""

    def __len__(self) -> int: ...

    def num_codes_of_blocks(self, modality: Modality, blocks: Sequence[Block]) -> NDArray[np.int64]:
        """int64 [N]: how many codes the samples of these blocks have, one block after the other; 0 where none."""
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

    def num_codes_of_blocks(self, modality: Modality, blocks: Sequence[Block]) -> NDArray[np.int64]:
        offsets = self._codes[modality].offsets
        return np.concatenate([np.diff(offsets[start : stop + 1]) for start, stop in blocks])

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

    def sizes(self, blocks: Sequence[Block]) -> NDArray[np.int64]:
        """int64 [N]: tokens of the samples of these blocks, one block after the other, by the index."""
        ...

    def write(self, pieces: Pieces, tokens_T: NDArray[np.int64], roles_T: NDArray[np.uint8]) -> dict[int, Failure]:
        """Put documents where they belong. Of those that cannot be read, or are not as long as the index says: their
        number among the pieces, and why; their positions stay as they are.
        """
        ...


class PairSource:
    """One task over pairs of codes; every pair is a document."""

    overhead = 0

    def __init__(self, task: Task, codes: CodeReader, layout: SequenceLayout) -> None:
        self.task: Task = task
        self._codes, self._layout = codes, layout

    @property
    def longest_piece(self) -> int:
        return self._layout.longest(self.task)

    def __len__(self) -> int:
        return len(self._codes)

    def sizes(self, blocks: Sequence[Block]) -> NDArray[np.int64]:
        condition = SIDES[self.task][0]
        return self._layout.pair_sizes(self.task, self._codes.num_codes_of_blocks(condition, blocks))

    def write(self, pieces: Pieces, tokens_T: NDArray[np.int64], roles_T: NDArray[np.uint8]) -> dict[int, Failure]:
        condition = SIDES[self.task][0]
        found = _read(self._codes, SIDES[self.task], pieces)
        counts_N = np.array([0 if isinstance(codes, Failure) else len(codes[condition]) for codes in found], np.int64)
        sizes = self._layout.pair_sizes(self.task, counts_N).tolist()
        lost: dict[int, Failure] = {}
        places = zip(found, sizes, pieces.lengths_N.tolist(), pieces.starts_N.tolist(), strict=True)
        for number, (codes, size, length, start) in enumerate(places):
            if isinstance(codes, Failure):
                lost[number] = codes
            elif size != length:
                lost[number] = _other_length(int(pieces.samples_N[number]), size, length)
            else:
                where = slice(start, start + length)
                self._layout.write_pair(self.task, codes, tokens_T[where], roles_T[where])
        return lost


class TextSource:
    """Texts with END behind each, cut into pieces where they are longer than `longest` positions."""

    task: Task = "text"
    overhead = 1

    def __init__(self, codes: CodeReader, layout: SequenceLayout, longest: int) -> None:
        if longest <= self.overhead:
            raise ValueError(f"a text of {longest} positions holds no token; raise data.packing.row_length")
        self._codes, self._layout = codes, layout
        self.longest_piece = longest - self.overhead

    def __len__(self) -> int:
        return len(self._codes)

    def sizes(self, blocks: Sequence[Block]) -> NDArray[np.int64]:
        return self._codes.num_codes_of_blocks("text", blocks) + 1

    def write(self, pieces: Pieces, tokens_T: NDArray[np.int64], roles_T: NDArray[np.uint8]) -> dict[int, Failure]:
        found = _read(self._codes, ("text",), pieces)
        lost = {number: codes for number, codes in enumerate(found) if isinstance(codes, Failure)}
        texts = [np.zeros(0, np.int32) if isinstance(codes, Failure) else codes["text"] for codes in found]
        # The task's token, and what there is of the text and its END.
        here_N = 1 + np.array([len(text) for text in texts], np.int64) + 1 - pieces.firsts_N
        # A piece that is shorter than the longest ends its text, so that a text that is too long shows there.
        is_last_N = pieces.lengths_N <= self.longest_piece
        differ_N = (here_N < pieces.lengths_N) | (is_last_N & (here_N > pieces.lengths_N))
        for number in np.flatnonzero(differ_N).tolist():
            promised = int(pieces.lengths_N[number])
            lost.setdefault(number, _other_length(int(pieces.samples_N[number]), int(here_N[number]), promised))
        if lost:
            kept = [number for number in range(len(found)) if number not in lost]
            texts, pieces = [texts[number] for number in kept], Pieces(*(column[kept] for column in pieces))
        if texts:
            self._layout.write_texts(texts, *pieces[1:], tokens_T, roles_T)
        return lost


def _read(
    codes: CodeReader, modalities: Sequence[Modality], pieces: Pieces
) -> list[Mapping[Modality, NDArray[np.int32]] | Failure]:
    """The codes of each piece's sample. A sample is read once for all its pieces, and all in their order on disk."""
    samples_U, of_N = np.unique(pieces.samples_N, return_inverse=True)
    found = codes.read_codes(samples_U.tolist(), modalities)
    return [found[sample] for sample in of_N.tolist()]


def _other_length(sample: int, found: int, promised: int) -> Failure:
    detail = f"{found} positions where the index promises {promised}"
    return Failure(sample=sample, key="", shard="", reason="index", detail=detail, attempts=1)
