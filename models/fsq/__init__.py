"""Image and audio tokenizers: autoencoders with finite scalar quantization. Mathematics and figures: README.md."""

from pathlib import Path

from triptych.models.fsq import storage
from triptych.models.fsq.audio import FsqAudioAutoencoder, FsqAudioConfig
from triptych.models.fsq.audio_tokenizer import FsqAudioTokenizer, audio_data
from triptych.models.fsq.autoencoder import FsqInputs, FsqOutputs, initialize
from triptych.models.fsq.image import FsqImageAutoencoder, FsqImageConfig
from triptych.models.fsq.image_tokenizer import FsqImageTokenizer, image_data
from triptych.models.fsq.mel import LogMelConfig

__all__ = [
    "FsqAudioAutoencoder",
    "FsqAudioConfig",
    "FsqAudioTokenizer",
    "FsqImageAutoencoder",
    "FsqImageConfig",
    "FsqImageTokenizer",
    "FsqInputs",
    "FsqOutputs",
    "LogMelConfig",
    "audio_data",
    "image_data",
    "initialize",
    "load_tokenizer",
]


def load_tokenizer(folder: Path) -> FsqImageTokenizer | FsqAudioTokenizer:
    """The tokenizer saved in a folder. ValueError, naming the file, if it is missing, damaged or of another kind."""
    kind = storage.kind(folder)
    if kind == "fsq_image":
        return FsqImageTokenizer.load(folder)
    if kind == "fsq_audio":
        return FsqAudioTokenizer.load(folder)
    raise ValueError(f"{folder / storage.CONFIG_FILE} is of kind {kind!r}; give a folder of fsq_image or fsq_audio")
