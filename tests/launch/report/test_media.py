import base64
import io
import wave

import numpy as np
import pytest
from PIL import Image

from triptych.launch.report.data import Clip
from triptych.launch.report.media import clip_uri, image_uri, spectrogram_uri


def content(uri: str, kind: str) -> io.BytesIO:
    head, data = uri.split(",", 1)
    assert head == f"data:{kind};base64"
    return io.BytesIO(base64.b64decode(data, validate=True))


def tone(hertz: float, seconds: float = 0.5, rate: int = 16000) -> Clip:
    time = np.arange(int(seconds * rate)) / rate
    return Clip(samples=(0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32), sample_rate_hertz=rate)


@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (8, 8, 3)])
def test_an_image_survives_pixel_for_pixel(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert np.array_equal(np.asarray(Image.open(content(image_uri(pixels), "image/png"))), pixels)


def test_pixels_out_of_range_are_clipped():
    pixels = np.array([[-5.0, 300.0], [np.nan, 7.4]])
    assert np.asarray(Image.open(content(image_uri(pixels), "image/png"))).tolist() == [[0, 255], [0, 7]]


def test_a_recording_survives_to_16_bits():
    clip = tone(440)
    with wave.open(content(clip_uri(clip), "audio/wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
    np.testing.assert_allclose(samples, clip.samples, atol=0.6 / 32767)


def test_a_recording_out_of_range_is_clipped():
    clip = Clip(samples=np.array([2.0, -2.0, np.nan, np.inf]))
    with wave.open(content(clip_uri(clip), "audio/wav")) as file:
        assert np.frombuffer(file.readframes(4), "<i2").tolist() == [32767, -32767, 0, 32767]


def rows_by_brightness(clip: Clip) -> np.ndarray:
    picture = Image.open(content(spectrogram_uri(clip), "image/png")).convert("L")
    return np.asarray(picture).mean(axis=1)


def test_high_tones_are_drawn_above_low_ones():
    assert rows_by_brightness(tone(3000)).argmax() < rows_by_brightness(tone(300)).argmax()


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(9), np.zeros(8000), np.full(8000, np.nan), np.ones(1)])
def test_odd_recordings_have_a_picture_and_a_sound(samples):
    clip = Clip(samples=samples)
    assert rows_by_brightness(clip).shape == (64,)
    with wave.open(content(clip_uri(clip), "audio/wav")) as file:
        assert file.getnframes() == len(samples)
