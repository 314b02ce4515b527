"""A pretrained vector-quantized image autoencoder as a tokenizer.

Shape legend: B images, C channels, Y X pixels, G rows and columns of the code grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from triptych.data_pipelines.vocabulary import Modality
from triptych.models.tokenizers import pretrained
from triptych.models.tokenizers.image.pixels import PixelConfig, normalized, pictures, square
from triptych.models.tokenizers.image.quantizers import ChameleonVq, DiffusersVq, Emu3Vq, ImageQuantizer, JanusVq
from triptych.models.tokenizers.pretrained import Architecture, Precision

ImageKind = Literal["vq_diffusers", "vq_emu3", "vq_janus", "vq_chameleon"]
IMAGE_KINDS: tuple[ImageKind, ...] = get_args(ImageKind)
ARCHITECTURES: dict[ImageKind, Architecture] = {
    "vq_diffusers": Architecture(library="diffusers", model_class="VQModel", name="VQModel"),
    "vq_emu3": Architecture(library="transformers", model_class="Emu3VQVAE", name="emu3_vqgan", whole="emu3"),
    "vq_janus": Architecture(library="transformers", model_class="JanusVQVAE", name="janus_vqgan", whole="janus"),
    "vq_chameleon": Architecture(
        library="transformers", model_class="ChameleonVQVAE", name="chameleon_vqgan", whole="chameleon"
    ),
}
QUANTIZERS = {"vq_diffusers": DiffusersVq, "vq_emu3": Emu3Vq, "vq_janus": JanusVq, "vq_chameleon": ChameleonVq}
_MAX_PIXELS_AT_ONCE = 1 << 21  # 32 pictures of 256 x 256: what bounds the memory of a batch


@dataclass(kw_only=True, slots=True, frozen=True)
class VqImageConfig:
    """pixels: what happens to a picture first. precision: in float64 the make-up of a batch moves no code; float32 is
    faster, and may move one whose two nearest vectors are equally near to seven digits."""

    kind: ImageKind
    pixels: PixelConfig
    precision: Precision


class VqImageTokenizer:
    """uint8 [Y, X] or [Y, X, 3] of any size to G*G codes each, the grid's rows from the top. Implements `Tokenizer`.

    A picture is first made a square of `image_size` pixels (`pixels.square`); decoding gives that square.
    """

    modality: Modality = "image"

    def __init__(
        self, config: VqImageConfig, quantizer: ImageQuantizer, fingerprint: str, folder: Path, device: str
    ) -> None:
        self.config = config
        self.fingerprint = fingerprint
        self.grid = config.pixels.image_size // quantizer.pixels_per_code
        self._quantizer = quantizer
        self._folder = folder
        self._device = device
        self._dtype = torch.float64 if config.precision == "float64" else torch.float32
        self._num_at_once = max(1, _MAX_PIXELS_AT_ONCE // config.pixels.image_size**2)

    @property
    def vocab_size(self) -> int:
        return self._quantizer.codebook_size

    @torch.no_grad()
    def encode(self, raw: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.int64]]:
        """int64 [G*G] of each picture. ValueError unless it is uint8 [Y, X] or [Y, X, 3], with pixels."""
        _check(raw)
        codes: list[NDArray[np.int64]] = []
        for start in range(0, len(raw), self._num_at_once):
            some = raw[start : start + self._num_at_once]
            images_BYXC = np.stack([square(one, self.config.pixels, self._quantizer.num_channels) for one in some])
            pixels_BCYX = normalized(images_BYXC, self.config.pixels).to(self._device, self._dtype)
            codes.extend(self._quantizer.encode(pixels_BCYX).flatten(1).cpu().numpy().astype(np.int64))
        return codes

    @torch.no_grad()
    def decode(self, codes: Sequence[NDArray[np.int64]]) -> list[NDArray[np.uint8]]:
        """uint8 [Y, X, 3] (or [Y, X] of a grey model) of each. ValueError for a wrong number of codes or no such code,
        and for a kind without decoder."""
        self._check_codes(codes)
        images: list[NDArray[np.uint8]] = []
        for start in range(0, len(codes), self._num_at_once):
            some = np.stack(codes[start : start + self._num_at_once]).reshape(-1, self.grid, self.grid)
            images.extend(pictures(self._quantizer.decode(torch.from_numpy(some).to(self._device)), self.config.pixels))
        return images

    def _check_codes(self, codes: Sequence[NDArray[np.int64]]) -> None:
        for sequence in codes:
            if sequence.shape != (self.grid**2,):
                found = list(sequence.shape)
                raise ValueError(f"an image of codes has shape {found}, not {[self.grid**2]}; cut or fill it first")
            if sequence.min() < 0 or sequence.max() >= self.vocab_size:
                raise ValueError(f"an image code lies outside 0..{self.vocab_size - 1}; use the tokenizer that made it")

    def save(self, folder: Path) -> None:
        """Copy config.json and model/ from where they were read."""
        pretrained.copy_folder(self._folder, folder)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Read an adopted folder. ValueError, naming the file, if it is missing or damaged."""
        config, fingerprint = pretrained.read_config(folder, VqImageConfig)
        model = pretrained.load_model(ARCHITECTURES[config.kind], folder / pretrained.MODEL_FOLDER)
        quantizer = QUANTIZERS[config.kind](model)
        require_fields(config, quantizer, folder)
        quantizer.move(config.precision, device)
        return cls(config, quantizer, fingerprint, folder, device)


def require_fields(config: VqImageConfig, quantizer: ImageQuantizer, folder: Path) -> None:
    """ValueError if the network cannot take squares of this size, or as many channels as the mean has."""
    size, step = config.pixels.image_size, quantizer.pixels_per_code
    if size % step:
        raise ValueError(f"{folder} makes a code of {step} x {step} pixels; image_size={size} must be a multiple")
    if quantizer.only_grid not in (None, size // step):
        wanted = quantizer.only_grid * step
        raise ValueError(f"{folder} takes pictures of {wanted} pixels, not {size}; choose image_size={wanted}")
    if len(config.pixels.mean) not in (1, quantizer.num_channels):
        numbers = len(config.pixels.mean)
        raise ValueError(f"{folder} takes {quantizer.num_channels} channels, its mean has {numbers}; correct the mean")


def _check(images: Sequence[NDArray[np.uint8]]) -> None:
    for index, image in enumerate(images):
        good = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
        if not good or image.dtype != np.uint8 or not image.size:
            found = f"{image.dtype} {list(image.shape)}"
            raise ValueError(f"image {index} is {found}, the tokenizer takes uint8 [H, W] or [H, W, 3]; convert it")
