"""Members of a raw sample to what a tokenizer takes. Sizes are read from headers and bounded before anything is
decoded."""

import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.shards.errors import DamagedSample
from triptych.data_pipelines.vocabulary import Modality

RAW_EXTENSIONS: dict[Modality, str] = {"text": "txt", "image": "png", "audio": "flac"}
_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_PNG_END = b"IEND\xaeB`\x82"
_GREY_MODES = frozenset({"1", "L", "LA"})
_COLOUR_MODES = frozenset({"P", "RGB", "RGBA"})


@dataclass(kw_only=True, slots=True, frozen=True)
class DecodeConfig:
    """Bounds that a sample must keep, and the sample rate that the audio tokenizer takes."""

    sample_rate_hertz: int = 16_000
    max_pixels: int = 16_777_216
    max_audio_seconds: float = 60.0


def decode_member(key: str, modality: Modality, data: bytes, config: DecodeConfig) -> Any:
    """Raw data of one member, as `Tokenizer.encode` takes it: str, uint8 [H, W] or [H, W, 3], or float32 [samples].

    DamagedSample if it cannot be decoded, breaks a bound, or is an empty caption.
    """
    decoders: Mapping[Modality, Callable[[str, bytes, DecodeConfig], Any]] = {
        "text": decode_text,
        "image": decode_image,
        "audio": decode_audio,
    }
    return decoders[modality](key, data, config)


def decode_text(key: str, data: bytes, config: DecodeConfig) -> str:
    """UTF-8 text. DamagedSample if it is not, or has nothing but white space."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedSample(key, "text", f"the text is not UTF-8 at byte {error.start}") from error
    if not text.strip():
        raise DamagedSample(key, "empty text", "the text or caption is empty")
    return text


def decode_image(key: str, data: bytes, config: DecodeConfig) -> NDArray[np.uint8]:
    """PNG to uint8 [height, width] (grey; transparency dropped) or [height, width, 3] (colour).

    DamagedSample if it is no PNG, damaged, of more than 8 bits, or of more pixels than the config allows.
    """
    from PIL import Image, UnidentifiedImageError

    if not data.startswith(_PNG_START) or len(data) < 24:
        raise DamagedSample(key, "image", "the image is not a PNG")
    if _PNG_END not in data:  # decoders put up with a missing end
        raise DamagedSample(key, "image", "the PNG ends early")
    width, height = struct.unpack(">II", data[16:24])
    if width * height > config.max_pixels:
        raise DamagedSample(
            key, "image too large", f"the image has {width} x {height} pixels, more than {config.max_pixels}"
        )
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.mode not in _GREY_MODES | _COLOUR_MODES:
                raise DamagedSample(
                    key, "image", f"the PNG has pixels of kind {image.mode!r}, not 8-bit grey or colour"
                )
            return np.array(image.convert("L" if image.mode in _GREY_MODES else "RGB"))
    except (OSError, SyntaxError, EOFError, zlib.error, struct.error, Image.DecompressionBombError) as error:
        # Pillow raises SyntaxError for a broken chunk, OSError for missing data.
        detail = "cannot be read" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DamagedSample(key, "image", f"the PNG is damaged ({detail})") from error


def decode_audio(key: str, data: bytes, config: DecodeConfig) -> NDArray[np.float32]:
    """FLAC to float32 [samples] in -1..1, channels averaged.

    DamagedSample if it is no FLAC, damaged, empty, of another sample rate, or longer than the config allows.
    """
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format != "FLAC":
                raise DamagedSample(key, "audio", f"the recording is {file.format}, not FLAC")
            if file.samplerate != config.sample_rate_hertz:
                detail = f"the recording has {file.samplerate} Hz, not {config.sample_rate_hertz}"
                raise DamagedSample(key, "audio", detail)
            num_frames = file.frames
            if num_frames > config.max_audio_seconds * file.samplerate:
                detail = f"the recording is longer than {config.max_audio_seconds} s"
                raise DamagedSample(key, "audio too long", detail)
            wave_TC = file.read(num_frames, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise DamagedSample(key, "audio", f"the FLAC is damaged ({error.error_string})") from error
    if len(wave_TC) == 0 or len(wave_TC) != num_frames:
        raise DamagedSample(key, "audio", f"the FLAC ends after {len(wave_TC)} of {num_frames} samples")
    return wave_TC.mean(axis=1)


def decode_json(key: str, data: bytes) -> dict[str, Any]:
    """The labels of a sample. DamagedSample unless it is a JSON object."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedSample(key, "json", "the labels are not JSON") from error
    if not isinstance(content, dict):
        raise DamagedSample(key, "json", "the labels are not a JSON object")
    return content
