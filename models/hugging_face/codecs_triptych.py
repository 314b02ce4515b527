"""The image and audio tokenizers beside the model: autoencoders with finite scalar quantization (arXiv 2309.15505), in
float64, so that codes do not depend on batch or device.

Shape legend: B items, Y X pixels, C channels, S samples, T frames, M mel bands, F frequency bins, N codes, D code
dimensions.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers.utils import cached_file

from triptych.models.hugging_face.waveforms_triptych import griffin_lim, mel_filters


def load_codec(name_or_path: str, modality: str) -> "FsqCodec":
    """From `tokenizers/<modality>` of a model's folder or repository."""
    if modality not in ("image", "audio"):
        raise ValueError(f"{modality} has no codec here; use image or audio, and AutoTokenizer for text")
    config_file, weights_file = (
        cached_file(name_or_path, f"tokenizers/{modality}/{name}") for name in ("config.json", "weights.safetensors")
    )
    assert config_file is not None and weights_file is not None
    with open(config_file, encoding="utf-8") as file:
        config = json.load(file)["config"]
    kinds = {"fsq_image": FsqImageCodec, "fsq_audio": FsqAudioCodec}
    if config["kind"] not in kinds:
        raise ValueError(f"the {modality} tokenizer is of kind {config['kind']!r}; load it with its own library")
    codec = kinds[config["kind"]](config)
    codec.load_state_dict(load_file(weights_file))
    return codec.double().eval()


