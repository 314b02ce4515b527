"""Every kind of tokenizer by its name: what a folder's `config.json` calls itself decides what reads it."""

from collections.abc import Callable
from pathlib import Path

from triptych.data_pipelines.tokenizers import text, tiktoken_ranks
from triptych.data_pipelines.tokenizers.protocol import Tokenizer
from triptych.data_pipelines.vocabulary import Modality
from triptych.models.fsq import FsqAudioTokenizer, FsqImageTokenizer
from triptych.models.tokenizers.audio.tokenizer import AUDIO_KINDS, AudioCodecTokenizer
from triptych.models.tokenizers.image.tokenizer import IMAGE_KINDS, VqImageTokenizer
from triptych.models.tokenizers.pretrained import CONFIG_FILE, read_object

Loader = Callable[[Path, str], Tokenizer]
HUGGING_FACE = "hugging_face"

KINDS: dict[Modality, dict[str, Loader]] = {
    "text": {
        HUGGING_FACE: lambda folder, _device: text.TextTokenizer.load(folder),
        "tiktoken": lambda folder, _device: tiktoken_ranks.TiktokenTokenizer.load(folder),
    },
    "image": {"fsq_image": FsqImageTokenizer.load, **dict.fromkeys(IMAGE_KINDS, VqImageTokenizer.load)},
    "audio": {"fsq_audio": FsqAudioTokenizer.load, **dict.fromkeys(AUDIO_KINDS, AudioCodecTokenizer.load)},
}


def load_tokenizer(folder: Path, device: str = "cpu", modality: Modality | None = None) -> Tokenizer:
    """The tokenizer in a folder, whatever its kind. device: where networks run; the codes do not depend on it.

    modality: it must be of this one. ValueError in one line, naming the file, if the folder holds none, its kind is
    unknown or of another modality, or it is damaged.
    """
    return _loader(folder, modality)(folder, device)


def require_tokenizer(folder: Path, modality: Modality) -> None:
    """ValueError as `load_tokenizer`, by what the folder says of itself; nothing is loaded."""
    _loader(folder, modality)


def _loader(folder: Path, modality: Modality | None) -> Loader:
    name = kind(folder)
    loaders = {known: loader for kinds in KINDS.values() for known, loader in kinds.items()}
    if name not in loaders:
        raise ValueError(f"{folder / CONFIG_FILE} is of kind {name!r}; use one of {', '.join(loaders)}")
    if modality is not None and name not in KINDS[modality]:
        known = ", ".join(KINDS[modality])
        raise ValueError(f"{folder} is of kind {name}, no tokenizer of {modality}; give one of {known}")
    return loaders[name]


def kind(folder: Path) -> str:
    """The name of a folder's kind, which `tokenizer.json` alone has too. ValueError if there is neither."""
    if (folder / CONFIG_FILE).exists():
        fields = read_object(folder / CONFIG_FILE).get("config")
        if isinstance(fields, dict) and isinstance(fields.get("kind"), str):
            return fields["kind"]
    if (folder / text.FILE_NAME).exists():
        return HUGGING_FACE
    if (folder / CONFIG_FILE).exists():
        raise ValueError(
            f"{folder / CONFIG_FILE} names no kind of tokenizer; train one, or adopt it (`triptych tokenizer adopt`)"
        )
    missing = f"{folder / CONFIG_FILE} or {text.FILE_NAME} is missing"
    raise ValueError(f"no tokenizer at {folder}: {missing}; train one or give its folder")
