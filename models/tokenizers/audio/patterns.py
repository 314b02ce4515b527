"""Codes of several codebooks as one stream of codes, and back.

A codec gives K codes for each of T frames. A position of our model holds one id, so K times T codes become a sequence:

    flattened  frame by frame, in each codebook 0 to K-1 (arXiv 2306.05284, section 2.2, "flattening")
    delayed    codebook k shifted by k frames, so that a step holds codebook k of frame t - k; then step by step. The
               K (K - 1) corners hold a filler (same section, "delay")
    parallel   codebook after codebook: K tracks of T codes. The paper's "parallel" predicts the K codes of a frame at
               once, from one position; tracks in one sequence are our reading of it, for a position that holds one id

Codebook k's code c has id k * size + c; the filler, in "delayed" alone, is the last id. Every arrangement is undone
exactly; streams that none of them made are read as far as they make sense (`codes_of`).

Shape legend: K codebooks, T frames, N codes in the stream.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Arrangement = Literal["flattened", "delayed", "parallel"]
ARRANGEMENTS: tuple[Arrangement, ...] = get_args(Arrangement)
_NONE = -1


@dataclass(kw_only=True, slots=True, frozen=True)
class CodebookPattern:
    """arrangement: as in the module's text. num_codebooks, codebook_size: K, and codes in each."""

    arrangement: Arrangement
    num_codebooks: int
    codebook_size: int

    @property
    def vocab_size(self) -> int:
        """Ids of a stream, the filler counted."""
        return self.num_codebooks * self.codebook_size + (self.arrangement == "delayed")

    @property
    def filler(self) -> int:
        """The id of the corners; no id of the vocabulary unless the arrangement is "delayed"."""
        return self.num_codebooks * self.codebook_size

    def num_codes(self, num_frames: int) -> int:
        """N of T frames; none of none."""
        corners = self.num_codebooks - 1 if self.arrangement == "delayed" and num_frames else 0
        return (num_frames + corners) * self.num_codebooks

    def stream(self, codes_KT: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [N] of int64 [K, T] in 0..codebook_size-1."""
        num_codebooks, num_frames = codes_KT.shape
        assert num_codebooks == self.num_codebooks
        ids_KT = codes_KT + self.codebook_size * np.arange(num_codebooks, dtype=np.int64)[:, None]
        if self.arrangement == "parallel":
            return ids_KT.ravel()
        if self.arrangement == "flattened" or num_frames == 0:
            return ids_KT.T.ravel()
        steps = np.full((num_frames + num_codebooks - 1, num_codebooks), self.filler, np.int64)
        for book, ids_T in enumerate(ids_KT):
            steps[book : book + num_frames, book] = ids_T
        return steps.ravel()

    def codes_of(self, stream: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [K, T] in 0..codebook_size-1, whatever the stream.

        What `stream` made comes back exactly. An unfinished frame at the end is left out. A code of another codebook
        than its place's, a filler inside and any other id count as missing; a missing code is that of the frame before,
        or 0 in the first. In "parallel" codes are told apart by their codebooks, and codebook 0 says how many frames
        there are: a stream cut off there decodes to fewer frames, one cut off later to coarser ones.
        """
        ids = np.asarray(stream, np.int64)
        if self.arrangement == "parallel":
            return _filled(self._tracks(ids))
        num_steps = len(ids) // self.num_codebooks
        ids_KS = ids[: num_steps * self.num_codebooks].reshape(num_steps, self.num_codebooks).T
        books_K1 = np.arange(self.num_codebooks, dtype=np.int64)[:, None]
        codes_KS = ids_KS - books_K1 * self.codebook_size
        codes_KS = np.where((codes_KS >= 0) & (codes_KS < self.codebook_size), codes_KS, _NONE)
        if self.arrangement == "flattened":
            return _filled(codes_KS)
        num_frames = max(num_steps - self.num_codebooks + 1, 0)
        return _filled(np.stack([codes_S[book : book + num_frames] for book, codes_S in enumerate(codes_KS)]))

    def _tracks(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        ids = ids[(ids >= 0) & (ids < self.num_codebooks * self.codebook_size)]
        books, codes = np.divmod(ids, self.codebook_size)
        num_frames = int((books == 0).sum())
        codes_KT = np.full((self.num_codebooks, num_frames), _NONE, np.int64)
        for book in range(self.num_codebooks):
            track = codes[books == book][:num_frames]
            codes_KT[book, : len(track)] = track
        return codes_KT


def _filled(codes_KT: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each missing code as the last one before it, or 0."""
    places_KT = np.where(codes_KT == _NONE, 0, np.arange(codes_KT.shape[1], dtype=np.int64))
    last_KT = np.maximum.accumulate(places_KT, axis=1)
    return np.maximum(np.take_along_axis(codes_KT, last_KT, axis=1), 0)
