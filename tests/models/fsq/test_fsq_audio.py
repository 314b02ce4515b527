from dataclasses import replace

import numpy as np
import pytest
import torch

from triptych.models.fsq import (
    FsqAudioAutoencoder,
    FsqAudioConfig,
    FsqAudioTokenizer,
    FsqInputs,
    LogMelConfig,
    audio_data,
    initialize,
    load_tokenizer,
)
from triptych.models.fsq.mel import LogMel

MEL = LogMelConfig(
    sample_rate_hertz=16_000,
    window_samples=800,
    hop_samples=320,
    num_mels=32,
    min_hertz=60.0,
    max_hertz=7600.0,
    floor_decibels=-60.0,
    griffin_lim_iterations=8,
    griffin_lim_momentum=0.99,
)
CONFIG = FsqAudioConfig(
    mel=MEL,
    peak_amplitude=0.7,
    frames_per_code=3,
    levels=(8, 5),
    hidden_size=8,
    num_encoder_layers=2,
    num_decoder_layers=2,
)


@pytest.fixture(scope="module")
def tokenizer() -> FsqAudioTokenizer:
    model = FsqAudioAutoencoder(CONFIG)
    initialize(model, 0)
    return FsqAudioTokenizer(model)


def _clips(*lengths: int) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [(draw.standard_normal(length) * 0.1).astype(np.float32) for length in lengths]


def _chord(num_samples: int) -> np.ndarray:
    time = np.arange(num_samples) / 16_000
    return (0.2 * sum(np.sin(2 * np.pi * pitch * time) for pitch in (300, 1000, 3000))).astype(np.float32)


@pytest.mark.parametrize(("num_samples", "num_codes"), [(0, 0), (1, 1), (960, 1), (961, 2), (16_000, 17)])
def test_the_number_of_codes_is_the_length_rounded_up(tokenizer, num_samples, num_codes):
    (codes,) = tokenizer.encode(_clips(num_samples))
    assert (codes.shape, codes.dtype) == ((num_codes,), np.int64)


def test_decoding_gives_as_many_samples_as_the_codes_stand_for(tokenizer):
    waves = tokenizer.decode([np.zeros(number, np.int64) for number in (3, 0, 1)])
    assert [(wave.shape, wave.dtype) for wave in waves] == [((n * 960,), np.float32) for n in (3, 0, 1)]


def test_codes_are_the_same_alone_and_in_a_batch(tokenizer):
    clips = _clips(*np.random.default_rng(1).integers(1, 12_000, 40))
    together, alone = tokenizer.encode(clips), [tokenizer.encode([clip])[0] for clip in clips]
    assert all(np.array_equal(a, b) for a, b in zip(together, alone, strict=True))


def test_codes_do_not_depend_on_the_level(tokenizer):
    (clip,) = _clips(8000)
    loud, quiet = tokenizer.encode([clip, clip / 64])
    assert np.array_equal(loud, quiet)


def test_a_clip_below_the_silent_level_is_not_made_louder(tokenizer):
    hiss = _clips(3200)[0] * 1e-5
    silent, quiet = tokenizer.encode([np.zeros(3200, np.float32), hiss])
    assert np.array_equal(silent, quiet)


def test_waveforms_are_the_same_alone_and_in_a_batch(tokenizer):
    codes = tokenizer.encode(_clips(5000, 900, 3000))
    together, alone = tokenizer.decode(codes), [tokenizer.decode([code])[0] for code in codes]
    for first, second in zip(together, alone, strict=True):
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-6)


def test_padding_reaches_no_value_of_the_reconstruction():
    """Poisoned padding: whatever stands after a clip's end, the values before it stay."""
    model = FsqAudioAutoencoder(CONFIG).double()
    initialize(model, 0)
    values_BTM = torch.randn(1, 12, 32, dtype=torch.float64)
    poisoned_BTM = torch.cat([values_BTM, torch.full((1, 9, 32), 1e6, dtype=torch.float64)], dim=1)
    lengths_B = torch.tensor([12])
    plain = model(FsqInputs(values=values_BTM, lengths_B=lengths_B))
    padded = model(FsqInputs(values=poisoned_BTM, lengths_B=lengths_B))
    torch.testing.assert_close(padded.values[:, :12], plain.values, rtol=0, atol=1e-12)


