"""Make a tokenizer's folder of someone's pretrained model: its files, its preprocessing, and a few choices of ours."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from triptych.data_pipelines.shards.atomic import atomic_folder
from triptych.data_pipelines.tokenizers import text
from triptych.data_pipelines.tokenizers.protocol import Tokenizer
from triptych.data_pipelines.tokenizers.tiktoken_ranks import TiktokenTokenizer, installed_encodings
from triptych.data_pipelines.vocabulary import Modality
from triptych.models.tokenizers import pretrained
from triptych.models.tokenizers.audio import tokenizer as audio
from triptych.models.tokenizers.audio.patterns import Arrangement
from triptych.models.tokenizers.image import tokenizer as image
from triptych.models.tokenizers.image.pixels import Filter, PixelConfig
from triptych.models.tokenizers.pretrained import Architecture, Precision
from triptych.models.tokenizers.registry import load_tokenizer

_Kind = TypeVar("_Kind", bound=str)
_PILLOW_FILTERS: dict[int, Filter] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_FIELDS: dict[Modality, tuple[str, ...]] = {
    "text": (),
    "image": ("image_size", "precision"),
    "audio": ("codebooks", "num_codebooks", "sample_rate_hertz", "precision"),
}


@dataclass(kw_only=True, slots=True, frozen=True)
class Adoption:
    """Choices; None is what the model itself says, or the first-named here.

    image_size: side of the square pictures, in pixels. codebooks: flattened, delayed or parallel. num_codebooks: only
    the first so many; all. sample_rate_hertz: of the raw audio; 16,000, as shards have it. precision: float64, float32.
    """

    image_size: int | None = None
    codebooks: Arrangement | None = None
    num_codebooks: int | None = None
    sample_rate_hertz: int | None = None
    precision: Precision | None = None


def adopt(source: Path, modality: Modality, out: Path, choices: Adoption | None = None) -> Tokenizer:
    """Write a tokenizer's folder `out` from a model's folder (or file, or, of text, a name that tiktoken knows); the
    tokenizer, loaded from there.

    All or nothing. ValueError in one line for a model of no known kind, weights that are a pickle, choices that do not
    fit, and if `out` exists.
    """
    choices = choices or Adoption()
    given = [field.name for field in fields(choices) if getattr(choices, field.name) is not None]
    foreign = [name for name in given if name not in _FIELDS[modality]]
    if foreign:
        raise ValueError(f"{foreign[0]} says nothing about a tokenizer of {modality}; leave it out")
    with atomic_folder(out) as partial:
        if modality == "text":
            _text(source).save(partial)
        elif modality == "image":
            _keep_image(source, partial, choices)
        else:
            _keep_audio(source, partial, choices)
        load_tokenizer(partial, modality=modality)  # what cannot be read again is not kept
    return load_tokenizer(out, modality=modality)


def _text(source: Path) -> Tokenizer:
    if source.is_file() and source.suffix == ".tiktoken":
        return TiktokenTokenizer.from_rank_file(source)
    if source.is_file():
        return text.TextTokenizer.read(source)
    if (source / text.FILE_NAME).is_file():
        return text.TextTokenizer.load(source)
    ranks = sorted(source.glob("*.tiktoken"))
    if len(ranks) > 1:
        raise ValueError(f"{source} has several .tiktoken files; give one of them, such as {ranks[0]}")
    if ranks:
        return TiktokenTokenizer.from_rank_file(ranks[0])
    if source.exists():
        raise ValueError(f"{source} has no {text.FILE_NAME} and no .tiktoken file; give a tokenizer's folder or file")
    if str(source) not in installed_encodings():
        known = ", ".join(installed_encodings())
        raise ValueError(f"{source} is no folder or file, and none of tiktoken's encodings; give one, or of {known}")
    return TiktokenTokenizer.from_installed(str(source))


def _keep_image(source: Path, partial: Path, choices: Adoption) -> None:
    kind, model = _model(source, image.ARCHITECTURES)
    quantizer = image.QUANTIZERS[kind](model)
    processor = _processor(source)
    size = choices.image_size or _stated_size(processor)
    if size is None and quantizer.only_grid is not None:
        size = quantizer.only_grid * quantizer.pixels_per_code
    if size is None:
        raise ValueError(f"{source} does not say what pictures it takes; give --image-size")
    config = image.VqImageConfig(
        kind=kind, pixels=_pixels(source, processor, size, quantizer.num_channels), precision=_precision(choices)
    )
    image.require_fields(config, quantizer, source)
    pretrained.keep_model(model, partial)
    pretrained.write_config(partial, config)


def _keep_audio(source: Path, partial: Path, choices: Adoption) -> None:
    kind, model = _model(source, audio.ARCHITECTURES)
    codec = audio.wrap(kind, model, source)
    config = audio.AudioCodecConfig(
        kind=kind,
        sample_rate_hertz=16_000 if choices.sample_rate_hertz is None else choices.sample_rate_hertz,
        codebooks=choices.codebooks or "flattened",
        num_codebooks=codec.max_codebooks if choices.num_codebooks is None else choices.num_codebooks,
        precision=_precision(choices),
    )
    audio.require_fields(config, codec, source)
    pretrained.keep_model(model, partial)
    pretrained.write_config(partial, config)


def _precision(choices: Adoption) -> Precision:
    return choices.precision or "float64"


def _model(source: Path, architectures: dict[_Kind, Architecture]) -> tuple[_Kind, Any]:
    """The kind that a folder's config names, and the model in it."""
    name = pretrained.declared_name(source)
    for kind, architecture in architectures.items():
        if name in (architecture.name, architecture.whole):
            return kind, pretrained.load_model(architecture, source)
    known = ", ".join(architecture.name for architecture in architectures.values())
    raise ValueError(f"{source} is a {name}, which no tokenizer here is made of; give one of {known}")


def _processor(source: Path) -> dict[str, Any]:
    """The image processor's fields, wherever this version of the library keeps them; {} without."""
    for name in _PROCESSORS:
        if (source / name).is_file():
            content = pretrained.read_object(source / name)
            inner = content.get("image_processor", content)
            return inner if isinstance(inner, dict) else {}
    return {}


def _stated_size(processor: dict[str, Any]) -> int | None:
    for name in ("crop_size", "size"):
        value = processor.get(name)
        sides = value.values() if isinstance(value, dict) else [value]
        if len(set(sides)) == 1 and isinstance(next(iter(sides)), int):
            return next(iter(sides))
    return None


def _pixels(source: Path, processor: dict[str, Any], size: int, num_channels: int) -> PixelConfig:
    """As the processor has it; without one, values from -1 to 1, as these models are trained."""
    rescale = processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 1.0
    plain = not processor.get("do_normalize", True)
    mean = [0.0] * num_channels if plain else processor.get("image_mean", [0.5] * num_channels)
    std = [1.0] * num_channels if plain else processor.get("image_std", [0.5] * num_channels)
    try:
        return PixelConfig(
            image_size=size,
            filter=_PILLOW_FILTERS.get(processor.get("resample", 3), "bicubic"),
            rescale=float(rescale),
            mean=tuple(map(float, mean)),
            std=tuple(map(float, std)),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{source}: the image processor's mean, std or rescale_factor is no number; correct it"
        ) from error
