"""A small report with every part in it."""

import numpy as np

from triptych.launch.report.data import (
    Clip,
    Curve,
    DigitRow,
    ImageInfilling,
    ImageReading,
    JudgedImage,
    Mark,
    NoiseBins,
    ReportData,
    RunFacts,
    SpokenCaption,
    TextInfilling,
    TextSample,
    Training,
    Transcript,
    Unmasking,
    UnmaskingStep,
)
from triptych.trainer.evaluation import Proportion, Scores

SCORES = Scores(
    t2i_accuracy=Proportion(successes=187, trials=200),
    judge_image_accuracy=Proportion(successes=390, trials=397),
    i2t_character_error=0.25,
    text_nelbo_bits_per_byte=2.4,
    text_unigram_bits_per_byte=3.1,
    nelbo_nats_per_token={"text": 4.1},
    seconds=500.0,
    num_parameters=2_000_000,
    commit="abc123",
)


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8)).astype(np.uint8)


def clip(seed: int) -> Clip:
    return Clip(samples=np.random.default_rng(seed).uniform(-0.5, 0.5, 4000).astype(np.float32))


def full(words: str = "a three", digit: int = 3) -> ReportData:
    """Every text in it is `words`."""
    curve = Curve(tokens=np.arange(5) * 1000, values=np.array([5.0, 4.0, np.nan, 3.0, 2.5]))
    half = np.array([[False, False], [True, True]])
    judged = (JudgedImage(image=image(0), verdict=digit), JudgedImage(image=image(1), verdict=None))
    steps = tuple(UnmaskingStep(step=n, masked=half & (n == 0), image=image(n)) for n in range(2))
    heard = tuple(UnmaskingStep(step=n, masked=np.array([True, n == 0]), clip=clip(n)) for n in range(2))
    written = (UnmaskingStep(step=0, pieces=(None, words)), UnmaskingStep(step=1, pieces=(words, words)))
    return ReportData(
        title=words,
        summary=words,
        scores=SCORES,
        marks={"t2i_accuracy": Mark(target=0.85, chance=0.1)},
        training=Training(
            losses={"text": curve},
            validation={"text": curve},
            noise_bins={"text": NoiseBins(edges=np.linspace(0, 1, 3), cross_entropy=np.array([2.0, np.nan]))},
            learning_rate=curve,
            tokens_per_second=curve,
        ),
        digits=(DigitRow(caption=words, digit=digit, generated=judged, real=(image(2),)),),
        speech=(SpokenCaption(caption=words, digit=digit, generated=clip(0), verdict=-1, real=clip(1)),),
        readings=(ImageReading(image=image(3), reference=words, text=words, digit=digit, named=None),),
        transcripts=(Transcript(clip=clip(2), reference=words, text=words, digit=digit, named=digit),),
        unmaskings=(
            Unmasking(modality="image", caption=words, steps=steps),
            Unmasking(modality="audio", caption=words, steps=heard),
            Unmasking(modality="text", caption="", steps=written),
        ),
        texts=(TextSample(text=words, prompt=words),),
        image_infillings=(ImageInfilling(caption=words, digit=digit, original=image(4), masked=half, filled=judged),),
        text_infillings=(TextInfilling(segments=((words, False), (words, True)), original=words),),
        run=RunFacts(
            name=words,
            command=words,
            hardware=words,
            versions={words: words},
            seed=1,
            stages={words: 3.0},
            num_parameters={words: 12},
            settings_yaml=words,
        ),
        notes=(words,),
    )