def test_silence_is_minus_one_everywhere():
    assert LogMel(MEL)(torch.zeros(1, 3200)).unique().tolist() == [-1.0]


def test_silent_log_mel_is_a_silent_waveform():
    assert not LogMel(MEL).waveform(np.full((6, 32), -1.0)).any()


def test_silence_can_be_encoded_and_decoded(tokenizer):
    (wave,) = tokenizer.decode(tokenizer.encode([np.zeros(4000, np.float32)]))
    assert wave.shape == (4800,) and np.isfinite(wave).all()


def test_a_full_scale_sine_is_plus_one():
    wave = np.sin(2 * np.pi * 3000 * np.arange(16_000) / 16_000)
    log_mel_TM = LogMel(replace(MEL, num_mels=16))(torch.from_numpy(wave)[None])[0]
    assert abs(float(log_mel_TM[5:-5].max()) - 1) < 0.12  # 1 dB is 0.033: neighbouring bins of the main lobe are summed


def test_a_chord_survives_the_phase_reconstruction():
    log_mel = LogMel(MEL)
    wave = _chord(9600)
    before_TM = log_mel(torch.from_numpy(wave)[None])[0].numpy()
    after_TM = log_mel(torch.from_numpy(log_mel.waveform(before_TM))[None])[0].numpy()
    loud = before_TM > before_TM.max() - 0.5
    assert np.abs(before_TM - after_TM)[loud].mean() < 0.05  # 1.5 dB


def test_the_waveform_is_not_shifted():
    wave = np.zeros(9600, np.float32)
    wave[4800:4864] = np.hanning(64) * np.sin(np.arange(64))
    log_mel = LogMel(MEL)
    back = log_mel.waveform(log_mel(torch.from_numpy(wave)[None])[0].numpy())
    centre = (np.arange(9600) * back**2).sum() / (back**2).sum()
    assert abs(centre - 4832) < 160  # half a hop


def test_loading_gives_the_same_codes_and_fingerprint(tokenizer, tmp_path):
    clips = _clips(4000, 700)
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert all(np.array_equal(a, b) for a, b in zip(loaded.encode(clips), tokenizer.encode(clips), strict=True))


@pytest.mark.parametrize(
    "clip",
    [np.zeros((2, 100), np.float32), np.zeros(100), np.full(100, np.nan, np.float32)],
    ids=["stereo", "float64", "nan"],
)
def test_what_is_no_mono_float_clip_is_refused(tokenizer, clip):
    with pytest.raises(ValueError, match="clip 0"):
        tokenizer.encode([clip])


def test_a_code_outside_the_book_is_refused(tokenizer):
    with pytest.raises(ValueError, match="audio code"):
        tokenizer.decode([np.array([40])])


def test_training_data_counts_codes_and_frames():
    batch, _ = audio_data(_clips(960, 0, 2000), CONFIG, seed=0).batch({}, 2, 0, 1)
    assert sorted(zip(batch.lengths_B.tolist(), batch.codes_B.tolist(), strict=True)) == [(3, 1), (9, 3)]


def test_the_decoder_sees_the_replacements():
    model = FsqAudioAutoencoder(CONFIG)
    initialize(model, 0)
    values_BTM, lengths_B = torch.randn(1, 12, 32), torch.tensor([12])
    plain = model(FsqInputs(values=values_BTM, lengths_B=lengths_B))
    codes_BN = plain.codes_BN.clone()
    codes_BN[0, 1] = (codes_BN[0, 1] + 1) % 40
    replacements_BN = torch.tensor([[-1, int(codes_BN[0, 1])]])  # shorter than the padded batch
    noisy = model(FsqInputs(values=values_BTM, lengths_B=lengths_B, replacements_BN=replacements_BN))
    expected = model.decode(model.quantizer.values(codes_BN), plain.mask_BN)
    torch.testing.assert_close(noisy.values, expected)
