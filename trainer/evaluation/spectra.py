"""Speech as a fixed number of features, whatever its length and loudness.

Shape legend: B clips, N samples, M mel bands, T frames of a clip, L frames kept.
"""

from collections.abc import Sequence
from typing import Any

import librosa
import numpy as np
from numpy.typing import NDArray

NUM_BANDS = 40
NUM_FRAMES = 32
FRAME_SECONDS = 0.032
HOP_SECONDS = 0.012
SILENCE_AMPLITUDE = 1e-4  # -80 dB of full scale: under the noise of a 16-bit recording in a quiet room
SPEECH_DECIBELS = 25.0  # frames this far under the loudest one do not start or end the word
FLOOR_DECIBELS = 40.0  # a deeper floor lets hiss that training never had change verdicts (60 loses half at 15 dB)
_CHUNK = 256  # clips per transform: bounds memory at about 100 MiB


def speech_features(
    clips: Sequence[NDArray[Any]], sample_rate_hertz: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Log-mel spectrogram of the spoken part, stretched to NUM_FRAMES, and the logarithm of its seconds.

    clips: float [samples] in -1..1, any length, also empty; not-a-number counts as silence.
    Returns float64 [B, NUM_BANDS * NUM_FRAMES + 1] (zero where silent) and bool [B], whether there is anything to hear.
    Trimming and stretching take out where the word starts and how fast it is said; the mean level is subtracted. Our
    choice.
    """
    signals = [_signal(clip) for clip in clips]
    heard_B = np.array([bool(len(signal)) and np.abs(signal).max() > SILENCE_AMPLITUDE for signal in signals], bool)
    features_BF = np.zeros((len(signals), NUM_BANDS * NUM_FRAMES + 1))
    audible = np.flatnonzero(heard_B)
    for start in range(0, len(audible), _CHUNK):
        chosen = audible[start : start + _CHUNK]
        for index, decibels_MT in zip(chosen, _log_mels([signals[i] for i in chosen], sample_rate_hertz), strict=True):
            features_BF[index] = _standard_shape(decibels_MT)
    return features_BF, heard_B


def _signal(clip: NDArray[Any]) -> NDArray[np.float32]:
    samples = np.nan_to_num(np.asarray(clip, np.float32).reshape(-1), nan=0.0, posinf=1.0, neginf=-1.0)
    return np.clip(samples, -1.0, 1.0)


def _log_mels(signals: Sequence[NDArray[np.float32]], sample_rate_hertz: int) -> list[NDArray[np.float64]]:
    """Decibels under the loudest point, [M, T] per signal, in one transform of all, zero-padded to the longest."""
    window, hop = (int(seconds * sample_rate_hertz) for seconds in (FRAME_SECONDS, HOP_SECONDS))
    length = max(window, *(len(signal) for signal in signals))
    padded_BN = np.stack([np.pad(signal, (0, length - len(signal))) for signal in signals])
    power_BMT = librosa.feature.melspectrogram(
        y=padded_BN, sr=sample_rate_hertz, n_fft=window, hop_length=hop, n_mels=NUM_BANDS, fmin=60.0
    )
    peak_B11 = np.maximum(power_BMT.max(axis=(1, 2), keepdims=True), 1e-20)
    decibels_BMT = np.maximum(10 * np.log10(np.maximum(power_BMT / peak_B11, 1e-20)), -FLOOR_DECIBELS)
    return [decibels_MT[:, : 1 + len(signal) // hop] for decibels_MT, signal in zip(decibels_BMT, signals, strict=True)]


def _standard_shape(decibels_MT: NDArray[np.float64]) -> NDArray[np.float64]:
    loudness_T = decibels_MT.max(axis=0)
    spoken = np.flatnonzero(loudness_T > loudness_T.max() - SPEECH_DECIBELS)
    trimmed_MT = decibels_MT[:, spoken[0] : spoken[-1] + 1]
    positions_L = np.linspace(0, trimmed_MT.shape[1] - 1, NUM_FRAMES)
    left_L = np.minimum(positions_L.astype(int), trimmed_MT.shape[1] - 1)
    right_L = np.minimum(left_L + 1, trimmed_MT.shape[1] - 1)
    share_L = positions_L - left_L
    stretched_ML = trimmed_MT[:, left_L] * (1 - share_L) + trimmed_MT[:, right_L] * share_L
    seconds = trimmed_MT.shape[1] * HOP_SECONDS
    return np.append((stretched_ML - stretched_ML.mean()).reshape(-1), np.log(seconds))
