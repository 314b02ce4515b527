"""The demo's data and its judges: prose, handwritten digits with captions, spoken digits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from triptych.data_pipelines.corpus.make import CorpusConfig, Source, set_folder
from triptych.data_pipelines.corpus.splits import Split
from triptych.data_pipelines.shards.decode import DecodeConfig, decode_json, decode_member, decode_text
from triptych.data_pipelines.shards.reader import ShardSet
from triptych.data_pipelines.vocabulary import Modality
from triptych.trainer.evaluation.judges import Judge, train_image_judge, train_speech_judge


def corpus_config() -> CorpusConfig:
    """About 1 MB of prose, 1,797 digits and 9,905 warped ones, 4,350 spoken digits: made in 20 seconds on one core."""
    return CorpusConfig()


def raw_folder(folder: Path) -> Path:
    """Where the raw shards are under a data folder."""
    return folder / "raw"


@dataclass(kw_only=True, slots=True, frozen=True)
class Labelled:
    """Decoded items of one source and split: raw images or recordings, their captions, the digits that they show or
    say.

    warped: which images are variants of a scan; no recording is.
    """

    items: list[NDArray[Any]]
    captions: list[str]
    digits: list[int]
    warped: list[bool]

    def first(self, number: int) -> "Labelled":
        return self._at(range(min(number, len(self.items))))

    def real(self) -> "Labelled":
        """Without the warped ones."""
        return self._at([index for index, warped in enumerate(self.warped) if not warped])

    def _at(self, indices: Sequence[int]) -> "Labelled":
        return Labelled(
            items=[self.items[index] for index in indices],
            captions=[self.captions[index] for index in indices],
            digits=[self.digits[index] for index in indices],
            warped=[self.warped[index] for index in indices],
        )


def load_labelled(folder: Path, source: Source, modality: Modality, split: Split) -> Labelled:
    """All of a source's split, in the order of its samples. ValueError for missing or damaged shards."""
    rows = list(_labelled(set_folder(raw_folder(folder), source, split), modality))
    items, captions, digits, warped = (list(column) for column in zip(*rows, strict=True))
    return Labelled(items=items, captions=captions, digits=digits, warped=warped)


def load_texts(folder: Path, source: Source, split: Split) -> list[str]:
    """The documents of the text source, or the captions of another: images and recordings are not read."""
    members = ShardSet.open(set_folder(raw_folder(folder), source, split)).members("txt")
    return [decode_text(key, data or b"", DecodeConfig()) for key, data in members]


def _labelled(folder: Path, modality: Modality) -> Iterator[tuple[NDArray[Any], str, int, bool]]:
    config = DecodeConfig()
    extension = {"image": "png", "audio": "flac"}[modality]
    for sample in ShardSet.open(folder):
        raw = decode_member(sample.key, modality, sample.members[extension], config)
        caption = decode_text(sample.key, sample.members["txt"], config)
        about = decode_json(sample.key, sample.members["json"])
        yield raw, caption, int(about["label"]), bool(about.get("warped", False))


@dataclass(kw_only=True, slots=True, frozen=True)
class Judges:
    """Classifiers that have seen real training data alone."""

    image: Judge
    speech: Judge


def train_judges(folder: Path) -> Judges:
    """Fit both judges in seconds. Warped images are left out: what a judge calls a digit is what people wrote."""
    images, clips = (
        (load_labelled(folder, *of, "train").real(), load_labelled(folder, *of, "validation")) for of in _JUDGED
    )
    return Judges(
        image=train_image_judge(images[0].items, images[0].digits, images[1].items, images[1].digits),
        speech=train_speech_judge(clips[0].items, clips[0].digits, clips[1].items, clips[1].digits),
    )


_JUDGED: tuple[tuple[Source, Modality], ...] = (("digits", "image"), ("speech", "audio"))
