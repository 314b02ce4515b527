"""Members of a raw sample to what a tokenizer takes. Sizes are read from headers and bounded before anything is
decoded.

Shape legend: T samples of a recording, C channels.
"""

import io
import json
import math
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.shards.errors import DamagedSample
from triptych.data_pipelines.shards.mp3 import is_mp3, with_length
from triptych.data_pipelines.vocabulary import Modality

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage
    from soundfile import SoundFile

# A sample's member for a modality is the first of these that it has. What a member is, its first bytes say.
RAW_EXTENSIONS: dict[Modality, tuple[str, ...]] = {
    "text": ("txt",),
    "image": ("png", "jpg", "jpeg", "webp"),
    "audio": ("flac", "wav", "mp3", "ogg"),
}
_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_START = b"\xff\xd8\xff"
_GREY_MODES = frozenset({"1", "L", "LA"})
_COLOUR_MODES = frozenset({"P", "RGB", "RGBA", "CMYK"})
_AUDIO_FORMATS = frozenset({"FLAC", "WAV", "WAVEX", "MP3", "OGG"})
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_MAX_SCANS = 100  # of a JPEG; encoders write a dozen, each may cost a pass over all pixels
_MAX_CHANNELS = 8
_MAX_AMPLITUDE = 100.0  # 40 decibels over full scale
_MAX_FRAMES = 1 << 40  # libsndfile's word for an unknown number is larger
_UNKNOWN_RIFF_SIZES = (0, 0xFFFFFFFF)  # of files that were written to a pipe


@dataclass(kw_only=True, slots=True, frozen=True)
class DecodeConfig:
    """Bounds that a sample must keep, and the sample rate that the audio tokenizer takes.

    max_json_depth: of objects and arrays within each other.
    """

    sample_rate_hertz: int = 16_000
    max_pixels: int = 16_777_216
    max_audio_seconds: float = 60.0
    max_json_bytes: int = 1 << 20
    max_json_depth: int = 32


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


def image_size(key: str, data: bytes) -> tuple[int, int]:
    """Height and width in pixels of a PNG, JPEG or WebP, from its header. DamagedSample if it is none of them."""
    if data.startswith(_PNG_START) and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return height, width
    if _is_riff(data, b"WEBP"):
        return _webp_size(key, data)
    if not data.startswith(_JPEG_START):
        raise DamagedSample(key, "image", "the image is not a PNG, JPEG or WebP")
    with _opened_image(key, "JPEG", data) as image:
        return image.height, image.width


def decode_image(key: str, data: bytes, config: DecodeConfig) -> NDArray[np.uint8]:
    """PNG, JPEG or WebP to uint8 [height, width] (grey; transparency dropped) or [height, width, 3] (colour).

    Of several frames the first. DamagedSample if it is none of these, damaged, of more than 8 bits, or of more pixels
    than the config allows.
    """
    height, width = image_size(key, data)
    kind = "PNG" if data.startswith(_PNG_START) else "JPEG" if data.startswith(_JPEG_START) else "WEBP"
    ends_early = _PNG_END not in data if kind == "PNG" else kind == "WEBP" and _riff_ends_early(data)
    if ends_early:  # decoders put up with a missing end
        raise DamagedSample(key, "image", f"the {kind} ends early")
    if width * height > config.max_pixels:
        detail = f"the image has {width} x {height} pixels, more than {config.max_pixels}"
        raise DamagedSample(key, "image too large", detail)
    if kind == "JPEG" and _scans_exceed(data, _MAX_SCANS):
        raise DamagedSample(key, "image", f"the JPEG has more than {_MAX_SCANS} scans")
    with _opened_image(key, kind, data) as image:
        if image.mode in _GREY_MODES | _COLOUR_MODES:
            return np.array(image.convert("L" if image.mode in _GREY_MODES else "RGB"))
        detail = f"the {kind} has pixels of kind {image.mode!r}, not 8-bit grey or colour"
    raise DamagedSample(key, "image", detail)


