"""Images brought to the size and colours that an image tokenizer takes."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(kw_only=True, slots=True, frozen=True)
class ImageFitConfig:
    """height, width: pixels; the image is scaled until it covers them and its middle cut out. None: as it is.

    colours: "as_is", "grey" (uint8 [H, W]) or "rgb" (uint8 [H, W, 3]).
    """

    height: int | None = None
    width: int | None = None
    colours: Literal["as_is", "grey", "rgb"] = "as_is"

    def __post_init__(self) -> None:
        if (self.height is None) != (self.width is None):
            raise ValueError("images.height and images.width go together; give both or none")
        if self.height is not None and self.width is not None and min(self.height, self.width) < 1:
            raise ValueError(f"images of {self.height} x {self.width} have no pixels; give 1 or more")


def fit_image(image: NDArray[np.uint8], config: ImageFitConfig) -> NDArray[np.uint8]:
    """uint8 [H, W] or [H, W, 3] to what the config asks for; Lanczos's filter, the middle rounded to the top left."""
    from PIL import Image

    mode = {"as_is": None, "grey": "L", "rgb": "RGB"}[config.colours]
    if config.height is None and mode is None:
        return image
    picture = Image.fromarray(image)
    if mode is not None:
        picture = picture.convert(mode)
    if config.height is not None and config.width is not None and picture.size != (config.width, config.height):
        scale = min(picture.height / config.height, picture.width / config.width)
        height, width = max(1, round(config.height * scale)), max(1, round(config.width * scale))
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        middle = picture.crop((left, top, left + width, top + height))
        picture = middle.resize((config.width, config.height), Image.Resampling.LANCZOS)
    return np.array(picture)
