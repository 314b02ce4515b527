"""The words of a text as numbers, by whole-array arithmetic: what repetition and near-duplicates are found from.

A word is a run of letters and digits, case folded; in scripts without spaces between words every character is one.
Shape legend: C characters, W words, N runs of n words.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LAST_CHARACTER = 0x323AF  # above are no letters
_LETTER, _WORD, _ALONE, _SPACE = 1, 2, 4, 8
# Thai, Lao and Myanmar; Khmer; Japanese, Chinese and Hangul.
_WITHOUT_SPACES = ((0x0E00, 0x10A0), (0x1780, 0x1800), (0x2E80, 0xD7B0), (0xF900, 0xFB00), (0x20000, _LAST_CHARACTER))
_MASK = (1 << 64) - 1
_BASE = 0x9E3779B97F4A7C15 | 1  # odd, so that it has an inverse modulo 2^64
_NEXT_WORD = np.uint64(0xC2B2AE3D27D4EB4F)


class Words(NamedTuple):
    """hashes_W: uint64. lengths_W: int64, characters of each word. letter_share: of characters that are not space."""

    hashes_W: NDArray[np.uint64]
    lengths_W: NDArray[np.int64]
    letter_share: float


class WordReader:
    """Cuts texts into words. Holds tables that grow with the longest text, 16 bytes a character."""

    def __init__(self) -> None:
        self._classes = _character_classes()
        self._powers_C = np.ones(0, np.uint64)
        self._inverses_C = np.ones(0, np.uint64)

    def words(self, text: str) -> Words:
        """All words of a text without lone surrogates."""
        codes_C = np.frombuffer(text.casefold().encode("utf-32-le"), np.uint32)
        classes_C = self._classes[np.minimum(codes_C, _LAST_CHARACTER)]
        in_word_C, alone_C = (classes_C & _WORD) > 0, (classes_C & _ALONE) > 0
        joined_C = in_word_C[1:] & in_word_C[:-1] & ~alone_C[1:] & ~alone_C[:-1]
        starts_W = np.flatnonzero(in_word_C & ~np.concatenate([[False], joined_C]))
        ends_W = np.flatnonzero(in_word_C & ~np.concatenate([joined_C, [False]])) + 1
        num_visible = np.count_nonzero((classes_C & _SPACE) == 0)
        letter_share = np.count_nonzero(classes_C & _LETTER) / num_visible if num_visible else 0.0
        return Words(self._hashes(codes_C, starts_W, ends_W), ends_W - starts_W, letter_share)

    def _hashes(
        self, codes_C: NDArray[np.uint32], starts_W: NDArray[np.int64], ends_W: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        """A polynomial over each word's characters modulo 2^64: differences of running sums, brought to one power."""
        self._make_room(len(codes_C))
        sums = np.zeros(len(codes_C) + 1, np.uint64)
        np.cumsum(mixed(codes_C.astype(np.uint64) + np.uint64(1)) * self._powers_C[: len(codes_C)], out=sums[1:])
        return mixed((sums[ends_W] - sums[starts_W]) * self._inverses_C[starts_W])

    def _make_room(self, num_characters: int) -> None:
        if num_characters > len(self._powers_C):
            size = max(2 * len(self._powers_C), num_characters)
            self._powers_C = _powers(_BASE, size)
            self._inverses_C = _powers(pow(_BASE, -1, _MASK + 1), size)


def runs_of_words(hashes_W: NDArray[np.uint64], num_words: int) -> NDArray[np.uint64]:
    """uint64 [W - num_words + 1]: a hash of every run of so many words; empty if there are fewer."""
    count = len(hashes_W) - num_words + 1
    if count < 1:
        return np.zeros(0, np.uint64)
    total_N = hashes_W[:count].copy()
    for i in range(1, num_words):
        total_N = total_N * _NEXT_WORD + hashes_W[i : i + count]
    return mixed(total_N)


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A one-to-one mapping that lets every bit depend on every other (the finalizer of MurmurHash3, by A. Appleby)."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))


def _powers(base: int, size: int) -> NDArray[np.uint64]:
    values = np.full(size, base, np.uint64)
    values[0] = 1
    return np.cumprod(values, dtype=np.uint64)


@lru_cache(maxsize=1)
def _character_classes() -> NDArray[np.uint8]:
    """uint8 [_LAST_CHARACTER + 1]. Takes a few hundredths of a second."""
    characters = [chr(code) for code in range(_LAST_CHARACTER + 1)]
    letters = np.array([character.isalpha() for character in characters])
    words = np.array([character.isalnum() for character in characters])
    spaces = np.array([character.isspace() for character in characters])
    alone = np.zeros(len(characters), bool)
    for first, last in _WITHOUT_SPACES:
        alone[first:last] = True
    classes = letters * _LETTER + words * _WORD + (words & alone) * _ALONE + spaces * _SPACE
    classes = classes.astype(np.uint8)
    classes.flags.writeable = False
    return classes
