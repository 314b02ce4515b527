"""The audio autoencoder as a tokenizer, and its training data.

Shape legend: B clips, S samples, T frames, M mel bands, N codes.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from triptych.data_pipelines.raw import RawData
from triptych.data_pipelines.vocabulary import Modality
from triptych.models.fsq import storage
from triptych.models.fsq.audio import FsqAudioAutoencoder, FsqAudioConfig
from triptych.models.fsq.mel import LogMel

_NUM_CLIPS_AT_ONCE = 32
_SILENT_AMPLITUDE = 1e-4  # -80 dB, about three steps of 16-bit samples: nothing below is made louder


def _check(clips: Sequence[NDArray[np.float32]]) -> None:
    for index, clip in enumerate(clips):
        if clip.ndim != 1 or clip.dtype != np.float32 or not np.isfinite(clip).all():
            found = f"{clip.dtype} {list(clip.shape)}"
            raise ValueError(f"clip {index} is {found}, the tokenizer takes finite float32 [samples]; convert it first")


def _levelled(clip: NDArray[np.float32], config: FsqAudioConfig) -> NDArray[np.float32]:
    peak = np.abs(clip).max()
    return clip * (config.peak_amplitude / peak) if peak > _SILENT_AMPLITUDE else clip


def _log_mels(clips: Sequence[NDArray[np.float32]], config: FsqAudioConfig, log_mel: LogMel) -> tuple[Tensor, Tensor]:
    """float64 [B, T, M] of levelled clips, zeros appended up to the longest; int64 [B], codes of each."""
    num_codes_B = torch.tensor([config.num_codes(len(clip)) for clip in clips])
    waveform_BS = torch.zeros(len(clips), int(num_codes_B.max()) * config.samples_per_code)
    for row_S, clip in zip(waveform_BS, clips, strict=True):
        row_S[: len(clip)] = torch.from_numpy(_levelled(clip, config))
    return log_mel(waveform_BS.to(log_mel.window_S.device)), num_codes_B


def audio_data(clips: Sequence[NDArray[np.float32]], config: FsqAudioConfig, seed: int) -> RawData:
    """Training data of float32 clips [S] in -1..1: their log-mel frames, computed once. Empty clips are left out."""
    _check(clips)
    log_mel = LogMel(config.mel)
    items, num_codes = [], []
    for clip in clips:
        if len(clip):
            log_mel_BTM, num_codes_B = _log_mels([clip], config, log_mel)
            items.append(log_mel_BTM[0].float().numpy())
            num_codes.append(int(num_codes_B))
    return RawData(items, num_codes, seed)


class FsqAudioTokenizer:
    """float32 clips [S] in -1..1 to ceil(S / samples_per_code) codes each; samples missing to the last code count as 0.

    Clips are brought to one level first; decode gives back num_codes * samples_per_code samples, at that level. An
    empty clip has no codes, and the other way round. Log-mel and network run in float64, padding masked in every layer,
    so a clip's codes are the same in any batch: a value would have to lie within about 1e-14 of a rounding boundary to
    differ.
    """

    modality: Modality = "audio"

    def __init__(self, model: FsqAudioAutoencoder) -> None:
        self.config = model.config
        self.fingerprint = storage.fingerprint(model.config, model)
        self._model = copy.deepcopy(model).double().eval()
        self._log_mel = LogMel(model.config.mel).to(self._device)

    @property
    def vocab_size(self) -> int:
        return self._model.quantizer.num_codes

    @property
    def sample_rate_hertz(self) -> int:
        """Of raw audio, taken and given."""
        return self.config.mel.sample_rate_hertz

    @torch.no_grad()
    def encode(self, raw: Sequence[NDArray[np.float32]]) -> list[NDArray[np.int64]]:
        """int64 [N] of each clip. ValueError unless it is float32, finite and of one axis."""
        _check(raw)
        codes = [np.zeros(0, dtype=np.int64) for _ in raw]
        filled = [index for index, clip in enumerate(raw) if len(clip)]
        for start in range(0, len(filled), _NUM_CLIPS_AT_ONCE):
            some = filled[start : start + _NUM_CLIPS_AT_ONCE]
            log_mel_BTM, num_codes_B = _log_mels([raw[index] for index in some], self.config, self._log_mel)
            mask_BN = torch.arange(int(num_codes_B.max())) < num_codes_B[:, None]
            codes_BN = self._model.encode(log_mel_BTM, mask_BN.to(self._device)).codes.cpu()
            for index, codes_N, mask_N in zip(some, codes_BN, mask_BN, strict=True):
                codes[index] = codes_N[mask_N].numpy()
        return codes

    def decode(self, codes: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        """float32 [N * samples_per_code] of each, by Griffin-Lim. ValueError for a code outside the code book."""
        empty = np.zeros(0, dtype=np.float32)
        return [self._log_mel.waveform(mel_TM) if len(mel_TM) else empty for mel_TM in self.decode_log_mels(codes)]

    @torch.no_grad()
    def decode_log_mels(self, codes: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float64]]:
        """float64 [N * frames_per_code, M], the log-mel that `decode` turns into a waveform."""
        self._check_codes(codes)
        empty = np.zeros((0, self.config.mel.num_mels))
        log_mels: list[NDArray[np.float64]] = [empty for _ in codes]
        filled = [index for index, sequence in enumerate(codes) if len(sequence)]
        for start in range(0, len(filled), _NUM_CLIPS_AT_ONCE):
            some = filled[start : start + _NUM_CLIPS_AT_ONCE]
            lengths_B = torch.tensor([len(codes[index]) for index in some])
            codes_BN = pad_sequence([torch.from_numpy(codes[index]) for index in some], batch_first=True)
            mask_BN = (torch.arange(codes_BN.shape[1]) < lengths_B[:, None]).to(self._device)
            values_BND = self._model.quantizer.values(codes_BN.to(self._device), torch.float64)
            for index, length, log_mel_TM in zip(some, lengths_B, self._model.decode(values_BND, mask_BN), strict=True):
                log_mels[index] = log_mel_TM[: int(length) * self.config.frames_per_code].cpu().numpy()
        return log_mels

    def _check_codes(self, codes: Sequence[NDArray[np.int64]]) -> None:
        for sequence in codes:
            if sequence.ndim != 1:
                raise ValueError(f"a clip of codes has shape {list(sequence.shape)}; give one axis")
            if len(sequence) and (sequence.min() < 0 or sequence.max() >= self.vocab_size):
                raise ValueError(f"an audio code lies outside 0..{self.vocab_size - 1}; use the tokenizer that made it")

    @property
    def _device(self) -> torch.device:
        return next(self._model.parameters()).device

    def save(self, folder: Path) -> None:
        """Write config.json and weights.safetensors."""
        storage.save(folder, self.config, self._model)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Read what `save` wrote; compute on `device`. ValueError, naming the file, if it is missing or damaged."""
        config, state = storage.load(folder, FsqAudioConfig)
        model = FsqAudioAutoencoder(config)
        storage.fill(model, state, folder)
        return cls(model.to(device))
