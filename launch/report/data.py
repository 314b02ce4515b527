"""What a report shows. Everything but the title and the scores may be absent and is then left out of the page.

Images are uint8 [H, W] (0 background, 255 ink) or [H, W, 3]; verdicts and named digits are 0..9, or None (or -1) for
none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.trainer.evaluation.scores import Scores

Image = NDArray[np.uint8]


@dataclass(kw_only=True, slots=True, frozen=True)
class Clip:
    """A recording: float [samples] in -1..1."""

    samples: NDArray[np.floating[Any]]
    sample_rate_hertz: int = 16000

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate_hertz


@dataclass(kw_only=True, slots=True, frozen=True)
class Curve:
    """A number over the run's clock: two arrays of one length. Not-a-number is skipped."""

    tokens: NDArray[Any]
    values: NDArray[Any]


@dataclass(kw_only=True, slots=True, frozen=True)
class NoiseBins:
    """Cross-entropy in nats per masked token, [N], between mask probabilities `edges` [N + 1]."""

    edges: NDArray[Any]
    cross_entropy: NDArray[Any]


@dataclass(kw_only=True, slots=True, frozen=True)
class Training:
    """How the run went. Keys of the mappings are modalities; losses are nats per token."""

    losses: Mapping[str, Curve] = field(default_factory=dict)
    validation: Mapping[str, Curve] = field(default_factory=dict)
    noise_bins: Mapping[str, NoiseBins] = field(default_factory=dict)
    learning_rate: Curve | None = None
    tokens_per_second: Curve | None = None


@dataclass(kw_only=True, slots=True, frozen=True)
class JudgedImage:
    """A generated image and the digit that the judge sees in it."""

    image: Image
    verdict: int | None


@dataclass(kw_only=True, slots=True, frozen=True)
class DigitRow:
    """Images generated for one caption, which names `digit`, beside real ones of that digit."""

    caption: str
    digit: int
    generated: tuple[JudgedImage, ...]
    real: tuple[Image, ...] = ()


@dataclass(kw_only=True, slots=True, frozen=True)
class SpokenCaption:
    """Speech generated for a caption, what the judge hears in it, and a real recording of the same digit."""

    caption: str
    digit: int
    generated: Clip
    verdict: int | None
    real: Clip | None = None


@dataclass(kw_only=True, slots=True, frozen=True)
class ImageReading:
    """The caption that the model reads off a held-out image."""

    image: Image
    reference: str
    text: str
    digit: int
    named: int | None


@dataclass(kw_only=True, slots=True, frozen=True)
class Transcript:
    """The text that the model hears in a held-out recording."""

    clip: Clip
    reference: str
    text: str
    digit: int
    named: int | None


@dataclass(kw_only=True, slots=True, frozen=True)
class UnmaskingStep:
    """The sample after `step` model calls.

    masked: bool, still masked: [rows, columns] of an image's codes, [codes] of speech; unused for text. image, clip:
    what the codes known so far decode to. pieces: the text's tokens, None where masked.
    """

    step: int
    masked: NDArray[np.bool_] | None = None
    image: Image | None = None
    clip: Clip | None = None
    pieces: tuple[str | None, ...] = ()


@dataclass(kw_only=True, slots=True, frozen=True)
class Unmasking:
    """One sample from all masked to done; `modality` says which field of the steps holds it."""

    modality: str
    caption: str
    steps: tuple[UnmaskingStep, ...]


@dataclass(kw_only=True, slots=True, frozen=True)
class TextSample:
    """Generated text; `prompt` is the part that was given."""

    text: str
    prompt: str = ""


@dataclass(kw_only=True, slots=True, frozen=True)
class ImageInfilling:
    """An image of which some codes (`masked`, bool [rows, columns]) are filled in anew, once or several times."""

    caption: str
    digit: int
    original: Image
    masked: NDArray[np.bool_]
    filled: tuple[JudgedImage, ...]


@dataclass(kw_only=True, slots=True, frozen=True)
class TextInfilling:
    """Text whose gaps the model filled: (text, filled by the model) in order; `original` is what stood there."""

    segments: tuple[tuple[str, bool], ...]
    original: str


@dataclass(kw_only=True, slots=True, frozen=True)
class RunFacts:
    """Where the numbers come from.

    stages: name to seconds. num_parameters: part to count. settings_yaml: the resolved run.
    """

    name: str = ""
    command: str = ""
    hardware: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    stages: Mapping[str, float] = field(default_factory=dict)
    num_parameters: Mapping[str, int] = field(default_factory=dict)
    settings_yaml: str = ""


@dataclass(kw_only=True, slots=True, frozen=True)
class Mark:
    """What a score is held against: the aim, and what guessing gives."""

    target: float | None = None
    chance: float | None = None


@dataclass(kw_only=True, slots=True, frozen=True)
class ReportData:
    """All of a report. marks: name of a score to what it is held against. notes: plain sentences."""

    title: str
    scores: Scores
    summary: str = ""
    marks: Mapping[str, Mark] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    digits: tuple[DigitRow, ...] = ()
    speech: tuple[SpokenCaption, ...] = ()
    readings: tuple[ImageReading, ...] = ()
    transcripts: tuple[Transcript, ...] = ()
    unmaskings: tuple[Unmasking, ...] = ()
    texts: tuple[TextSample, ...] = ()
    image_infillings: tuple[ImageInfilling, ...] = ()
    text_infillings: tuple[TextInfilling, ...] = ()
    run: RunFacts = field(default_factory=RunFacts)
    notes: tuple[str, ...] = ()
