"""Log-mel spectrograms of a waveform, and a waveform from a log-mel spectrogram by Griffin-Lim.

Shape legend: B clips, S samples, T frames, F frequency bins, M mel bands.
"""

import math
from dataclasses import dataclass

import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


@dataclass(kw_only=True, slots=True, frozen=True)
class LogMelConfig:
    """window_samples: length of the Hann window and of its Fourier transform. floor_decibels: what counts as silence,
    relative to a full-scale sine. griffin_lim_momentum: 0 is the plain method, 0.99 the fast one (Perraudin 2013).
    """

    sample_rate_hertz: int
    window_samples: int
    hop_samples: int
    num_mels: int
    min_hertz: float
    max_hertz: float
    floor_decibels: float
    griffin_lim_iterations: int
    griffin_lim_momentum: float

    def __post_init__(self) -> None:
        if (self.window_samples - self.hop_samples) % 2 or self.window_samples < 2 * self.hop_samples:
            sizes = f"window_samples {self.window_samples}, hop_samples {self.hop_samples}"
            raise ValueError(
                f"{sizes}: the window must be at least two hops, their difference even; change one of them"
            )
        if not self.floor_decibels < 0:
            raise ValueError(f"floor_decibels is {self.floor_decibels}; choose a negative number such as -70")


class LogMel(nn.Module):
    """Log-mel with values -1 at the silence floor and +1 at the amplitude of a full-scale sine. No parameters.

    Frame t is centred on t*hop + hop/2, so a clip of T*hop samples has exactly T frames; zeros are assumed outside.
    """

    window_S: Tensor
    filters_FM: Tensor

    def __init__(self, config: LogMelConfig) -> None:
        super().__init__()
        self.config = config
        filters_MF = librosa.filters.mel(
            sr=config.sample_rate_hertz,
            n_fft=config.window_samples,
            n_mels=config.num_mels,
            fmin=config.min_hertz,
            fmax=config.max_hertz,
            norm=None,
            dtype=np.float64,
        )
        window_S = torch.hann_window(config.window_samples, dtype=torch.float64)
        self.register_buffer("window_S", window_S, persistent=False)
        self.register_buffer("filters_FM", torch.from_numpy(filters_MF.T.copy()), persistent=False)
        self.inverse_FM = np.linalg.pinv(filters_MF)
        self.floor_nepers = config.floor_decibels / 20 * math.log(10)

    def forward(self, waveform_BS: Tensor) -> Tensor:
        """float64 [B, T, M], about -1..1. waveform_BS: any float in -1..1, S a positive multiple of the hop.

        Computed in float64, so that the batch size, the device and the library's version move no value visibly.
        """
        margin = (self.config.window_samples - self.config.hop_samples) // 2
        padded_BS = nn.functional.pad(waveform_BS.double(), (margin, margin))
        frames_BTS = padded_BS.unfold(-1, self.config.window_samples, self.config.hop_samples)
        magnitude_BTF = torch.fft.rfft(frames_BTS * self.window_S).abs() * (2 / self.window_S.sum())
        nepers_BTM = (magnitude_BTF @ self.filters_FM).clamp_min(math.exp(self.floor_nepers)).log()
        return 1 - 2 * nepers_BTM / self.floor_nepers

    def waveform(self, log_mel_TM: NDArray[np.floating]) -> NDArray[np.float32]:
        """float32 [T*hop] in -1..1, phases by Griffin-Lim from a seeded start: the same input gives the same output.

        Magnitudes are the least-squares ones (pseudo-inverse of the filters), negative ones set to 0. A silent frame
        on either side makes up for librosa's framing, which centres frame t on t*hop.
        """
        config, num_frames = self.config, len(log_mel_TM)
        nepers_TM = np.clip((1 - log_mel_TM.astype(np.float64)) / 2 * self.floor_nepers, self.floor_nepers, 0.5)
        mel_TM = np.where(nepers_TM > self.floor_nepers, np.exp(nepers_TM), 0.0)
        scale = float(self.window_S.sum()) / 2
        magnitude_FT = np.maximum(self.inverse_FM @ mel_TM.T, 0) * scale
        signal_S = librosa.griffinlim(
            np.pad(magnitude_FT, ((0, 0), (1, 1))),
            n_iter=config.griffin_lim_iterations,
            hop_length=config.hop_samples,
            win_length=config.window_samples,
            momentum=config.griffin_lim_momentum,
            random_state=0,
            length=(num_frames + 1) * config.hop_samples,
        )
        start = config.hop_samples // 2
        return np.clip(signal_S[start : start + num_frames * config.hop_samples], -1, 1).astype(np.float32)
