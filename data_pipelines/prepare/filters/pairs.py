"""Rules for images and recordings with their texts; all thresholds are our own.

Whether an image or a recording is too large is judged by the decoder's bounds, from its header: `decode.max_pixels`,
`decode.max_audio_seconds`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.prepare.inputs.entries import Pair
from triptych.data_pipelines.prepare.quiet import quiet
from triptych.data_pipelines.shards.decode import DecodeConfig, audio_seconds, image_size


@dataclass(kw_only=True, slots=True, frozen=True)
class ImageTextFilterConfig:
    """min_side_pixels: of the shorter side. max_aspect_ratio: longer side over shorter. Captions are counted in
    characters, white space around them not.
    """

    kind: Literal["image-text"] = "image-text"
    min_side_pixels: int = 16
    max_aspect_ratio: float = 4.0
    min_caption_characters: int = 1
    max_caption_characters: int = 2000


@dataclass(kw_only=True, slots=True, frozen=True)
class AudioTextFilterConfig:
    """min_seconds: of a recording. min_level_decibels: its root mean square, relative to a full-scale square wave; what
    is below is silence. Transcripts are counted in characters, white space around them not.
    """

    kind: Literal["audio-text"] = "audio-text"
    min_seconds: float = 0.2
    min_level_decibels: float = -60.0
    min_transcript_characters: int = 1
    max_transcript_characters: int = 10_000


def bad_image_text(key: str, pair: Pair, config: ImageTextFilterConfig, decode: DecodeConfig) -> str | None:
    """Why a pair is left out, or None. DamagedSample if the image has no header."""
    reason = _bad_length("caption", pair.caption, config.min_caption_characters, config.max_caption_characters)
    if reason is not None:
        return reason
    height, width = image_size(key, pair.media)
    if min(height, width) < max(1, config.min_side_pixels):
        return "image too small"
    if height * width > decode.max_pixels:
        return "image too large"
    return "image too elongated" if max(height, width) > config.max_aspect_ratio * min(height, width) else None


def bad_audio_text(key: str, pair: Pair, config: AudioTextFilterConfig, decode: DecodeConfig) -> str | None:
    """Why a pair is left out, or None; silence shows later. DamagedSample if the recording has no header."""
    low, high = config.min_transcript_characters, config.max_transcript_characters
    reason = _bad_length("transcript", pair.caption, low, high)
    if reason is not None:
        return reason
    with quiet(pair.media):
        seconds = audio_seconds(key, pair.media)
    if seconds > decode.max_audio_seconds:
        return "audio too long"
    return "audio too short" if seconds < config.min_seconds else None


def is_silent(wave: NDArray[np.float32], config: AudioTextFilterConfig) -> bool:
    """Whether float32 [samples] is below the level."""
    mean_square = float(np.mean(np.square(wave, dtype=np.float64)))
    return mean_square == 0 or 10 * math.log10(mean_square) < config.min_level_decibels


def _bad_length(what: str, text: str, low: int, high: int) -> str | None:
    length = len(text.strip())
    if length < max(1, low):
        return f"{what} too short"
    return f"{what} too long" if length > high else None
