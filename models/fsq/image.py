"""Image autoencoder: patches, convolutions between patches, FSQ, and back.

Shape legend: B images, Y X pixels, C channels, G K rows and columns of the code grid, N = G*K codes, D code dimensions.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from triptych.models.fsq.autoencoder import FsqInputs, FsqOutputs, ResidualLayer, replace_codes
from triptych.models.fsq.quantizer import FiniteScalarQuantizer, Quantized


@dataclass(kw_only=True, slots=True, frozen=True)
class FsqImageConfig:
    """image_height, image_width: pixels, multiples of `patch_size` (the network takes any multiple).

    num_channels: 1 (grey) or 3. levels: FSQ levels per code dimension. One code per patch, in rows from the top left.
    """

    kind: Literal["fsq_image"] = "fsq_image"
    image_height: int
    image_width: int
    num_channels: int
    patch_size: int
    levels: tuple[int, ...]
    hidden_size: int
    num_encoder_layers: int
    num_decoder_layers: int

    def __post_init__(self) -> None:
        if self.image_height % self.patch_size or self.image_width % self.patch_size:
            size = f"{self.image_height}x{self.image_width}"
            raise ValueError(f"image size {size} is no multiple of patch_size {self.patch_size}; change one of them")
        if self.num_channels not in (1, 3):
            raise ValueError(f"num_channels is {self.num_channels}; it must be 1 (grey) or 3 (colour)")

    @property
    def num_codes_per_image(self) -> int:
        return (self.image_height // self.patch_size) * (self.image_width // self.patch_size)


class FsqImageAutoencoder(nn.Module):
    """Pixels to a grid of codes to pixels. Residual layers see neighbouring patches, so a code is read in context."""

    def __init__(self, config: FsqImageConfig) -> None:
        super().__init__()
        self.config = config
        hidden, patch, num_channels = config.hidden_size, config.patch_size, config.num_channels
        self.quantizer = FiniteScalarQuantizer(config.levels)
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(patch),
            nn.Conv2d(num_channels * patch**2, hidden, 1),
            *(ResidualLayer(nn.Conv2d, hidden) for _ in range(config.num_encoder_layers)),
            nn.Conv2d(hidden, len(config.levels), 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(len(config.levels), hidden, 1),
            *(ResidualLayer(nn.Conv2d, hidden) for _ in range(config.num_decoder_layers)),
            nn.Conv2d(hidden, num_channels * patch**2, 1),
            nn.PixelShuffle(patch),
        )

    def encode(self, pixels_BYXC: Tensor) -> Quantized:
        """pixels: float in -1..1, height and width multiples of the patch. Codes [B, G, K], values [B, G, K, D]."""
        return self.quantizer(self.encoder(pixels_BYXC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))

    def decode(self, values_BGKD: Tensor) -> Tensor:
        """float [B, Y, X, C], about -1..1, of grid points as `encode` or `quantizer.values` give them."""
        return self.decoder(values_BGKD.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def forward(self, inputs: FsqInputs) -> FsqOutputs:
        """inputs.values: float [B, Y, X, C] in -1..1; every row of every image is real."""
        quantized = self.encode(inputs.values)
        codes_BN = quantized.codes.flatten(1)
        mask_BN = torch.ones_like(codes_BN, dtype=torch.bool)
        values_BGKD = replace_codes(self.quantizer, quantized, inputs)
        return FsqOutputs(values=self.decode(values_BGKD), codes_BN=codes_BN, mask_BN=mask_BN)
