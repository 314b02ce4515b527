"""Captions for images of digits: many ways to name the digit, and true remarks on how it is written.

Every caption names exactly one digit (`words.digit_in` reads it back) and is short: about ten codes of a 1k BPE at
most.
"""

import random
from collections.abc import Sequence

from triptych.data_pipelines.corpus.words import DIGIT_WORDS

# The digit is always a word, after a space and last. Among captions that also wrote it as a numeral, first or in the
# middle (four codes for each digit), a model of a million parameters told no digit from another in 40,000 pairs; with
# one code for each it did in 8,000.
_PLAIN = (
    "digit {name}",
    "the digit {name}",
    "number {name}",
    "a handwritten {name}",
    "a written {name}",
    "a scan of {name}",
)
_REMARKING = (
    "a {remark} {name}",
    "a {remark} handwritten {name}",
    "the {remark} digit {name}",
    "a scan of a {remark} {name}",
)


def caption(label: int, remarks: Sequence[str], draw: random.Random) -> str:
    """A caption for a digit 0..9. `remarks`: adjectives true of the image; the caption mentions one or none."""
    templates = _REMARKING if remarks and draw.random() < 0.6 else _PLAIN
    remark = draw.choice(remarks) if remarks else ""
    return draw.choice(templates).format(name=DIGIT_WORDS[label], remark=remark)
