"""What a text says: which digit it names, and how many characters are wrong."""

from collections.abc import Iterable

import numpy as np

from triptych.data_pipelines.corpus.words import digit_in


def named_digit(text: str) -> int | None:
    """The digit 0..9 that `text` names, as a word or as a numeral, in any case; None if it names none or two different
    ones.

    The same reading as of the captions that the data was made from, so a perfect answer is always right.
    """
    return digit_in(text)


def edit_distance(first: str, second: str) -> int:
    """Fewest insertions, deletions and substitutions of characters that turn one into the other (Levenshtein 1966)."""
    if len(first) < len(second):
        first, second = second, first
    codes = np.array([ord(character) for character in second], dtype=np.int64)
    ramp = np.arange(len(second) + 1)
    row = ramp.copy()
    for count, character in enumerate(first, start=1):
        above = np.empty_like(row)
        above[0] = count
        above[1:] = np.minimum(row[1:] + 1, row[:-1] + (codes != ord(character)))
        # An insertion costs 1 per step to the right: the running minimum of (cost - column) spreads it along the row at
        # once.
        row = np.minimum.accumulate(above - ramp) + ramp
    return int(row[-1])


def character_error(pairs: Iterable[tuple[str, str]]) -> float | None:
    """Edits over characters of the reference, summed over (reference, hypothesis) pairs; may exceed 1.

    None if the references hold no character. Pooling, not averaging rates, keeps short references from dominating.
    """
    edits = length = 0
    for reference, hypothesis in pairs:
        edits += edit_distance(reference, hypothesis)
        length += len(reference)
    return edits / length if length else None