class FsqCodec(nn.Module):
    """Raw items to codes and back."""

    levels_D: Tensor
    strides_D: Tensor

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = config
        levels = config["levels"]
        strides = [math.prod(levels[:dimension]) for dimension in range(len(levels))]
        self.register_buffer("levels_D", torch.tensor(levels), persistent=False)
        self.register_buffer("strides_D", torch.tensor(strides), persistent=False)

    def encode(self, raw: Any) -> Tensor:
        """int64 [N]: codes of one item."""
        raise NotImplementedError

    def decode(self, codes: Sequence[int] | Tensor) -> Any:
        """The item of one sequence of codes."""
        raise NotImplementedError

    def _codes(self, raw_D: Tensor) -> Tensor:
        """int64 [...] of float64 [..., D]."""
        half_D = (self.levels_D - 1).double() * (1 - 1e-3) / 2
        offset_D = torch.where(self.levels_D % 2 == 0, 0.5, 0.0).double()
        bounded = half_D * torch.tanh(raw_D + torch.atanh(offset_D / half_D)) - offset_D
        return ((bounded.round().long() + self.levels_D // 2) * self.strides_D).sum(-1)

    def _values(self, codes: Sequence[int] | Tensor) -> Tensor:
        """float64 [..., D] in -1..1. ValueError for a code outside the book."""
        codes = torch.as_tensor(codes, dtype=torch.int64)
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < int(self.levels_D.prod()):
            raise ValueError(f"a code lies outside 0..{int(self.levels_D.prod()) - 1}; use the tokenizer that made it")
        digits = codes[..., None] // self.strides_D % self.levels_D
        return (digits - self.levels_D // 2).double() / (self.levels_D // 2)


class _ResidualLayer(nn.Module):
    def __init__(self, convolution: Any, size: int) -> None:
        super().__init__()
        self.mix = convolution(size, size, 3, padding=1)
        self.project = convolution(size, size, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(functional.gelu(self.mix(x)))


class FsqImageCodec(FsqCodec):
    """uint8 [Y, X] or [Y, X, 3] to codes, patches in rows from the top left, and back."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        hidden, patch = config["hidden_size"], config["patch_size"]
        pixels, dimensions = config["num_channels"] * patch**2, len(config["levels"])
        encoder = [_ResidualLayer(nn.Conv2d, hidden) for _ in range(config["num_encoder_layers"])]
        decoder = [_ResidualLayer(nn.Conv2d, hidden) for _ in range(config["num_decoder_layers"])]
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(patch), nn.Conv2d(pixels, hidden, 1), *encoder, nn.Conv2d(hidden, dimensions, 1)
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(dimensions, hidden, 1), *decoder, nn.Conv2d(hidden, pixels, 1), nn.PixelShuffle(patch)
        )

    @torch.no_grad()
    def encode(self, raw: Any) -> Tensor:
        """ValueError for an image of another size or type than the config's."""
        image = np.asarray(raw)
        channels = self.config["num_channels"]
        wanted = self._size if channels == 1 else (*self._size, channels)
        if image.shape != wanted or image.dtype != np.uint8:
            found = f"{image.dtype} {list(image.shape)}"
            raise ValueError(f"an image is {found}, the tokenizer takes uint8 {list(wanted)}; convert it first")
        image_YXC = torch.tensor(image).reshape(*self._size, channels)
        pixels_BCYX = (image_YXC / 127.5 - 1).double().permute(2, 0, 1)[None]
        return self._codes(self.encoder(pixels_BCYX).permute(0, 2, 3, 1)).flatten()

    @torch.no_grad()
    def decode(self, codes: Sequence[int] | Tensor) -> np.ndarray:
        """ValueError for another number of codes than an image has."""
        rows, columns = (size // self.config["patch_size"] for size in self._size)
        if len(codes) != rows * columns:
            raise ValueError(f"an image has {len(codes)} codes, not {rows * columns}; cut or fill it first")
        values_BDYX = self._values(codes).unflatten(0, (rows, columns)).permute(2, 0, 1)[None]
        pixels_YXC = (self.decoder(values_BDYX)[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5
        image_YXC = pixels_YXC.round().to(torch.uint8).numpy()
        return image_YXC[..., 0] if self.config["num_channels"] == 1 else image_YXC

    @property
    def _size(self) -> tuple[int, int]:
        return self.config["image_height"], self.config["image_width"]


class _Stack(nn.Module):
    def __init__(self, size_in: int, hidden: int, size_out: int, num_layers: int) -> None:
        super().__init__()
        self.enter = nn.Conv1d(size_in, hidden, 1)
        self.layers = nn.ModuleList(_ResidualLayer(nn.Conv1d, hidden) for _ in range(num_layers))
        self.leave = nn.Conv1d(hidden, size_out, 1)

    def forward(self, x_NE: Tensor) -> Tensor:
        x = self.enter(x_NE.T[None])
        for layer in self.layers:
            x = layer(x)
        return self.leave(x)[0].T


class FsqAudioCodec(FsqCodec):
    """float32 samples in -1..1, at `sample_rate_hertz`, to codes, and back by Griffin-Lim."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.mel = config["mel"]
        features, hidden = self.mel["num_mels"] * config["frames_per_code"], config["hidden_size"]
        dimensions = len(config["levels"])
        self.encoder = _Stack(features, hidden, dimensions, config["num_encoder_layers"])
        self.decoder = _Stack(dimensions, hidden, features, config["num_decoder_layers"])
        self._filters_MF = mel_filters(self.mel)
        self._floor = self.mel["floor_decibels"] / 20 * math.log(10)

    @property
    def sample_rate_hertz(self) -> int:
        """Of raw audio, taken and given."""
        return self.mel["sample_rate_hertz"]

    @torch.no_grad()
    def encode(self, raw: Any) -> Tensor:
        clip_S = np.asarray(raw, np.float32)
        if not len(clip_S):
            return torch.zeros(0, dtype=torch.int64)
        peak = np.abs(clip_S).max()
        if peak > 1e-4:  # what is all but silent is not made louder
            clip_S = clip_S * (self.config["peak_amplitude"] / peak)
        samples_per_code = self.mel["hop_samples"] * self.config["frames_per_code"]
        missing = -len(clip_S) % samples_per_code
        frames_TM = self._log_mel(functional.pad(torch.from_numpy(clip_S), (0, missing)))
        return self._codes(self.encoder(frames_TM.reshape(len(frames_TM) // self.config["frames_per_code"], -1)))

    @torch.no_grad()
    def decode(self, codes: Sequence[int] | Tensor) -> np.ndarray:
        if not len(codes):
            return np.zeros(0, np.float32)
        log_mel_TM = self.decoder(self._values(codes)).reshape(-1, self.mel["num_mels"]).numpy()
        nepers_TM = np.clip((1 - log_mel_TM) / 2 * self._floor, self._floor, 0.5)
        mel_TM = np.where(nepers_TM > self._floor, np.exp(nepers_TM), 0.0)
        scale = float(self._window.sum()) / 2
        magnitude_FT = np.maximum(np.linalg.pinv(self._filters_MF) @ mel_TM.T, 0) * scale
        signal_S = griffin_lim(
            np.pad(magnitude_FT, ((0, 0), (1, 1))),
            num_iterations=self.mel["griffin_lim_iterations"],
            momentum=self.mel["griffin_lim_momentum"],
            window_samples=self.mel["window_samples"],
            hop_samples=self.mel["hop_samples"],
        )
        start, hop = self.mel["hop_samples"] // 2, self.mel["hop_samples"]
        return np.clip(signal_S[start : start + len(log_mel_TM) * hop], -1, 1).astype(np.float32)

    def _log_mel(self, clip_S: Tensor) -> Tensor:
        """float64 [T, M], -1 at the floor, +1 at a full-scale sine."""
        margin = (self.mel["window_samples"] - self.mel["hop_samples"]) // 2
        padded_S = functional.pad(clip_S.double(), (margin, margin))
        frames_TS = padded_S.unfold(-1, self.mel["window_samples"], self.mel["hop_samples"])
        magnitude_TF = torch.fft.rfft(frames_TS * self._window).abs() * (2 / self._window.sum())
        nepers_TM = (magnitude_TF @ torch.from_numpy(self._filters_MF.T.copy())).clamp_min(math.exp(self._floor)).log()
        return 1 - 2 * nepers_TM / self._floor

    @property
    def _window(self) -> Tensor:
        return torch.hann_window(self.mel["window_samples"], dtype=torch.float64)
