"""Captions for images of digits: many ways to name the digit, and true remarks on how it is written.

Every caption names exactly one digit (`words.digit_in` reads it back) and is short: about ten codes of a 1k BPE at
most.
"""

import random
from collections.abc import Sequence

from triptych.data_pipelines.corpus.words import DIGIT_WORDS

_PLAIN = (
    "{name}",
    "digit {name}",
    "number {name}",
    "the digit {name}",
    "the number {name}",
    "{a_name}",
    "this is {a_name}",
    "a handwritten {name}",
    "a scan of {a_name}",
    "a picture of {a_name}",
    "the figure {name}",
    "{name}, written by hand",
)
_REMARKING = (
    "a {remark} {name}",
    "{remark} {name}",
    "the {remark} digit {name}",
    "{a_name}, {remark}",
    "a {remark} handwritten {name}",
    "this {name} is {remark}",
    "the number {name}, {remark}",
)


def caption(label: int, remarks: Sequence[str], draw: random.Random) -> str:
    """A caption for a digit 0..9. `remarks`: adjectives true of the image; the caption mentions one or none."""
    name = draw.choice((DIGIT_WORDS[label], str(label)))
    templates = _REMARKING if remarks and draw.random() < 0.6 else _PLAIN
    article = "an" if label == 8 else "a"
    remark = draw.choice(remarks) if remarks else ""
    return draw.choice(templates).format(name=name, a_name=f"{article} {name}", remark=remark)
