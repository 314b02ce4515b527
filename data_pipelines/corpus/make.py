"""Makes the raw corpus: a set of shards in `<folder>/<source>/<split>/`, and the recipe in `<folder>/corpus.json`."""

import io
import json
import platform
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

from triptych.data_pipelines.corpus.digits import DigitsConfig, digits
from triptych.data_pipelines.corpus.speech import SpeechConfig, clips
from triptych.data_pipelines.corpus.splits import SPLITS, Split
from triptych.data_pipelines.corpus.text import Document, TextConfig, documents, split_of
from triptych.data_pipelines.shards.atomic import atomic_folder, write_file
from triptych.data_pipelines.shards.manifest import Manifest, read_manifest
from triptych.data_pipelines.shards.writer import ShardConfig, ShardWriter

Source = Literal["text", "digits", "speech"]
SOURCES: tuple[Source, ...] = get_args(Source)
RECIPE = "corpus.json"
_VERSION = 1
_PACKAGES = ("espeakng-loader", "scikit-learn", "numpy", "pillow", "soundfile", "scipy")

Members = dict[str, bytes]


@dataclass(kw_only=True, slots=True, frozen=True)
class CorpusConfig:
    """Seed and sizes. The same values with the same package versions give the same bytes."""

    seed: int = 0
    text: TextConfig = field(default_factory=TextConfig)
    digits: DigitsConfig = field(default_factory=DigitsConfig)
    speech: SpeechConfig = field(default_factory=SpeechConfig)
    shards: ShardConfig = field(default_factory=ShardConfig)


def set_folder(corpus: Path, source: Source, split: Split) -> Path:
    """Where the shards of a source and split are, in a raw corpus as well as in an encoded one."""
    return corpus / source / split


def make_corpus(folder: Path, config: CorpusConfig) -> dict[tuple[Source, Split], Manifest]:
    """Make the corpus, all of it or nothing; if it is there already, made with the same config, leave it.

    Members: text `.txt .json`, digits `.png .txt .json`, speech `.flac .txt .json` (16 bit). ValueError if `folder`
    holds anything else, OSError if the disk is full.
    """
    recipe = json.loads(json.dumps({"version": _VERSION, "config": asdict(config)}))  # tuples become lists
    if folder.exists():
        return _existing(folder, recipe)
    packages = {name: version(name) for name in _PACKAGES}
    provenance = {**recipe, "python": platform.python_version(), "packages": packages}
    manifests = {}
    with atomic_folder(folder) as partial:
        for source, split, samples in _sets(config):
            target = set_folder(partial, source, split)
            target.mkdir(parents=True)
            made_by = {"source": source, "split": split, **provenance}
            with ShardWriter(target, config.shards, provenance=made_by) as writer:
                for index, members in enumerate(samples):
                    writer.write(f"{source}-{split}-{index:06d}", members)
            manifests[source, split] = read_manifest(target)
        write_file(partial / RECIPE, (json.dumps(provenance, indent=1, sort_keys=True) + "\n").encode())
    return manifests


def _existing(folder: Path, recipe: Mapping[str, Any]) -> dict[tuple[Source, Split], Manifest]:
    try:
        found = json.loads((folder / RECIPE).read_bytes())
        same = all(found.get(name) == value for name, value in recipe.items())
    except (OSError, ValueError, AttributeError):
        raise ValueError(f"{folder} exists and is no corpus; remove it or choose another folder") from None
    if not same:
        raise ValueError(f"{folder} was made with another config; remove it or choose another folder")
    return {(source, split): read_manifest(set_folder(folder, source, split)) for source in SOURCES for split in SPLITS}


def _sets(config: CorpusConfig) -> Iterator[tuple[Source, Split, Iterator[Members]]]:
    """Every source and split with its samples. All the prose is in memory at once: a megabyte, the library's size."""
    found = list(documents(config.text))
    random.Random(f"text/{config.seed}").shuffle(found)  # neighbours in a file are about one thing
    for split in SPLITS:
        yield "text", split, _text_samples(found, config, split)
    for split in SPLITS:
        yield "digits", split, _digit_samples(config, split)
    for split in SPLITS:
        yield "speech", split, _speech_samples(config, split)


def _text_samples(found: Sequence[Document], config: CorpusConfig, split: Split) -> Iterator[Members]:
    for text, origin in found:
        if split_of(text, config.text) == split:
            yield {"txt": text.encode(), "json": _json(split=split, origin=origin)}


def _digit_samples(config: CorpusConfig, split: Split) -> Iterator[Members]:
    from PIL import Image

    for image, caption, label, row, remarks, warped in digits(config.digits, config.seed, split):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        about = _json(split=split, label=label, row=row, remarks=remarks, warped=warped)
        yield {"png": buffer.getvalue(), "txt": caption.encode(), "json": about}


def _speech_samples(config: CorpusConfig, split: Split) -> Iterator[Members]:
    import soundfile

    for clip in clips(config.speech, config.seed, split):
        buffer = io.BytesIO()
        soundfile.write(buffer, clip.wave, config.speech.sample_rate_hertz, format="FLAC", subtype="PCM_16")
        about = _json(
            split=split, label=clip.label, voice=clip.voice, pitch=clip.pitch, words_per_minute=clip.words_per_minute
        )
        yield {"flac": buffer.getvalue(), "txt": clip.caption.encode(), "json": about}


def _json(**about: object) -> bytes:
    return json.dumps(about, sort_keys=True).encode()
