"""What is kept of a sample to tell whether it has been seen before: a digest, and of texts a MinHash signature.

MinHash and its bands: Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3. The
permutations, and how many bands of how many values there are, come from the datasketch library.
"""

import hashlib
import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.prepare.duplicates.words import Words, mixed, runs_of_words
from triptych.data_pipelines.prepare.inputs.entries import Pair

_SHINGLES_AT_ONCE = 1 << 11  # times 128 permutations of four bytes: a megabyte, which a core's cache holds
# datasketch weighs needless against missed candidates; needless ones are compared and cost little. With these, 98 % of
# pairs at a threshold of 0.8 exactly meet in a band, and 12 % of those at 0.5.
_WEIGHTS = (0.02, 0.98)


@dataclass(kw_only=True, slots=True, frozen=True)
class DeduplicationConfig:
    """near_duplicates: texts whose sets of word runs have at least this Jaccard similarity, as MinHash estimates it,
    are kept once; 0 for exact duplicates alone. shingle_words: words of one run. num_permutations: values of a
    signature; the estimate is off by about sqrt(s (1 - s) / num_permutations), 0.035 at s = 0.8 and 128.
    """

    near_duplicates: float = 0.8
    num_permutations: int = 128
    shingle_words: int = 5

    def __post_init__(self) -> None:
        if not (self.near_duplicates == 0 or 0.3 <= self.near_duplicates < 1):
            raise ValueError(
                f"near_duplicates={self.near_duplicates} is no similarity in 0.3..1; give 0.8, or 0 for none"
            )
        if not 16 <= self.num_permutations <= 1024 or self.shingle_words < 1:
            raise ValueError("num_permutations is 16 to 1024 and shingle_words 1 or more; give other values")


def digest(content: str | Pair) -> bytes:
    """16 bytes that two samples share if they are the same: of a text in Unicode's composed form with every run of
    white space as one space; of a pair its bytes, and its caption likewise.
    """
    media, text = (b"", content) if isinstance(content, str) else (content.media, content.caption)
    found = hashlib.blake2b(len(media).to_bytes(8, "little"), digest_size=16)
    found.update(media)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    found.update(" ".join(text.split()).encode())
    return found.digest()


class MinHasher:
    """Signatures of texts, and the bands that near-duplicates meet in. ValueError if datasketch is not installed."""

    def __init__(self, config: DeduplicationConfig) -> None:
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError:
            raise ValueError(
                "near-duplicates need datasketch, which is missing; pip install 'triptych[prepare]', or give "
                "--near-duplicates 0"
            ) from None
        self._config = config
        self._minhash = MinHash(num_perm=config.num_permutations, hashfunc=int)
        plan = MinHashLSH(threshold=config.near_duplicates, num_perm=config.num_permutations, weights=_WEIGHTS)
        self.num_bands, self._rows = int(plan.b), int(plan.r)

    def signature(self, words: Words, content_digest: bytes) -> NDArray[np.uint32]:
        """uint32 [num_permutations]. A text without words is like none but its exact copies."""
        shingles = runs_of_words(words.hashes_W, min(self._config.shingle_words, max(1, len(words.hashes_W))))
        if len(shingles) == 0:
            shingles = np.frombuffer(content_digest[:8], np.uint64)
        values = np.unique(shingles >> np.uint64(32)).tolist()
        self._minhash.clear()
        for start in range(0, len(values), _SHINGLES_AT_ONCE):
            self._minhash.update_batch(values[start : start + _SHINGLES_AT_ONCE])
        return self._minhash.hashvalues.astype(np.uint32)

    def bands(self, signatures: NDArray[np.uint32]) -> NDArray[np.uint64]:
        """uint64 [num_bands, texts], of uint32 [texts, num_permutations]: texts that share one are candidates."""
        used = signatures[:, : self.num_bands * self._rows].astype(np.uint64)
        rows = used.reshape(len(signatures), self.num_bands, self._rows)
        total = np.zeros(rows.shape[:2], np.uint64)
        for row in np.moveaxis(rows, 2, 0):
            total = mixed(total + row + np.uint64(1))
        return np.ascontiguousarray(total.T)
