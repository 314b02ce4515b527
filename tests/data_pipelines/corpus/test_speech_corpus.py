"""Spoken digits: the same every time, short, balanced, and no voice in two splits."""

import numpy as np
import pytest

from triptych.data_pipelines.corpus.espeak import Espeak
from triptych.data_pipelines.corpus.speech import ACCENTS, VARIANTS, SpeechConfig, clips
from triptych.data_pipelines.corpus.words import DIGIT_WORDS, digit_in

CONFIG = SpeechConfig(num_train=60, num_validation=20)


@pytest.fixture(scope="module")
def train():
    return list(clips(CONFIG, 0, "train"))


def _say(espeak, text="three", voice="en-us+m1"):
    return espeak.say(text, voice=voice, pitch=50, words_per_minute=175)


def test_a_new_synthesizer_says_the_same():
    with Espeak(3) as espeak:
        first = [_say(espeak, word) for word in DIGIT_WORDS]
    with Espeak(3) as espeak:
        second = [_say(espeak, word) for word in DIGIT_WORDS]
    assert all(map(np.array_equal, first, second))


def test_two_synthesizers_do_not_disturb_each_other():
    with Espeak(3) as espeak:
        alone = [_say(espeak, word) for word in DIGIT_WORDS]
    with Espeak(3) as espeak, Espeak(4) as other:
        together = [(_say(espeak, word), _say(other, "hello", "en+f2"))[0] for word in DIGIT_WORDS]
    assert all(map(np.array_equal, alone, together))


def test_closing_twice_is_safe():
    espeak = Espeak(0)
    espeak.close()
    espeak.close()
    with Espeak(0) as another:
        assert len(_say(another)) > 0


def test_interrupt_while_it_speaks_is_not_lost(monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    with Espeak(0) as espeak:
        monkeypatch.setattr(np.ctypeslib, "as_array", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _say(espeak)


def test_unknown_voice():
    with Espeak(0) as espeak, pytest.raises(ValueError, match="espeak-ng has no voice 'martian'"):
        _say(espeak, voice="martian")


def test_nothing_to_say():
    with Espeak(0) as espeak, pytest.raises(ValueError, match="espeak-ng says nothing for ''; give it words"):
        _say(espeak, "")


@pytest.mark.parametrize("variant", [variant for variants in VARIANTS.values() for variant in variants])
def test_every_variant_has_a_sound_of_its_own(variant):
    with Espeak(0) as espeak:
        plain, own = _say(espeak, voice="en-us"), _say(espeak, voice=f"en-us+{variant}")
    assert not np.array_equal(plain, own)


@pytest.mark.parametrize("accent", ACCENTS)
def test_every_accent_is_known(accent):
    with Espeak(0) as espeak:
        assert np.abs(_say(espeak, voice=accent)).max() > 0.05


def test_seed_decides(train):
    again, other = list(clips(CONFIG, 0, "train")), list(clips(CONFIG, 1, "train"))
    same = [np.array_equal(clip.wave, twin.wave) for clip, twin in zip(train, again, strict=True)]
    assert all(same)
    assert [clip.caption for clip in train] != [clip.caption for clip in other]


def test_digits_come_equally_often(train):
    assert np.bincount([clip.label for clip in train]).tolist() == [6] * 10


def test_captions_say_the_label(train):
    assert [digit_in(clip.caption) for clip in train] == [clip.label for clip in train]


def test_clips_are_short_and_loud_enough(train):
    seconds = [len(clip.wave) / CONFIG.sample_rate_hertz for clip in train]
    assert 0.15 < min(seconds)
    assert max(seconds) <= CONFIG.max_seconds
    assert all(0.4 < np.abs(clip.wave).max() <= 1 for clip in train)


def test_speech_starts_at_once(train):
    onsets = [np.flatnonzero(np.abs(clip.wave) > 0.1 * np.abs(clip.wave).max())[0] for clip in train]
    assert np.median(onsets) < 0.1 * CONFIG.sample_rate_hertz


def test_long_phrases_are_said_faster():
    config = SpeechConfig(num_train=10, max_seconds=0.42, phrase_fraction=1.0)
    assert max(len(clip.wave) for clip in clips(config, 0, "train")) <= 0.42 * config.sample_rate_hertz


def test_too_short_a_bound_names_the_option():
    with pytest.raises(ValueError, match=r"max_seconds=0.05 is too short to say '.*'; raise it"):
        next(clips(SpeechConfig(max_seconds=0.05), 0, "train"))


def test_splits_share_no_variant(train):
    held_out = {clip.voice.split("+")[1] for clip in clips(CONFIG, 0, "validation")}
    assert held_out.isdisjoint(clip.voice.split("+")[1] for clip in train)
