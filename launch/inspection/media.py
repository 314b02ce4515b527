"""Images and recordings of samples as data URIs, within a budget, so that a page stays of bounded size.

Shape legend: T samples of a recording.
"""

import base64
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from triptych.launch.inspection.config import InspectionConfig
from triptych.launch.inspection.contents import Side
from triptych.launch.report.data import Clip
from triptych.launch.report.media import clip_uri, image_uri, spectrogram_uri

_MOST_AS_IT_IS = 1 << 19  # bytes of a raw member that goes into the page unchanged
_KINDS = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp",
    "flac": "audio/flac", "wav": "audio/wav", "mp3": "audio/mpeg", "ogg": "audio/ogg",
}  # fmt: skip


@dataclass(kw_only=True, slots=True, frozen=True)
class Medium:
    """What a page needs to show a side. uri: "" if it is left out. note: what was changed, or why it is left out.

    small: of an image, whether its pixels are to be seen one by one. picture: a spectrogram.
    """

    uri: str
    note: str = ""
    small: bool = False
    picture: str = ""


@dataclass(slots=True)
class MediaBudget:
    """Turns sides into data URIs until `config.max_media_bytes` are used up."""

    config: InspectionConfig
    used: int = field(default=0)

    def medium(self, side: Side) -> Medium | None:
        """None for what is no image or recording, or was not decoded."""
        if side.raw is None or side.modality == "text":
            return None
        made = self._image(side) if side.modality == "image" else self._recording(side)
        size = len(made.uri) + len(made.picture)
        if self.used + size > self.config.max_media_bytes:
            return Medium(uri="", note="left out: the page has reached its size")
        self.used += size
        return made

    def _image(self, side: Side) -> Medium:
        pixels = side.raw
        longest = max(pixels.shape[:2])
        small = longest <= 64
        if side.source is not None and len(side.source[1]) <= _MOST_AS_IT_IS:
            return Medium(uri=_as_it_is(side.source), small=small)
        if longest <= self.config.max_side_pixels:
            return Medium(uri=image_uri(pixels), small=small)
        return Medium(uri=_smaller(pixels, self.config.max_side_pixels), note="shown smaller than it is")

    def _recording(self, side: Side) -> Medium:
        rate = side.sample_rate_hertz
        most = round(self.config.max_seconds * rate)
        cut = Clip(samples=side.raw[:most], sample_rate_hertz=rate)
        note = f"the first {self.config.max_seconds:g} s" if len(side.raw) > most else ""
        picture = spectrogram_uri(cut) if len(cut.samples) else ""
        if side.source is not None and len(side.source[1]) <= _MOST_AS_IT_IS:
            return Medium(uri=_as_it_is(side.source), picture=picture)
        return Medium(uri=clip_uri(cut), note=note, picture=picture)


def _as_it_is(source: tuple[str, bytes]) -> str:
    extension, data = source
    return f"data:{_KINDS[extension]};base64,{base64.b64encode(data).decode('ascii')}"


def _smaller(pixels: NDArray[Any], side: int) -> str:
    image = PillowImage.fromarray(np.asarray(pixels, np.uint8))
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
