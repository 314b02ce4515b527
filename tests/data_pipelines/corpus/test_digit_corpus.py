"""Digits with captions that are true, short and name the label; held-out rows stay out."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from triptych.data_pipelines.corpus.captions import caption
from triptych.data_pipelines.corpus.digits import FIRST_HELD_OUT_ROW, DigitsConfig, digits
from triptych.data_pipelines.corpus.words import DIGIT_WORDS, digit_in

CONFIG = DigitsConfig(num_warped=2)
REMARKS = {"thin", "bold", "narrow", "wide"}


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
    assert all(set(digit.caption.replace(",", "").split()) & REMARKS <= set(digit.remarks) for digit in train)


def test_remarks_hold_for_the_image_as_it_is_shown(train):
    """Warped or not: measured anew, against the quartiles of the scans of the same digit."""
    of_scans = [(digit.label, _ink_and_width(digit.image)) for digit in train if not digit.warped]
    quartiles = {
        label: np.quantile([measure for scan, measure in of_scans if scan == label], (0.25, 0.75), axis=0)
        for label in range(10)
    }
    measured = []
    for digit in train:
        (thin, narrow), (bold, wide) = quartiles[digit.label]
        ink, width = _ink_and_width(digit.image)
        holds = {"thin": ink < thin, "bold": ink > bold, "narrow": width < narrow, "wide": width > wide}
        measured.append({remark for remark in REMARKS if holds[remark]})
    assert [set(digit.remarks) for digit in train] == measured


def test_a_warp_may_change_the_remarks(train):
    of_scans = {digit.row: digit.remarks for digit in train if not digit.warped}
    assert any(digit.remarks != of_scans[digit.row] for digit in train)


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


def test_every_scan_comes_once_and_its_variants_with_it_in_training(train, validation):
    assert (len(train), len(validation)) == (3 * FIRST_HELD_OUT_ROW, 1797 - FIRST_HELD_OUT_ROW)
    assert Counter(digit.row for digit in train if digit.warped) == dict.fromkeys(range(FIRST_HELD_OUT_ROW), 2)


def test_what_is_not_warped_are_the_scans_themselves(train, validation):
    real = [digit for digit in train + validation if not digit.warped]
    found = np.stack([digit.image for digit in sorted(real, key=lambda digit: digit.row)])
    levels, _ = load_digits(return_X_y=True)
    assert np.array_equal(found.reshape(-1, 64), np.round(np.asarray(levels) * (255 / 16)))


def test_variants_differ_from_their_scan_and_from_each_other(train):
    distinct = {(digit.row, digit.image.tobytes()) for digit in train}
    assert len(distinct) == len(train)


def test_a_variant_still_resembles_its_scan(train):
    scans = {digit.row: digit.image.ravel() for digit in train if not digit.warped}
    alike = [np.corrcoef(scans[digit.row], digit.image.ravel())[0, 1] for digit in train if digit.warped]
    assert np.median(alike) > 0.75


def test_a_warp_keeps_most_of_the_ink(train):
    ink = {digit.row: digit.image.sum() for digit in train if not digit.warped}
    kept = [digit.image.sum() / ink[digit.row] for digit in train if digit.warped]
    assert 0.9 < np.median(kept) < 1.0


def test_labels_are_those_of_the_row(train):
    _, labels = load_digits(return_X_y=True)
    assert [digit.label for digit in train] == [labels[digit.row] for digit in train]


def test_warps_of_no_size_change_nothing():
    still = DigitsConfig(
        num_warped=1, max_rotation_degrees=0.0, max_shift_pixels=0.0, max_scale_change=0.0, max_shear=0.0
    )
    assert len({(digit.row, digit.image.tobytes()) for digit in digits(still, 0, "train")}) == FIRST_HELD_OUT_ROW


def test_every_variant_has_a_caption_of_its_own(train):
    captions = {row: [digit.caption for digit in train if digit.row == row] for row in range(50)}
    assert sum(len(set(texts)) > 1 for texts in captions.values()) > 45


def test_validation_is_never_warped(validation):
    assert not any(digit.warped for digit in validation)


def test_the_first_of_validation_hold_every_digit(validation):
    """Evaluations take the first ones."""
    assert min(Counter(digit.label for digit in validation[:100])[label] for label in range(10)) >= 4


def test_validation_has_every_digit(validation):
    assert {digit.label for digit in validation} == set(range(len(DIGIT_WORDS)))


def test_seed_decides(train):
    again, other = (list(digits(CONFIG, seed, "train")) for seed in (0, 1))
    made = [[(digit.caption, digit.image.tobytes()) for digit in run] for run in (train, again, other)]
    assert made[0] == made[1] != made[2]


def _ink_and_width(image):
    """Every grey level is so many grains of ink: how many, and how far they lie apart along the columns."""
    grains = image.astype(float)
    columns = np.broadcast_to(np.arange(8), (8, 8))
    mean = np.average(columns, weights=grains)
    return grains.sum(), np.sqrt(np.average((columns - mean) ** 2, weights=grains))
