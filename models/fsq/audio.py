"""Audio autoencoder: log-mel frames, convolutions over time, FSQ at a low rate, and back to log-mel.

Shape legend: B clips, S samples, T frames, M mel bands, H hidden, N codes (T = N * frames_per_code), D code dimensions.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from triptych.models.fsq.autoencoder import FsqInputs, FsqOutputs, ResidualLayer, replace_codes
from triptych.models.fsq.mel import LogMelConfig
from triptych.models.fsq.quantizer import FiniteScalarQuantizer, Quantized


@dataclass(kw_only=True, slots=True, frozen=True)
class FsqAudioConfig:
    """peak_amplitude: every clip is scaled to this largest sample first, for its level is no part of what is said (our
    choice; the codes spend nothing on it). frames_per_code: neighbouring log-mel frames behind one code. levels: FSQ
    levels per code dimension.
    """

    kind: Literal["fsq_audio"] = "fsq_audio"
    mel: LogMelConfig
    peak_amplitude: float
    frames_per_code: int
    levels: tuple[int, ...]
    hidden_size: int
    num_encoder_layers: int
    num_decoder_layers: int

    def __post_init__(self) -> None:
        if not 0 < self.peak_amplitude <= 1:
            raise ValueError(f"peak_amplitude is {self.peak_amplitude}; choose a number in 0..1 such as 0.7")

    @property
    def samples_per_code(self) -> int:
        return self.mel.hop_samples * self.frames_per_code

    @property
    def codes_per_second(self) -> float:
        return self.mel.sample_rate_hertz / self.samples_per_code

    def num_codes(self, num_samples: int) -> int:
        """Codes of a clip: its samples over `samples_per_code`, rounded up. An empty clip has none."""
        return -(-num_samples // self.samples_per_code)


class _Stack(nn.Module):
    """Linear, residual layers over time, linear. After a clip's end is 0 in every layer, as before its start."""

    def __init__(self, input_size: int, hidden_size: int, output_size: int, num_layers: int) -> None:
        super().__init__()
        self.enter = nn.Conv1d(input_size, hidden_size, 1)
        self.layers = nn.ModuleList(ResidualLayer(nn.Conv1d, hidden_size) for _ in range(num_layers))
        self.leave = nn.Conv1d(hidden_size, output_size, 1)

    def forward(self, x_BNE: Tensor, mask_BN: Tensor) -> Tensor:
        mask_B1N = mask_BN[:, None].to(x_BNE.dtype)
        x_BHN = self.enter(x_BNE.transpose(1, 2)) * mask_B1N
        for layer in self.layers:
            x_BHN = layer(x_BHN) * mask_B1N
        return self.leave(x_BHN).transpose(1, 2)


class FsqAudioAutoencoder(nn.Module):
    """Log-mel to codes to log-mel. Clips of several lengths share a batch: what pads one changes none of its values."""

    def __init__(self, config: FsqAudioConfig) -> None:
        super().__init__()
        self.config = config
        self.quantizer = FiniteScalarQuantizer(config.levels)
        num_features, num_dimensions = config.mel.num_mels * config.frames_per_code, len(config.levels)
        self.encoder = _Stack(num_features, config.hidden_size, num_dimensions, config.num_encoder_layers)
        self.decoder = _Stack(num_dimensions, config.hidden_size, num_features, config.num_decoder_layers)

    def encode(self, log_mel_BTM: Tensor, mask_BN: Tensor) -> Quantized:
        """Codes [B, N], values [B, N, D]. log_mel_BTM: T a multiple of `frames_per_code`. mask_BN: bool, real codes."""
        num_clips, num_frames, _ = log_mel_BTM.shape
        chunks_BNE = log_mel_BTM.reshape(num_clips, num_frames // self.config.frames_per_code, -1)
        return self.quantizer(self.encoder(chunks_BNE, mask_BN))

    def decode(self, values_BND: Tensor, mask_BN: Tensor) -> Tensor:
        """float [B, T, M], log-mel of grid points as `encode` or `quantizer.values` give them.

        Arbitrary after a clip's end.
        """
        chunks_BNE = self.decoder(values_BND, mask_BN)
        return chunks_BNE.reshape(len(chunks_BNE), -1, self.config.mel.num_mels)

    def code_mask(self, lengths_B: Tensor, num_frames: int) -> Tensor:
        """bool [B, N]: which codes hold at least one real frame. lengths_B: int64, real frames."""
        num_codes = num_frames // self.config.frames_per_code
        starts_N = torch.arange(num_codes, device=lengths_B.device) * self.config.frames_per_code
        return starts_N < lengths_B[:, None]

    def forward(self, inputs: FsqInputs) -> FsqOutputs:
        """inputs.values: float [B, T, M], log-mel as `LogMel` gives it; inputs.lengths_B: real frames."""
        mask_BN = self.code_mask(inputs.lengths_B, inputs.values.shape[1])
        quantized = self.encode(inputs.values, mask_BN)
        values_BND = replace_codes(self.quantizer, quantized, inputs)
        return FsqOutputs(values=self.decode(values_BND, mask_BN), codes_BN=quantized.codes, mask_BN=mask_BN)
