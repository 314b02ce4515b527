"""Vector-quantized image autoencoders of `diffusers` and `transformers`, each behind the same few lines.

Shape legend: B images, C channels, Y X pixels, G rows and columns of the code grid.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from triptych.models.tokenizers.pretrained import Precision, move


class ImageQuantizer(Protocol):
    """A network in evaluation mode. pixels_per_code: side of the square behind one code. only_grid: G, if it can be but
    one."""

    pixels_per_code: int
    num_channels: int
    codebook_size: int
    only_grid: int | None

    def encode(self, pixels_BCYX: Tensor) -> Tensor:
        """int64 [B, G, G]."""
        ...

    def decode(self, codes_BGG: Tensor) -> Tensor:
        """float [B, C, Y, X]. ValueError if the library has no decoder."""
        ...

    def move(self, precision: Precision, device: str) -> None:
        """Compute in this precision on this device."""
        ...


class _Quantizer:
    """What they share: a model, given whole, that halves its picture between `num_stages` stages."""

    only_grid: int | None = None

    def __init__(self, model: Any, num_stages: int, num_channels: int, codebook_size: int) -> None:
        self._model = model
        self.pixels_per_code = 2 ** (num_stages - 1)
        self.num_channels = num_channels
        self.codebook_size = codebook_size

    def move(self, precision: Precision, device: str) -> None:
        move(self._model, precision, device)


class DiffusersVq(_Quantizer):
    """`VQModel` of diffusers (VQ-VAE, arXiv 1711.00937; VQGAN, arXiv 2012.09841)."""

    def __init__(self, model: Any) -> None:
        config = model.config
        super().__init__(model, len(config.block_out_channels), config.in_channels, config.num_vq_embeddings)

    def encode(self, pixels_BCYX: Tensor) -> Tensor:
        latents_BDGG = self._model.encode(pixels_BCYX).latents
        _, _, (_, _, codes) = self._model.quantize(latents_BDGG)
        return codes.reshape(len(latents_BDGG), *latents_BDGG.shape[2:])

    def decode(self, codes_BGG: Tensor) -> Tensor:
        shape = (*codes_BGG.shape, self._model.quantize.vq_embed_dim)
        values_BDGG = self._model.quantize.get_codebook_entry(codes_BGG.reshape(-1), shape)
        condition = values_BDGG if self._model.config.norm_type == "spatial" else None
        return self._model.decoder(self._model.post_quant_conv(values_BDGG), condition)


class Emu3Vq(_Quantizer):
    """Emu3's (arXiv 2409.18869), of single pictures: as a clip of repeated frames, of which it makes one grid."""

    def __init__(self, model: Any) -> None:
        config = model.config
        super().__init__(model, len(config.channel_multiplier), config.in_channels, config.codebook_size)

    def encode(self, pixels_BCYX: Tensor) -> Tensor:
        sizes = torch.tensor([pixels_BCYX.shape[2:]] * len(pixels_BCYX))
        return torch.stack(list(self._model.encode(pixels_BCYX, sizes).image_tokens))

    def decode(self, codes_BGG: Tensor) -> Tensor:
        return self._model.decode(codes_BGG)


class JanusVq(_Quantizer):
    """Janus's generation tokenizer (arXiv 2410.13848), made for one grid."""

    def __init__(self, model: Any) -> None:
        config = model.config
        super().__init__(model, len(config.channel_multiplier), config.in_channels, config.num_embeddings)
        self.only_grid = int(config.num_patches)

    def encode(self, pixels_BCYX: Tensor) -> Tensor:
        codes = self._model.encode(pixels_BCYX).image_tokens
        grid = pixels_BCYX.shape[-1] // self.pixels_per_code
        return codes.reshape(len(pixels_BCYX), grid, grid)

    def decode(self, codes_BGG: Tensor) -> Tensor:
        return self._model.decode(codes_BGG.flatten(1))


class ChameleonVq(_Quantizer):
    """Chameleon's (arXiv 2405.09818). transformers has its encoder alone."""

    def __init__(self, model: Any) -> None:
        config = model.config
        super().__init__(model, len(config.channel_multiplier), config.in_channels, config.num_embeddings)

    def encode(self, pixels_BCYX: Tensor) -> Tensor:
        codes = self._model.encode(pixels_BCYX).image_tokens
        grid = pixels_BCYX.shape[-1] // self.pixels_per_code
        return codes.reshape(len(pixels_BCYX), grid, grid)

    def decode(self, codes_BGG: Tensor) -> Tensor:
        raise ValueError(
            "the Chameleon tokenizer has no decoder in transformers, so codes stay codes; use it for captions (i2t)"
        )
