"""The words for digits, and which digit a caption names."""

import re

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_NAMES = {name: digit for digit, word in enumerate(DIGIT_WORDS) for name in (word, str(digit))}
_WORD = re.compile(r"[a-z]+|[0-9]+")


def digit_in(caption: str) -> int | None:
    """The digit (0..9) that a caption names by word or numeral; None if it names none or more than one."""
    found = {_NAMES[word] for word in _WORD.findall(caption.lower()) if word in _NAMES}
    return found.pop() if len(found) == 1 else None
