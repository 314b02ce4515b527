"""Pictures of any size to the square that a pretrained model takes, and back to pixels.

Shape legend: B images, C channels, Y X pixels, S side of the square.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Filter = Literal["bilinear", "bicubic", "lanczos"]
FILTERS: tuple[Filter, ...] = get_args(Filter)


@dataclass(kw_only=True, slots=True, frozen=True)
class PixelConfig:
    """What happens to a picture before the network: its shorter side becomes `image_size` pixels by Pillow's `filter`
    (which looks at every pixel when it shrinks), the middle square is cut out, and then each value is
    (value * rescale - mean) / std, the numbers per channel.
    """

    image_size: int
    filter: Filter
    rescale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.image_size < 1 or self.rescale <= 0 or len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(
                f"image_size={self.image_size}, rescale={self.rescale}, mean={self.mean}, std={self.std} do not make "
                f"pixels; give positive numbers, as many of mean as of std"
            )


def square(image: NDArray[np.uint8], config: PixelConfig, num_channels: int) -> NDArray[np.uint8]:
    """uint8 [S, S, C] of uint8 [Y, X] or [Y, X, 3].

    Grey becomes three equal channels; colour becomes grey by Pillow's weights where the network takes one channel. A
    picture that is already of this size is not touched. In whole numbers, by Pillow: the same on every device.
    """
    from PIL import Image

    filters = {
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS,
    }
    size = config.image_size
    picture = Image.fromarray(image).convert("L" if num_channels == 1 else "RGB")
    scale = size / min(picture.size)
    width, height = (max(size, round(length * scale)) for length in picture.size)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), filters[config.filter])
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(picture.crop((left, top, left + size, top + size))).reshape(size, size, num_channels)


def normalized(images_BYXC: NDArray[np.uint8], config: PixelConfig) -> Tensor:
    """float64 [B, C, Y, X]."""
    mean_C, std_C = torch.tensor(config.mean).double(), torch.tensor(config.std).double()
    pixels_BYXC = torch.from_numpy(images_BYXC).double() * config.rescale
    return ((pixels_BYXC - mean_C) / std_C).permute(0, 3, 1, 2).contiguous()


def pictures(pixels_BCYX: Tensor, config: PixelConfig) -> NDArray[np.uint8]:
    """uint8 [B, Y, X, 3], or [B, Y, X] of one channel: `normalized` undone, rounded, and cut off at 0 and 255."""
    mean_C, std_C = torch.tensor(config.mean).double(), torch.tensor(config.std).double()
    pixels_BYXC = pixels_BCYX.double().cpu().permute(0, 2, 3, 1) * std_C + mean_C
    images_BYXC = (pixels_BYXC / config.rescale).nan_to_num().round().clamp(0, 255).to(torch.uint8).numpy()
    return images_BYXC[..., 0] if images_BYXC.shape[-1] == 1 else images_BYXC
