"""Handwritten digits that scikit-learn ships (`load_digits`), with captions.

1797 scans of 8 x 8 pixels in 17 grey levels: the test part of UCI's "Optical Recognition of Handwritten Digits"
(Alpaydin and Kaynak, 1998), by 13 writers that are not among those of its training part. No writer is named, but the
rows come in blocks per writer: that is our assumption, and what we hold out are the last blocks. What speaks for it,
measured on the 1797 rows:

* the labels begin anew with 0 1 2 .. 9, two or three times over, every 130 rows or so (rows 0, 130, 256, 386, ...
  1415, 1545, 1667): fourteen blocks for 13 writers, so a block is not for certain one writer, and one of them may be on
  both sides of the cut;
* the nearest neighbour of an image lies a median of 85 rows away (526 if rows were in no order), within 140 rows for
  59 % of them (15 % for a random image of the same label);
* one-nearest-neighbour accuracy is 0.9581 on the 382 held-out rows, and 0.9855 (deviation 0.0059, twenty draws) on as
  many rows drawn at random: images of a writer that was seen are easier.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.corpus.captions import caption
from triptych.data_pipelines.corpus.splits import Split

FIRST_HELD_OUT_ROW = 1415  # begins a block of labels; 382 rows, 21 %, three blocks
_WHITE = 16  # the brightest of the 17 grey levels


@dataclass(kw_only=True, slots=True, frozen=True)
class DigitsConfig:
    """How many captions each image gets; each makes a sample of its own."""

    num_captions: int = 4
    num_validation_captions: int = 1


class Digit(NamedTuple):
    """image: uint8 [8, 8], ink is 255 on 0. row: of the data set. remarks: adjectives true of the image."""

    image: NDArray[np.uint8]
    caption: str
    label: int
    row: int
    remarks: tuple[str, ...]


def digits(config: DigitsConfig, seed: int, split: Split) -> Iterator[Digit]:
    """The images of a split with their captions, in an order that the seed decides."""
    from sklearn.datasets import load_digits  # a second of imports, wanted only here

    levels_RP, targets_R = load_digits(return_X_y=True)
    labels_R = np.asarray(targets_R, dtype=np.int64)
    images_RHW = np.round(np.asarray(levels_RP) * (255 / _WHITE)).astype(np.uint8).reshape(-1, 8, 8)
    remarks = _remarks(images_RHW, labels_R)
    rows = range(FIRST_HELD_OUT_ROW) if split == "train" else range(FIRST_HELD_OUT_ROW, len(labels_R))
    num_captions = config.num_captions if split == "train" else config.num_validation_captions
    order = [(row, copy) for copy in range(num_captions) for row in rows]
    random.Random(f"digits/{seed}/{split}").shuffle(order)
    for row, copy in order:
        label = int(labels_R[row])
        text = caption(label, remarks[row], random.Random(f"caption/{seed}/{row}/{copy}"))
        yield Digit(images_RHW[row], text, label, row, remarks[row])


def _remarks(images_RHW: NDArray[np.uint8], labels_R: NDArray[np.int64]) -> list[tuple[str, ...]]:
    """True adjectives: an image outside the quartiles of the training images of its own digit.

    Thin or bold by the ink; narrow or wide by the ink's deviation along the columns.
    """
    ink_R = images_RHW.sum(axis=(1, 2), dtype=np.float64)
    columns = np.arange(images_RHW.shape[2])
    share_RW = images_RHW.sum(axis=1, dtype=np.float64) / ink_R[:, None]
    mean_R1 = (share_RW * columns).sum(axis=1, keepdims=True)
    width_R = np.sqrt((share_RW * (columns - mean_R1) ** 2).sum(axis=1))
    remarks: list[tuple[str, ...]] = [()] * len(labels_R)
    for measure_R, low, high in ((ink_R, "thin", "bold"), (width_R, "narrow", "wide")):
        for label in range(10):
            training = measure_R[:FIRST_HELD_OUT_ROW][labels_R[:FIRST_HELD_OUT_ROW] == label]
            bottom, top = np.quantile(training, (0.25, 0.75))
            for row in np.flatnonzero(labels_R == label):
                word = low if measure_R[row] < bottom else high if measure_R[row] > top else None
                remarks[row] += (word,) if word else ()
    return remarks
