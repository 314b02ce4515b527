"""Every rule for pairs, with a pair just inside and one just outside; images fitted."""

import numpy as np
import pytest
from prepare_inputs import audio_file, image_file

from triptych.data_pipelines.prepare.filters.pairs import (
    AudioTextFilterConfig,
    ImageTextFilterConfig,
    bad_audio_text,
    bad_image_text,
    is_silent,
)
from triptych.data_pipelines.prepare.images import ImageFitConfig, fit_image
from triptych.data_pipelines.prepare.inputs.entries import Pair
from triptych.data_pipelines.shards.decode import DecodeConfig

DECODE = DecodeConfig(max_pixels=1600, max_audio_seconds=1.0)
IMAGES = ImageTextFilterConfig(
    min_side_pixels=16, max_aspect_ratio=2.0, min_caption_characters=2, max_caption_characters=5
)
AUDIO = AudioTextFilterConfig(min_seconds=0.25, min_transcript_characters=2, max_transcript_characters=5)


@pytest.mark.parametrize(
    ("size", "caption", "reason"),
    [
        ((16, 16), "two", None),
        ((15, 16), "two", "image too small"),
        ((16, 32), "two", None),
        ((33, 16), "two", "image too elongated"),
        ((40, 40), "two", None),
        ((40, 41), "two", "image too large"),
        ((20, 20), " ab ", None),
        ((20, 20), " a  ", "caption too short"),
        ((20, 20), "abcde\n", None),
        ((20, 20), "abcdef", "caption too long"),
    ],
)
def test_image_and_caption(size, caption, reason):
    assert bad_image_text("k", Pair(image_file("JPEG", *size), caption, None), IMAGES, DECODE) == reason


@pytest.mark.parametrize(
    ("seconds", "transcript", "reason"),
    [
        (0.25, "two", None),
        (0.24, "two", "audio too short"),
        (1.0, "two", None),
        (1.01, "two", "audio too long"),
        (0.5, "ab", None),
        (0.5, "a", "transcript too short"),
        (0.5, "abcdef", "transcript too long"),
    ],
)
def test_recording_and_transcript(seconds, transcript, reason):
    assert bad_audio_text("k", Pair(audio_file("WAV", seconds), transcript, None), AUDIO, DECODE) == reason


@pytest.mark.parametrize(("amplitude", "silent"), [(0.00101, False), (0.00099, True), (0.0, True)])
def test_silence_is_below_60_decibels(amplitude, silent):
    assert is_silent(np.full(100, amplitude, np.float32), AUDIO) == silent


def test_the_middle_of_a_wide_image_is_kept():
    image = np.zeros((10, 30), np.uint8)
    image[:, 10:20] = 200
    assert (fit_image(image, ImageFitConfig(height=5, width=5)) == 200).all()


@pytest.mark.parametrize(("colours", "shape"), [("grey", (4, 6)), ("rgb", (4, 6, 3)), ("as_is", (4, 6, 3))])
def test_fitted_shapes(colours, shape):
    image = np.zeros((9, 7, 3), np.uint8)
    assert fit_image(image, ImageFitConfig(height=4, width=6, colours=colours)).shape == shape


def test_an_image_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(fit_image(image, ImageFitConfig()), image)


@pytest.mark.parametrize("size", [{"height": 4}, {"height": 0, "width": 4}])
def test_sizes_that_are_none(size):
    with pytest.raises(ValueError, match="; give"):
        ImageFitConfig(**size)
