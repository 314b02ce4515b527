"""Samples as files, and files as samples. Shape legend: Y X pixels."""

import base64
import binascii
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.shards.decode import DecodeConfig, decode_audio, decode_image
from triptych.data_pipelines.shards.errors import DamagedSample
from triptych.launch.serving.refusals import Refused


@dataclass(kw_only=True, slots=True, frozen=True)
class Sample:
    """One thing that was made. raw: what the tokenizer gave. content: of a file of `content_type`."""

    raw: Any
    content_type: str
    content: bytes


def as_sample(raw: Any, sample_rate_hertz: int) -> Sample:
    """Text as UTF-8, a picture as PNG, a recording as WAV of 16 bits."""
    if isinstance(raw, str):
        return Sample(raw=raw, content_type="text/plain", content=raw.encode())
    buffer = io.BytesIO()
    if raw.dtype == np.uint8:
        from PIL import Image

        Image.fromarray(raw).save(buffer, "PNG")
        return Sample(raw=raw, content_type="image/png", content=buffer.getvalue())
    import soundfile

    soundfile.write(buffer, raw, sample_rate_hertz, format="WAV", subtype="PCM_16")
    return Sample(raw=raw, content_type="audio/wav", content=buffer.getvalue())


def from_base64(text: str, name: str) -> bytes:
    """Bytes of base64 or of a data: URI. Refused (422) if it is neither."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(422, f"{name} is no base64; encode the file's bytes") from None


def read_image(data: bytes, name: str, max_pixels: int) -> NDArray[np.uint8]:
    """uint8 [Y, X] or [Y, X, 3]. Refused: 413 for too many pixels, 422 for a file that is no sound picture."""
    return _read(decode_image, data, name, DecodeConfig(max_pixels=max_pixels), "PNG, JPEG or WebP")


def read_audio(data: bytes, name: str, max_seconds: float, sample_rate_hertz: int) -> NDArray[np.float32]:
    """float32 samples. Refused: 413 for a recording that is too long, 422 for a file that is no sound recording."""
    config = DecodeConfig(max_audio_seconds=max_seconds, sample_rate_hertz=sample_rate_hertz)
    return _read(decode_audio, data, name, config, "FLAC, WAV, MP3 or Ogg")


def _read(decode: Any, data: bytes, name: str, config: DecodeConfig, wanted: str) -> Any:
    try:
        return decode(name, data, config)
    except DamagedSample as error:
        status = 413 if error.reason in ("image too large", "audio too long") else 422
        mend = "send a smaller one" if status == 413 else f"send a {wanted} file"
        raise Refused(status, f"{name}: {error.detail}; {mend}") from None


def fitted(image: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """uint8 of `shape`, [Y, X] or [Y, X, 3]: the middle of the picture, resized, grey where the shape is grey."""
    if image.shape == shape:
        return image
    from PIL import Image, ImageOps

    picture = Image.fromarray(image).convert("L" if len(shape) == 2 else "RGB")
    return np.asarray(ImageOps.fit(picture, (shape[1], shape[0]), Image.Resampling.LANCZOS))