@contextmanager
def _opened_image(key: str, kind: str, data: bytes) -> Iterator["PillowImage"]:
    """The image, its pixels not yet decoded; whatever goes wrong while it is used is a DamagedSample."""
    from PIL import Image, UnidentifiedImageError

    # Pillow raises SyntaxError for a broken chunk, OSError for missing data, ValueError for text chunks that grow.
    kinds = (OSError, SyntaxError, EOFError, ValueError, LookupError, ArithmeticError, TypeError, AttributeError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes, which are bounded here, and about metadata
            with Image.open(io.BytesIO(data), formats=[kind]) as image:
                yield image
    except (*kinds, zlib.error, struct.error, Image.DecompressionBombError) as error:
        detail = "cannot be read" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DamagedSample(key, "image", f"the {kind} is damaged ({detail})") from error


def _webp_size(key: str, data: bytes) -> tuple[int, int]:
    """From the first chunk (RFC 9649, 2.5 to 2.7). Pillow makes room for whole pictures before it tells their size."""
    chunk, body = data[12:16], data[20:30]
    if chunk == b"VP8X" and len(body) == 10:
        return 1 + int.from_bytes(body[7:10], "little"), 1 + int.from_bytes(body[4:7], "little")
    if chunk == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    if chunk == b"VP8 " and len(body) == 10 and body[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(body[8:10], "little") & 0x3FFF, int.from_bytes(body[6:8], "little") & 0x3FFF
    raise DamagedSample(key, "image", "the WEBP is damaged (its first chunk has no size)")


def _scans_exceed(data: bytes, most: int) -> bool:
    """Whether a JPEG has more scans, by its markers (ITU-T T.81, B.1.1); pictures within its metadata do not count."""
    if data.count(b"\xff\xda") <= most:
        return False
    number, position = 0, 0
    while (found := _MARKER.search(data, position)) is not None:
        marker, position = found[1][0], found.end()
        if marker == 0xD9:
            return False
        number += marker == 0xDA
        if number > most:
            return True
        if marker >= 0xC0 and not 0xD0 <= marker <= 0xD8:  # the others stand alone
            position += int.from_bytes(data[position : position + 2], "big")
    return False


def audio_seconds(key: str, data: bytes) -> float:
    """How long a recording is, from its header. DamagedSample if it is no FLAC, WAV, MP3 or Ogg."""
    with _opened_audio(key, data) as file:
        return file.frames / file.samplerate


def decode_audio(key: str, data: bytes, config: DecodeConfig) -> NDArray[np.float32]:
    """FLAC, WAV, MP3 or Ogg to float32 [samples] in about -1..1 at the config's rate, channels averaged.

    Another rate is brought to it by libsoxr. DamagedSample if it is none of these, damaged, empty, or longer than the
    config allows, or louder than any recording.
    """
    with _opened_audio(key, data) as file:
        kind, rate, num_frames = file.format, file.samplerate, file.frames
        if num_frames > config.max_audio_seconds * rate:
            raise DamagedSample(key, "audio too long", f"the recording is longer than {config.max_audio_seconds} s")
        # At once: the library seeks after every read, and an MP3's frames need those before them.
        wave_TC = file.read(num_frames, "float32", always_2d=True)
    if len(wave_TC) == 0 or len(wave_TC) != num_frames:
        raise DamagedSample(key, "audio", f"the {kind} ends after {len(wave_TC)} of {num_frames} samples")
    with np.errstate(invalid="ignore"):
        loudest = max(float(wave_TC.max()), -float(wave_TC.min()))
    if not loudest <= _MAX_AMPLITUDE:  # before the mean, which may overflow
        what = f"of {loudest:.3g} times full scale" if math.isfinite(loudest) else "that are no numbers"
        raise DamagedSample(key, "audio", f"the {kind} has samples {what}")
    wave_T = wave_TC.mean(axis=1)
    if rate == config.sample_rate_hertz:
        return wave_T
    import soxr

    resampled_T = soxr.resample(wave_T, rate, config.sample_rate_hertz)
    if len(resampled_T) == 0:
        raise DamagedSample(key, "audio", f"the recording has {num_frames} samples at {rate} Hz, too few")
    return resampled_T.astype(np.float32, copy=False)


@contextmanager
def _opened_audio(key: str, data: bytes) -> Iterator["SoundFile"]:
    """The recording, nothing of it decoded yet; whatever goes wrong while it is used is a DamagedSample."""
    import soundfile

    if is_mp3(data):
        data = with_length(key, data)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format not in _AUDIO_FORMATS:
                raise DamagedSample(key, "audio", f"the recording is {file.format}, not FLAC, WAV, MP3 or Ogg")
            if file.frames > _MAX_FRAMES or file.subtype.startswith("MPEG") != (file.format == "MP3"):
                raise DamagedSample(key, "audio", f"the {file.format} does not say how long it is")
            if file.channels > _MAX_CHANNELS or file.samplerate < 1:
                detail = f"the recording has {file.channels} channels at {file.samplerate} Hz"
                raise DamagedSample(key, "audio", detail)
            if _is_riff(data, b"WAVE") and _riff_ends_early(data):
                raise DamagedSample(key, "audio", "the WAV ends early")
            yield file
    except soundfile.LibsndfileError as error:
        raise DamagedSample(key, "audio", f"the recording is damaged ({error.error_string})") from error


def decode_json(key: str, data: bytes, config: DecodeConfig | None = None) -> dict[str, Any]:
    """The labels of a sample. DamagedSample unless it is a JSON object within the bounds of the config."""
    config = config or DecodeConfig()
    if len(data) > config.max_json_bytes:
        detail = f"the labels are not within max_json_bytes={config.max_json_bytes}: {len(data)} bytes"
        raise DamagedSample(key, "json", detail)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedSample(key, "json", "the labels are not JSON") from error
    if not isinstance(content, dict):
        raise DamagedSample(key, "json", "the labels are not a JSON object")
    if _depth_exceeds(content, config.max_json_depth):
        detail = f"the labels are not within max_json_depth={config.max_json_depth}"
        raise DamagedSample(key, "json", detail)
    return content


def _depth_exceeds(content: Any, max_depth: int) -> bool:
    level = [content]
    for _ in range(max_depth):
        inside = [list(node.values()) if isinstance(node, dict) else node for node in level]
        level = [value for values in inside for value in values if isinstance(value, dict | list)]
        if not level:
            return False
    return True


def _is_riff(data: bytes, kind: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == kind


def _riff_ends_early(data: bytes) -> bool:
    size = int.from_bytes(data[4:8], "little")
    return size not in _UNKNOWN_RIFF_SIZES and size + 8 > len(data)
