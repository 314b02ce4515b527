"""Members decode to what was encoded, and a bad one is refused before it can do harm."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sample_sets import encode_flac, encode_png

from triptych.data_pipelines.shards.decode import (
    DecodeConfig,
    audio_seconds,
    decode_audio,
    decode_image,
    decode_json,
    decode_member,
    decode_text,
    image_size,
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


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_another_sample_rate_is_brought_to_the_configs(rate):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(0.4 * rate)) / rate)
    decoded = decode_audio("k", encode_flac(tone, rate), CONFIG)
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(6400) / 16_000)
    assert (decoded.dtype, len(decoded)) == (np.float32, 6400)
    np.testing.assert_allclose(decoded[500:-500], wanted[500:-500], atol=2e-3)


@pytest.mark.parametrize(("kind", "tolerance"), [("WAV", 1e-4), ("MP3", 0.05), ("OGG", 0.05)])
def test_other_forms_of_recordings(kind, tolerance):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(6400) / 16_000)
    data = _recording(tone, kind)
    assert audio_seconds("k", data) == pytest.approx(0.4, abs=0.01)
    np.testing.assert_allclose(decode_audio("k", data, CONFIG)[500:6000], tone[500:6000], atol=tolerance)


@pytest.mark.parametrize("kind", ["WAV", "MP3", "OGG"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5, 0.75])
def test_truncated_recordings(kind, share):
    data = _recording(np.random.default_rng(0).uniform(-0.5, 0.5, 8000), kind)
    assert _reason(decode_audio, data[: int(share * len(data))]) == "audio"


def test_aiff_is_none_of_them():
    assert _reason(decode_audio, _recording(np.zeros(100), "AIFF")) == "audio"


def test_samples_that_are_no_numbers():
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(100, np.nan, np.float32), 16_000, format="WAV", subtype="FLOAT")
    assert _reason(decode_audio, buffer.getvalue()) == "audio"


def test_samples_beyond_any_loudness():
    buffer = io.BytesIO()
    soundfile.write(buffer, np.array([0.5, -101.0, 0.5], np.float32), 16_000, format="WAV", subtype="FLOAT")
    with pytest.raises(DamagedSample, match="the WAV has samples of 101 times full scale; replace it"):
        decode_audio("k", buffer.getvalue(), CONFIG)


def test_loud_samples_pass():
    buffer = io.BytesIO()
    wave = np.array([0.5, -8.0, 99.0], np.float32)
    soundfile.write(buffer, wave, 16_000, format="WAV", subtype="FLOAT")
    np.testing.assert_array_equal(decode_audio("k", buffer.getvalue(), CONFIG), wave)


def _recording(wave, kind):
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, 16_000, format=kind)
    return buffer.getvalue()


def _picture(kind, shape=(8, 9, 3), **options):
    """A smooth image, that lossy forms keep."""
    ramp = np.linspace(0, 255, int(np.prod(shape))).reshape(shape).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, kind, **options)
    return ramp, buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [("JPEG", {"quality": 95}, 12), ("WEBP", {"lossless": True}, 0), ("WEBP", {"quality": 95}, 12)],
)
def test_other_forms_of_images(kind, options, tolerance):
    image, data = _picture(kind, **options)
    assert image_size("k", data) == (8, 9)
    np.testing.assert_allclose(decode_image("k", data, CONFIG).astype(int), image.astype(int), atol=tolerance)


def test_webp_with_transparency():
    _, data = _picture("WEBP", (8, 9, 4))
    assert (image_size("k", data), decode_image("k", data, CONFIG).shape) == ((8, 9), (8, 9, 3))


def test_jpeg_of_four_inks_becomes_colours():
    buffer = io.BytesIO()
    Image.new("CMYK", (9, 8), (0, 255, 255, 0)).save(buffer, "JPEG")
    assert decode_image("k", buffer.getvalue(), CONFIG)[4, 4] == pytest.approx([255, 0, 0], abs=3)


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 50}])
def test_webp_bomb_is_refused_from_its_header(monkeypatch, options):
    bomb = bytearray(_picture("WEBP", **options)[1])
    bomb[21 if "lossless" in options else 26 : 25 if "lossless" in options else 30] = b"\xff\x3f\xff\x3f"
    monkeypatch.setattr("PIL.Image.open", lambda *arguments, **options: pytest.fail("the image was opened"))
    assert _reason(decode_image, bytes(bomb)) == "image too large"


def test_jpeg_bomb_is_refused_before_it_is_decoded(monkeypatch):
    _, data = _picture("JPEG", (11, 10, 3))
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.load", lambda image: pytest.fail("pixels were decoded"))
    assert _reason(decode_image, data) == "image too large"


def _jpeg_of_scans(number):
    _, data = _picture("JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    more = number - data.count(b"\xff\xda")
    return data[:last] + data[last:].removesuffix(b"\xff\xd9") * (1 + more) + b"\xff\xd9"


def test_scans_of_a_jpeg_are_bounded():
    assert decode_image("k", _jpeg_of_scans(100), CONFIG).shape == (8, 9, 3)
    assert _reason(decode_image, _jpeg_of_scans(101)) == "image"


def test_scans_within_metadata_and_behind_the_end_do_not_count():
    """A preview in a segment of the header, and whatever follows the picture, as phones write it."""
    _, data = _picture("JPEG", progressive=True)
    segment = b"\xff\xe1" + struct.pack(">H", 2 + 400) + b"\xff\xda" * 200
    padded = data[:2] + segment + data[2:] + b"\xff\xda" * 200
    np.testing.assert_array_equal(decode_image("k", padded, CONFIG), decode_image("k", data, CONFIG))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.6, 0.9])
def test_other_forms_cut_off(kind, share):
    image = np.random.default_rng(0).integers(0, 256, (10, 10, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, quality=95)
    assert _reason(decode_image, buffer.getvalue()[: int(share * buffer.tell())]) == "image"


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


@pytest.mark.parametrize(("depth", "num_bytes"), [(32, 1 << 20), (1, 1 << 20)])
def test_labels_within_their_bounds(depth, num_bytes):
    data = b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)
    assert isinstance(decode_json("k", data.ljust(num_bytes), DecodeConfig(max_json_depth=depth)), dict)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"a":' * 33 + b"1" + b"}" * 33, "not within max_json_depth=32"),
        (b'{"a":' + b"[" * 32 + b"]" * 32 + b"}", "not within max_json_depth=32"),
        (b"{}" + b" " * (1 << 20), "not within max_json_bytes=1048576"),
    ],
)
def test_labels_past_their_bounds(data, says):
    with pytest.raises(DamagedSample, match=says):
        decode_json("k", data)
