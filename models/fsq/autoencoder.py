"""What the image and the audio autoencoder share: their inputs and outputs, the residual layer, initialisation.

Shape legend: B items, L rows of an image or frames of a spectrogram, N codes, D code dimensions.
"""

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from triptych.models.fsq.quantizer import FiniteScalarQuantizer, Quantized


@dataclass(kw_only=True, slots=True, frozen=True)
class FsqInputs:
    """values: float [B, L, ...], pixels or log-mel scaled to about -1..1. lengths_B: int64, how many of L are real.

    replacements_BN: int64, codes that the decoder sees instead of the encoder's; -1 or absent: it sees the encoder's.
    """

    values: Tensor
    lengths_B: Tensor
    replacements_BN: Tensor | None = None


@dataclass(kw_only=True, slots=True, frozen=True)
class FsqOutputs:
    """values: float, shape of the input: the reconstruction. codes_BN: int64. mask_BN: bool, codes of real input."""

    values: Tensor
    codes_BN: Tensor
    mask_BN: Tensor


def replace_codes(quantizer: FiniteScalarQuantizer, quantized: Quantized, inputs: FsqInputs) -> Tensor:
    """float [..., D]: grid points of `quantized`, those of `inputs.replacements_BN` put in; these pass no gradient."""
    if inputs.replacements_BN is None:
        return quantized.values
    num_absent = quantized.codes[0].numel() - inputs.replacements_BN.shape[1]
    replacements_BN = nn.functional.pad(inputs.replacements_BN, (0, num_absent), value=-1)
    replacements = replacements_BN.reshape(quantized.codes.shape)
    other = quantizer.values(replacements.clamp_min(0), quantized.values.dtype)
    return torch.where((replacements >= 0).unsqueeze(-1), other, quantized.values)


class ResidualLayer(nn.Module):
    """x + project(gelu(mix(x))), a kernel-3 convolution and a pointwise one, over one or two axes (channels second)."""

    def __init__(self, convolution: type[nn.Conv1d] | type[nn.Conv2d], hidden_size: int) -> None:
        super().__init__()
        self.mix = convolution(hidden_size, hidden_size, 3, padding=1)
        self.project = convolution(hidden_size, hidden_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(nn.functional.gelu(self.mix(x)))


def initialize(model: nn.Module, seed: int) -> None:
    """Fill every parameter in place: biases 0, weights normal with variance 1/fan-in, residual exits a tenth of that.

    A weight's numbers depend on the seed and its own name alone, so a renamed or added layer leaves the rest as it was.
    The small exits (our choice) start both networks near a patch-wise linear map, which trains stably without a norm.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.zeros_(parameter)
            continue
        key = hashlib.sha256(f"{seed} {name}".encode()).digest()[:8]
        generator = torch.Generator().manual_seed(int.from_bytes(key, "big") >> 1)
        deviation = 1 / math.sqrt(parameter[0].numel())
        scale = 0.1 if name.endswith("project.weight") else 1.0
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation * scale)
