"""Digits with captions that are true, short and name the label; held-out rows stay out."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.data_pipelines.corpus.captions import caption
from triptych.data_pipelines.corpus.digits import FIRST_HELD_OUT_ROW, DigitsConfig, digits
from triptych.data_pipelines.corpus.words import DIGIT_WORDS, digit_in

CONFIG = DigitsConfig(num_captions=2)


@pytest.fixture(scope="module")
def train():
    return list(digits(CONFIG, 0, "train"))


@pytest.fixture(scope="module")
def validation():
    return list(digits(CONFIG, 0, "validation"))


@given(st.integers(0, 9), st.lists(st.sampled_from(["thin", "bold", "wide"])), st.integers())
def test_every_caption_names_its_digit(label, remarks, seed):
    assert digit_in(caption(label, remarks, random.Random(seed))) == label


@pytest.mark.parametrize(
    ("text", "digit"),
    [("An EIGHT.", 8), ("number 7", 7), ("none", None), ("one or two", None), ("10", None), ("", None)],
)
def test_digit_in(text, digit):
    assert digit_in(text) == digit


def test_an_comes_before_eight_alone():
    texts = {caption(label, ["thin"], random.Random(i)) for label in range(10) for i in range(200)}
    wrong = [text for text in texts if (" an " in f" {text}" and digit_in(text) != 8) or " a eight" in f" {text}"]
    assert wrong == []


def test_captions_vary(train):
    assert len({digit.caption for digit in train}) > 200


def test_captions_are_short(train):
    assert max(len(digit.caption.split()) for digit in train) <= 5


def test_captions_remark_only_on_what_is_true(train):
    words = {"thin", "bold", "narrow", "wide"}
    assert all(set(digit.caption.replace(",", "").split()) & words <= set(digit.remarks) for digit in train)


def test_bold_has_more_ink_than_thin_of_the_same_digit(train):
    ink = {
        remark: np.mean([digit.image.sum() for digit in train if digit.label == 3 and remark in digit.remarks])
        for remark in ("thin", "bold")
    }
    assert ink["bold"] > 1.2 * ink["thin"]


def test_images_span_the_range_of_bytes(train):
    images = np.stack([digit.image for digit in train])
    assert (images.dtype, images.shape[1:], images.min(), images.max()) == (np.uint8, (8, 8), 0, 255)


def test_splits_share_no_row(train, validation):
    rows = {digit.row for digit in train}, {digit.row for digit in validation}
    assert rows == (set(range(FIRST_HELD_OUT_ROW)), set(range(FIRST_HELD_OUT_ROW, 1797)))


def test_every_image_gets_its_captions(train, validation):
    assert (len(train), len(validation)) == (2 * FIRST_HELD_OUT_ROW, 1797 - FIRST_HELD_OUT_ROW)


def test_validation_has_every_digit(validation):
    assert {digit.label for digit in validation} == set(range(len(DIGIT_WORDS)))


def test_seed_decides(train):
    again, other = (list(digits(CONFIG, seed, "train")) for seed in (0, 1))
    captions = [[digit.caption for digit in run] for run in (train, again, other)]
    assert captions[0] == captions[1] != captions[2]
