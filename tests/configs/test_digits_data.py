"""The demo's data as evaluations and tokenizers see it: judges learn from what is real, tokenizers from everything."""

import io
import json

import numpy as np
import pytest
import soundfile
from PIL import Image

from triptych.configs.digits import load_labelled, raw_folder, train_judges
from triptych.data_pipelines.corpus.make import set_folder
from triptych.data_pipelines.shards.writer import ShardConfig, ShardWriter

NUM_REAL, NUM_WARPED = 20, 60


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two digits: ink above is 0, ink below is 1. Warped images say the opposite, and are more."""
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "validation"):
        images = [(i % 2, i % 2, False) for i in range(NUM_REAL)]
        images += [(i % 2, 1 - i % 2, True) for i in range(NUM_WARPED)] if split == "train" else []
        _write(folder, "digits", split, [_image(*image, seed) for seed, image in enumerate(images)])
        _write(folder, "speech", split, [_clip(i % 2, i) for i in range(NUM_REAL)])
    return folder


def test_judges_learn_from_real_images_alone(data):
    assert train_judges(data).image.accuracy.value == 1.0


def test_tokenizers_are_given_every_image(data):
    assert len(load_labelled(data, "digits", "image", "train").items) == NUM_REAL + NUM_WARPED


def test_real_leaves_out_the_warped_ones_in_order(data):
    loaded = load_labelled(data, "digits", "image", "train")
    assert loaded.real().captions == [text for text in loaded.captions if text.startswith("real")]


def test_every_recording_is_real(data):
    loaded = load_labelled(data, "speech", "audio", "train")
    assert loaded.real().captions == loaded.captions


def test_first_takes_the_first_and_no_more_than_there_are(data):
    loaded = load_labelled(data, "digits", "image", "validation")
    assert (loaded.first(3).digits, len(loaded.first(999).items)) == (loaded.digits[:3], NUM_REAL)


def _write(folder, source, split, samples):
    target = set_folder(raw_folder(folder), source, split)
    target.mkdir(parents=True)
    with ShardWriter(target, ShardConfig(), provenance={}) as writer:
        for index, members in enumerate(samples):
            writer.write(f"{index:06d}", members)


def _image(place, label, warped, seed):
    pixels = np.random.default_rng(seed).integers(0, 60, (8, 8))
    pixels[4 * place : 4 * place + 4] += 150
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    about = {"label": label, "warped": warped}
    text = f"{'warped' if warped else 'real'} {seed}"
    return {"png": buffer.getvalue(), "txt": text.encode(), "json": json.dumps(about).encode()}


def _clip(label, seed):
    seconds = np.arange(8000) / 16_000
    wave = 0.5 * np.sin(2 * np.pi * (300 + 900 * label) * seconds)
    wave += 0.01 * np.random.default_rng(seed).normal(size=len(wave))
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, 16_000, format="FLAC", subtype="PCM_16")
    return {"flac": buffer.getvalue(), "txt": str(seed).encode(), "json": json.dumps({"label": label}).encode()}
