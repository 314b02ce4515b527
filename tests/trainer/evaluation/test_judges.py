import numpy as np
import pytest
from sklearn.datasets import load_digits

from triptych.trainer.evaluation.judges import UNDECIDED, train_image_judge, train_speech_judge

RATE = 16000


@pytest.fixture(scope="module")
def digits():
    bunch = load_digits()
    images = (bunch.images * 255 / 16).astype(np.uint8)
    return images, bunch.target


@pytest.fixture(scope="module")
def image_judge(digits):
    images, labels = digits
    return train_image_judge(images[:1000], labels[:1000], images[1000:], labels[1000:])


def tone(digit: int, rng: np.random.Generator) -> np.ndarray:
    """A stand-in for a word: a rising chirp whose pitch tells the digit, of random length, loudness and delay."""
    time = np.arange(int(rng.uniform(0.3, 0.6) * RATE)) / RATE
    wave = rng.uniform(0.05, 0.9) * np.sin(2 * np.pi * (200 * 1.35**digit * (1 + 0.3 * time)) * time)
    noisy = np.pad(wave, (int(rng.uniform(0, 0.3) * RATE), 0))
    return (noisy + 1e-3 * rng.standard_normal(len(noisy))).astype(np.float32)


@pytest.fixture(scope="module")
def speech_judge():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 10
    clips = [tone(digit, rng) for digit in labels]
    return train_speech_judge(clips[:150], labels[:150], clips[150:], labels[150:])


def test_the_image_judge_reads_real_digits(image_judge):
    assert image_judge.accuracy.trials == 797
    assert image_judge.accuracy.value > 0.95


def test_exposure_does_not_change_an_image_verdict(image_judge, digits):
    dim = [(image // 4 + 20).astype(np.uint8) for image in digits[0][:50]]
    assert image_judge.share_right(dim, digits[1][:50]).value > 0.95


def test_colour_and_damaged_pixels_are_judged(image_judge, digits):
    image = digits[0][0].astype(float)
    image[0, 0] = np.nan
    assert list(image_judge.verdicts([np.stack([image] * 3, axis=-1)])) == [digits[1][0]]


def test_a_uniform_image_is_no_digit(image_judge):
    assert list(image_judge.verdicts([np.full((8, 8), 7, np.uint8)])) == [UNDECIDED]


def test_another_size_is_refused(image_judge):
    with pytest.raises(ValueError, match="images of one size"):
        image_judge.verdicts([np.zeros((9, 8), np.uint8)])


def test_the_speech_judge_hears_through_loudness_delay_and_speed(speech_judge):
    assert speech_judge.accuracy.trials == 50
    assert speech_judge.accuracy.value > 0.9


def test_loudness_does_not_change_a_speech_verdict(speech_judge):
    clips = [tone(digit, np.random.default_rng(digit)) for digit in range(10)]
    assert list(speech_judge.verdicts(clips)) == list(speech_judge.verdicts([clip * 0.3 for clip in clips]))


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(8000), np.full(700, np.nan), np.zeros(1)])
def test_silence_is_no_digit(speech_judge, samples):
    assert list(speech_judge.verdicts([samples])) == [UNDECIDED]


@pytest.mark.parametrize("samples", [np.ones(1), np.full(31, np.inf), np.sin(np.arange(40000.0)) * 1e9])
def test_odd_clips_get_some_verdict(speech_judge, samples):
    assert speech_judge.verdicts([samples])[0] in range(10)


def test_a_verdict_does_not_depend_on_the_company(speech_judge):
    clips = [tone(digit, np.random.default_rng(digit)) for digit in (3, 8)]
    assert speech_judge.verdicts([clips[0]])[0] == speech_judge.verdicts(clips)[0]


def test_nothing_to_judge_gives_no_verdicts(speech_judge):
    assert speech_judge.verdicts([]).shape == (0,)


def test_one_class_teaches_nothing():
    with pytest.raises(ValueError, match="at least two digits"):
        train_image_judge([np.zeros((8, 8))] * 3, [1, 1, 1], [np.zeros((8, 8))], [1])
