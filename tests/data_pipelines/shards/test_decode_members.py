"""Members decode to what was encoded, and a bad one is refused before it can do harm."""

import contextlib
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_sets import encode_flac, encode_png

from triptych.data_pipelines.shards.decode import (
    DecodeConfig,
    decode_audio,
    decode_image,
    decode_json,
    decode_member,
    decode_text,
)
from triptych.data_pipelines.shards.errors import DamagedSample

CONFIG = DecodeConfig(max_pixels=100, max_audio_seconds=0.5)
_RANDOM_PNG = encode_png(np.random.default_rng(1).integers(0, 256, (8, 8), dtype=np.uint8))


def _reason(decode, data):
    with pytest.raises(DamagedSample, match=r"^sample k: .*; replace it") as caught:
        decode("k", data, CONFIG)
    assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (4, 4, 3)])
def test_png_comes_back(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    decoded = decode_image("k", encode_png(image), CONFIG)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, image)


def test_image_bomb_is_refused_from_its_header(monkeypatch):
    def never(*args, **options):
        raise AssertionError("the image was opened")

    bomb = bytearray(encode_png(np.zeros((2, 2), np.uint8)))
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    monkeypatch.setattr("PIL.Image.open", never)
    assert _reason(decode_image, bytes(bomb)) == "image too large"


def test_pixels_at_the_bound_pass():
    assert decode_image("k", encode_png(np.zeros((10, 10), np.uint8)), CONFIG).shape == (10, 10)


@pytest.mark.parametrize("length", [0, 7, 20, 40, -20, -1])
def test_truncated_png(length):
    data = encode_png(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8))
    assert _reason(decode_image, data[:length]) == "image"


def test_sixteen_bit_png():
    assert _reason(decode_image, encode_png(np.zeros((4, 4), np.uint16))) == "image"


@given(st.binary(max_size=200))
def test_no_bytes_make_the_decoders_fail_otherwise(data):
    outcomes = set()
    for modality in ("text", "image", "audio"):
        try:
            decode_member("k", modality, data, CONFIG)
            outcomes.add("decoded")
        except DamagedSample:
            outcomes.add("damaged")
    assert "damaged" in outcomes


@given(st.data())
def test_flipped_bytes_never_fail_otherwise(data):
    image = _RANDOM_PNG
    damaged = bytearray(image)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(8, len(image) - 1))] = data.draw(st.integers(0, 255))
    size = 0
    with contextlib.suppress(DamagedSample):
        size = decode_image("k", bytes(damaged), CONFIG).size
    assert size <= 3 * CONFIG.max_pixels


def test_flac_comes_back_to_sixteen_bits():
    wave = np.random.default_rng(0).uniform(-0.9, 0.9, 4000)
    decoded = decode_audio("k", encode_flac(wave), CONFIG)
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, wave, atol=2 / 32768)


def test_channels_are_averaged():
    wave_TC = np.stack([np.full(100, 0.5), np.full(100, -0.25)], axis=1)
    np.testing.assert_allclose(decode_audio("k", encode_flac(wave_TC), CONFIG), 0.125, atol=1e-4)


def test_long_recording_is_refused_from_its_header(monkeypatch):
    data = encode_flac(np.zeros(8001))
    monkeypatch.setattr("soundfile.SoundFile.read", lambda *args, **options: pytest.fail("the recording was read"))
    assert _reason(decode_audio, data) == "audio too long"


@pytest.mark.parametrize("length", [0, 3, 50, 3000])
def test_truncated_flac(length):
    data = encode_flac(np.random.default_rng(0).uniform(-0.9, 0.9, 8000))
    assert _reason(decode_audio, data[:length]) == "audio"


def test_flac_of_another_sample_rate():
    assert _reason(decode_audio, encode_flac(np.zeros(100), 22_050)) == "audio"


def test_wav_is_not_flac():
    assert _reason(decode_audio, encode_flac(np.zeros(100), kind="WAV")) == "audio"


def test_flac_without_samples():
    assert _reason(decode_audio, encode_flac(np.zeros(0))) == "audio"


@given(st.text(min_size=1).filter(lambda text: text.strip()))
def test_text_comes_back(text):
    assert decode_text("k", text.encode("utf-8", "surrogatepass"), CONFIG) == text


@pytest.mark.parametrize("data", [b"", b"  \n\t", "\u2003".encode()])
def test_empty_caption(data):
    assert _reason(decode_text, data) == "empty text"


def test_text_that_is_not_utf8():
    assert _reason(decode_text, b"caf\xe9") == "text"


@pytest.mark.parametrize("data", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_labels_that_are_no_object(data):
    with pytest.raises(DamagedSample, match="the labels are not"):
        decode_json("k", data)
