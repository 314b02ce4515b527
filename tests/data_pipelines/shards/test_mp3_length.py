"""MP3s whose headers do not say how long they are, or say it wrong."""

import io

import numpy as np
import pytest
import soundfile

from triptych.data_pipelines.shards.decode import DecodeConfig, audio_seconds, decode_audio
from triptych.data_pipelines.shards.errors import DamagedSample

DELAY = 576  # of the decoder, which a header lets it take off


def encoded(rate, channels, mode="VARIABLE"):
    """Two seconds, half of them silent, so that bit rates vary; with a header."""
    time_T = np.arange(2 * rate) / rate
    wave_T = 0.3 * np.sin(2 * np.pi * (300 + 50 * time_T) * time_T) * (time_T < 1)
    buffer = io.BytesIO()
    options = {"format": "MP3", "bitrate_mode": mode, "compression_level": 0.5}
    soundfile.write(buffer, np.stack([wave_T] * channels, axis=1), rate, **options)
    return buffer.getvalue()


def bare(data):
    """Without the frame that is a header."""
    place = max(data.find(b"Xing"), data.find(b"Info"))
    return data[data.index(data[:2], place) :]


def decoded(data, rate=16_000):
    return decode_audio("k", data, DecodeConfig(sample_rate_hertz=rate))


def reason(data):
    with pytest.raises(DamagedSample) as caught:
        decoded(data)
    return caught.value.detail


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (16_000, 2), (44_100, 2), (48_000, 1)])
def test_without_a_header_nothing_is_lost(rate, channels, mode):
    data = encoded(rate, channels, mode)
    whole, found = decoded(data, rate), decoded(bare(data), rate)
    overlap = min(len(whole), len(found) - DELAY)
    assert overlap > len(whole) - DELAY
    assert len(whole) == 2 * rate
    np.testing.assert_array_equal(found[DELAY : DELAY + overlap], whole[:overlap])


def test_the_length_is_known_before_decoding():
    assert audio_seconds("k", bare(encoded(16_000, 1))) == pytest.approx(2.0, abs=0.15)


def test_tags_before_and_after():
    data = encoded(16_000, 1)
    before = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)
    tagged = before + before + bytes(50) + data + b"TAG" + bytes(125)
    np.testing.assert_array_equal(decoded(tagged), decoded(data))


def test_a_last_frame_that_is_cut():
    assert "bytes early" in reason(bare(encoded(16_000, 1))[:-7])


def test_a_header_that_promises_more():
    data = encoded(16_000, 1, "CONSTANT")
    place = max(data.find(b"Xing"), data.find(b"Info")) + 8
    frames = int.from_bytes(data[place : place + 4], "big")
    doubled = data[:place] + (2 * frames).to_bytes(4, "big") + data[place + 4 :]
    assert f"has {frames} frames, its header says {2 * frames}" in reason(doubled)


def test_something_between_the_frames():
    data = bare(encoded(16_000, 1, "CONSTANT"))
    second = data.index(data[:2], 2)
    assert f"no frame at byte {second}" in reason(data[:second] + b"junk" + data[second:])


@pytest.mark.parametrize(
    "data", [b"ID3", b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f", b"ID3\x04\x00\x00\x00\x00\x00\x00" + bytes(99)]
)
def test_tags_alone(data):
    assert reason(data) == "the MP3 has no frame"
