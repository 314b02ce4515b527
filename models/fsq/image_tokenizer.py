"""The image autoencoder as a tokenizer, and its training data.

Shape legend: B images, Y X pixels, C channels, G K rows and columns of the code grid.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triptych.data_pipelines.raw import RawData
from triptych.data_pipelines.vocabulary import Modality
from triptych.models.fsq import storage
from triptych.models.fsq.image import FsqImageAutoencoder, FsqImageConfig

_NUM_IMAGES_AT_ONCE = 256


def _check(images: Sequence[NDArray[np.uint8]], config: FsqImageConfig) -> None:
    size = (config.image_height, config.image_width)
    wanted = size if config.num_channels == 1 else (*size, config.num_channels)
    for index, image in enumerate(images):
        if image.shape != wanted or image.dtype != np.uint8:
            found = f"{image.dtype} {list(image.shape)}"
            raise ValueError(f"image {index} is {found}, the tokenizer takes uint8 {list(wanted)}; convert it first")


def image_data(images: Sequence[NDArray[np.uint8]], config: FsqImageConfig, seed: int) -> RawData:
    """Training data of uint8 images [Y, X] or [Y, X, 3]. ValueError if one has another size than the config's."""
    _check(images, config)
    items = [image.reshape(config.image_height, config.image_width, config.num_channels) for image in images]
    return RawData(items, [config.num_codes_per_image] * len(items), seed)


class FsqImageTokenizer:
    """uint8 images [Y, X] (or [Y, X, 3]) to `num_codes_per_image` codes each, patches in rows from the top left.

    The network runs in float64: a value would have to lie within about 1e-14 of a rounding boundary for the batch size
    or the device to change its code.
    """

    modality: Modality = "image"

    def __init__(self, model: FsqImageAutoencoder) -> None:
        self.config = model.config
        self.fingerprint = storage.fingerprint(model.config, model)
        self._model = copy.deepcopy(model).double().eval()

    @property
    def vocab_size(self) -> int:
        return self._model.quantizer.num_codes

    @torch.no_grad()
    def encode(self, raw: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.int64]]:
        """int64 [num_codes_per_image] of each image. ValueError for another size or type than the config's."""
        _check(raw, self.config)
        codes: list[NDArray[np.int64]] = []
        for start in range(0, len(raw), _NUM_IMAGES_AT_ONCE):
            stack = np.stack(raw[start : start + _NUM_IMAGES_AT_ONCE])
            pixels_BYXC = torch.from_numpy(stack).reshape(*stack.shape[:3], -1).to(self._device) / 127.5 - 1
            codes.extend(self._model.encode(pixels_BYXC.double()).codes.flatten(1).cpu().numpy())
        return codes

    @torch.no_grad()
    def decode(self, codes: Sequence[NDArray[np.int64]]) -> list[NDArray[np.uint8]]:
        """The image of each code sequence. ValueError for a wrong number of codes or a code outside the code book."""
        rows = self.config.image_height // self.config.patch_size
        images: list[NDArray[np.uint8]] = []
        for start in range(0, len(codes), _NUM_IMAGES_AT_ONCE):
            some = codes[start : start + _NUM_IMAGES_AT_ONCE]
            self._check_codes(some)
            grid_BGK = torch.from_numpy(np.stack(some)).reshape(len(some), rows, -1).to(self._device)
            images.extend(self._images(grid_BGK))
        return images

    def _images(self, grid_BGK: Tensor) -> NDArray[np.uint8]:
        values_BGKD = self._model.quantizer.values(grid_BGK, torch.float64)
        pixels_BYXC = (self._model.decode(values_BGKD).clamp(-1, 1) + 1) * 127.5
        images_BYXC = pixels_BYXC.round().to(torch.uint8).cpu().numpy()
        return images_BYXC[..., 0] if self.config.num_channels == 1 else images_BYXC

    def _check_codes(self, codes: Sequence[NDArray[np.int64]]) -> None:
        for sequence in codes:
            if sequence.shape != (self.config.num_codes_per_image,):
                found, wanted = list(sequence.shape), [self.config.num_codes_per_image]
                raise ValueError(f"an image of codes has shape {found}, not {wanted}; cut or fill it first")
            if sequence.min() < 0 or sequence.max() >= self.vocab_size:
                raise ValueError(f"an image code lies outside 0..{self.vocab_size - 1}; use the tokenizer that made it")

    @property
    def _device(self) -> torch.device:
        return next(self._model.parameters()).device

    def save(self, folder: Path) -> None:
        """Write config.json and weights.safetensors."""
        storage.save(folder, self.config, self._model)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Read what `save` wrote; compute on `device`. ValueError, naming the file, if it is missing or damaged."""
        config, state = storage.load(folder, FsqImageConfig)
        model = FsqImageAutoencoder(config)
        storage.fill(model, state, folder)
        return cls(model.to(device))
