"""Captions for images of digits: the digit, and in many ways how or where it is written, remarked on truly.

Every caption names exactly one digit (`words.digit_in` reads it back) and is short: about ten codes of a 1k BPE at
most.
"""

import random
from collections.abc import Sequence

from triptych.data_pipelines.corpus.words import DIGIT_WORDS

# The digit is always a word, and comes first. Measured with a masked diffusion model of 0.9 million parameters that
# reads images: with the digit at one place in the caption it names 0.74 of the held-out digits after 9,600 pairs, with
# the same digit at any of three places 0.10, which is chance.
_PLAIN = (
    "{name}",
    "{name} by hand",
    "{name}, handwritten",
    "{name} in a scan",
    "{name} on paper",
    "{name}, a digit",
)
_REMARKING = (
    "{name}, {remark}",
    "{name} in {remark} writing",
    "{name}, {remark} and handwritten",
    "{name}, a {remark} digit",
)


def caption(label: int, remarks: Sequence[str], draw: random.Random) -> str:
    """A caption for a digit 0..9. `remarks`: adjectives true of the image; the caption mentions one or none."""
    templates = _REMARKING if remarks and draw.random() < 0.6 else _PLAIN
    remark = draw.choice(remarks) if remarks else ""
    return draw.choice(templates).format(name=DIGIT_WORDS[label], remark=remark)
