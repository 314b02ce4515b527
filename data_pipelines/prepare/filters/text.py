"""Rules for texts. Those on repetition are of Rae et al. 2021 (arXiv 2112.11446), appendix A.1.1, table A1, with their
thresholds; the others, and what is chosen where the paper is silent, are our own.
"""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from triptych.data_pipelines.prepare.duplicates.words import Words, runs_of_words

# Control characters but tab, line feed, form feed and carriage return; what stands for bytes that could not be decoded.
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffd]")
_RUN = 5


@dataclass(kw_only=True, slots=True, frozen=True)
class TextFilterConfig:
    """min_characters, max_characters: of a document; Rae et al. count words, 50 to 100,000.

    min_letter_share: of the characters that are not white space, how many are letters. max_control_share: of all
    characters, how many are control characters or U+FFFD. max_repeated_line_share: of the lines that are not blank, how
    many came before (their "duplicate line fraction"). max_repeated_line_character_share: the same of these lines'
    characters. max_repeated_word_share: of the words' characters, how many are in a run of 5 words that came before
    (their "duplicate 5-gram character fraction"; every occurrence but the first is counted).
    """

    kind: Literal["text"] = "text"
    min_characters: int = 100
    max_characters: int = 1_000_000
    min_letter_share: float = 0.5
    max_control_share: float = 0.001
    max_repeated_line_share: float = 0.30
    max_repeated_line_character_share: float = 0.20
    max_repeated_word_share: float = 0.15

    def __post_init__(self) -> None:
        if not 1 <= self.min_characters <= self.max_characters:
            raise ValueError(
                f"min_characters={self.min_characters} and max_characters={self.max_characters} are no range from 1; "
                "give other bounds"
            )


def bad_length(text: str, config: TextFilterConfig) -> str | None:
    """Why a text is left out for its length, or None. What is cheap comes first: other rules need its words."""
    if len(text) < config.min_characters or not text.strip():
        return "text too short"
    return "text too long" if len(text) > config.max_characters else None


def bad_text(text: str, words: Words, config: TextFilterConfig) -> str | None:
    """Why a text of good length is left out, or None."""
    if words.letter_share < config.min_letter_share:
        return "few letters"
    if len(_CONTROL.findall(text)) > config.max_control_share * len(text):
        return "control characters"
    line_share, character_share = repeated_lines(text)
    if line_share > config.max_repeated_line_share or character_share > config.max_repeated_line_character_share:
        return "repeated lines"
    return "repeated words" if repeated_words(words) > config.max_repeated_word_share else None


def repeated_lines(text: str) -> tuple[float, float]:
    """Shares of lines, and of their characters, that are copies of one before."""
    lines = [stripped for line in text.splitlines() if (stripped := line.strip())]
    if not lines:
        return 0.0, 0.0
    different, num_characters = set(lines), sum(map(len, lines))
    num_repeated = num_characters - sum(map(len, different))
    return (len(lines) - len(different)) / len(lines), num_repeated / num_characters


def repeated_words(words: Words) -> float:
    """Share of the words' characters that are in a run of five words that came before."""
    runs = runs_of_words(words.hashes_W, _RUN)
    if len(runs) == 0:
        return 0.0
    first = np.unique(runs, return_index=True)[1]
    again = np.ones(len(runs) + 1, np.int64)
    again[first] = 0
    again[-1] = 0
    if not again.any():
        return 0.0
    starts = np.flatnonzero(again)
    change = np.zeros(len(words.hashes_W) + 1, np.int64)
    change[starts] += 1
    change[starts + _RUN] -= 1
    covered = np.cumsum(change[:-1]) > 0
    return float(words.lengths_W[covered].sum() / words.lengths_W.sum())
