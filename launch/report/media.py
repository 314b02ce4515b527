"""Images, recordings and spectrograms as data URIs, so that the page needs no other file.

Shape legend: H height, W width, N samples, M mel bands, T frames.
"""

import base64
import io
import wave
from typing import Any

import librosa
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from triptych.launch.report.data import Clip

NUM_BANDS = 64
HOP_SECONDS = 0.005
WINDOW_SECONDS = 0.032
RANGE_DECIBELS = 65.0
# Black through purple and orange to pale yellow: brightness rises evenly, so it also reads in grey.
_COLOURS = np.array(
    [
        (4, 3, 12), (28, 17, 66), (78, 20, 121), (129, 38, 128), (181, 55, 121),
        (228, 82, 101), (250, 136, 98), (254, 195, 138), (252, 250, 194),
    ]
)  # fmt: skip


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def image_uri(image: NDArray[Any]) -> str:
    """PNG of uint8 [H, W] or [H, W, 3], pixel for pixel; other types are rounded and clipped to 0..255."""
    pixels = np.clip(np.nan_to_num(np.rint(np.asarray(image, np.float64))), 0, 255).astype(np.uint8)
    return _png(PillowImage.fromarray(pixels))


def clip_uri(clip: Clip) -> str:
    """16-bit mono WAV, which every browser plays; clipped at full scale, not-a-number silent."""
    samples_N = np.clip(np.nan_to_num(np.asarray(clip.samples, np.float64)), -1.0, 1.0)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(clip.sample_rate_hertz)
        file.writeframes(np.rint(samples_N * 32767).astype("<i2").tobytes())
    return _data_uri("audio/wav", buffer.getvalue())


def spectrogram_uri(clip: Clip) -> str:
    """PNG of the log-mel spectrogram, low frequencies at the bottom, RANGE_DECIBELS from black to the loudest point."""
    window, hop = (int(seconds * clip.sample_rate_hertz) for seconds in (WINDOW_SECONDS, HOP_SECONDS))
    samples_N = np.nan_to_num(np.asarray(clip.samples, np.float32), posinf=0.0, neginf=0.0)
    samples_N = np.pad(samples_N, (0, max(0, 2 * window - len(samples_N))))
    power_MT = librosa.feature.melspectrogram(
        y=samples_N, sr=clip.sample_rate_hertz, n_fft=2 * window, win_length=window, hop_length=hop, n_mels=NUM_BANDS
    )
    decibels_MT = 10 * np.log10(np.maximum(power_MT / max(float(power_MT.max()), 1e-10), 1e-10))
    levels_MT = np.clip(np.rint((1 + decibels_MT / RANGE_DECIBELS) * 255), 0, 255).astype(np.uint8)
    picture = PillowImage.fromarray(np.ascontiguousarray(levels_MT[::-1]))
    picture.putpalette(_palette().tobytes())
    return _png(picture)


def _palette() -> NDArray[np.uint8]:
    stops = np.linspace(0, 255, len(_COLOURS))
    channels = [np.interp(np.arange(256), stops, _COLOURS[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def _png(picture: PillowImage.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return _data_uri("image/png", buffer.getvalue())
