"""Mel filters and Griffin-Lim in numpy, with the formulas and the seeded start of librosa 0.11.

Shape legend: F frequency bins, M mel bands, T frames, S samples.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def mel_filters(mel: Mapping[str, Any]) -> Floats:
    """float64 [M, F]: triangles of height 1 on Slaney's mel scale, linear below 1 kHz and logarithmic above."""
    bins_F = np.fft.rfftfreq(mel["window_samples"], 1 / mel["sample_rate_hertz"])
    edges = _hertz(np.linspace(_mels(mel["min_hertz"]), _mels(mel["max_hertz"]), mel["num_mels"] + 2))
    widths, ramps = np.diff(edges), edges[:, None] - bins_F[None, :]
    lower_MF = -ramps[:-2] / widths[:-1, None]
    upper_MF = ramps[2:] / widths[1:, None]
    return np.maximum(0, np.minimum(lower_MF, upper_MF))


def griffin_lim(
    magnitude_FT: Floats, *, num_iterations: int, momentum: float, window_samples: int, hop_samples: int
) -> Floats:
    """float64 [S], S = (T - 1) * hop: a signal with these magnitudes (Perraudin, Balazs, Sondergaard 2013)."""
    length = (magnitude_FT.shape[1] - 1) * hop_samples
    draws = np.random.RandomState(seed=0).random(size=magnitude_FT.shape)  # where librosa starts
    angles_FT = np.exp(2j * np.pi * draws)
    angles_FT *= magnitude_FT
    previous_FT = np.zeros_like(angles_FT)
    for _ in range(num_iterations):
        signal_S = _inverse(angles_FT, window_samples, hop_samples, length)
        rebuilt_FT = _forward(signal_S, window_samples, hop_samples)
        angles_FT = rebuilt_FT - momentum / (1 + momentum) * previous_FT
        angles_FT /= np.abs(angles_FT) + np.finfo(np.float64).tiny
        angles_FT *= magnitude_FT
        previous_FT = rebuilt_FT
    return _inverse(angles_FT, window_samples, hop_samples, length)


def _window(size: int) -> Floats:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)


def _forward(signal_S: Floats, size: int, hop: int) -> NDArray[np.complexfloating]:
    """Short-time Fourier transform, frames centred, zeros outside."""
    padded_S = np.pad(signal_S, size // 2)
    frames_TS = np.lib.stride_tricks.sliding_window_view(padded_S, size)[::hop]
    return np.fft.rfft(frames_TS * _window(size), axis=1).T


def _inverse(spectrum_FT: NDArray[np.complexfloating], size: int, hop: int, length: int) -> Floats:
    """Overlap and add, over the sum of squared windows."""
    num_frames = spectrum_FT.shape[1]
    frames_TS = np.fft.irfft(spectrum_FT.T, n=size, axis=1) * _window(size)
    total_S, weight_S = np.zeros(size + hop * (num_frames - 1)), np.zeros(size + hop * (num_frames - 1))
    for frame in range(num_frames):
        total_S[frame * hop : frame * hop + size] += frames_TS[frame]
        weight_S[frame * hop : frame * hop + size] += _window(size) ** 2
    inside = slice(size // 2, size // 2 + length)
    weights_S = weight_S[inside]
    return np.where(weights_S > np.finfo(np.float64).tiny, total_S[inside] / np.maximum(weights_S, 1e-300), 0.0)


def _mels(hertz: float) -> float:
    return hertz / (200 / 3) if hertz < 1000 else 15 + np.log(hertz / 1000) / (np.log(6.4) / 27)


def _hertz(mels: Floats) -> Floats:
    return np.where(mels >= 15, 1000 * np.exp(np.log(6.4) / 27 * (mels - 15)), 200 / 3 * mels)
