from dataclasses import replace

import numpy as np
import pytest
import torch

from triptych.models.fsq import (
    FsqImageAutoencoder,
    FsqImageConfig,
    FsqImageTokenizer,
    FsqInputs,
    image_data,
    initialize,
    load_tokenizer,
)

GREY = FsqImageConfig(
    image_height=8,
    image_width=4,
    num_channels=1,
    patch_size=2,
    levels=(8, 5),
    hidden_size=8,
    num_encoder_layers=1,
    num_decoder_layers=1,
)
COLOUR = replace(GREY, num_channels=3)


def _tokenizer(config: FsqImageConfig, seed: int = 0) -> FsqImageTokenizer:
    model = FsqImageAutoencoder(config)
    initialize(model, seed)
    return FsqImageTokenizer(model)


def _images(config: FsqImageConfig, number: int) -> list[np.ndarray]:
    shape = (config.image_height, config.image_width) + ((3,) if config.num_channels == 3 else ())
    return list(np.random.default_rng(0).integers(0, 256, (number, *shape), dtype=np.uint8))


@pytest.mark.parametrize("config", [GREY, COLOUR], ids=["grey", "colour"])
def test_decoding_gives_images_of_the_size_and_type_encoded(config):
    tokenizer, images = _tokenizer(config), _images(config, 3)
    decoded = tokenizer.decode(tokenizer.encode(images))
    assert [(image.shape, image.dtype) for image in decoded] == [(image.shape, image.dtype) for image in images]


def test_codes_are_one_per_patch_and_in_range():
    codes = _tokenizer(GREY).encode(_images(GREY, 5))
    assert all(c.shape == (8,) and c.dtype == np.int64 and 0 <= c.min() and c.max() < 40 for c in codes)


def test_codes_are_the_same_alone_and_in_a_batch():
    tokenizer, images = _tokenizer(GREY), _images(GREY, 300)
    together, alone = tokenizer.encode(images), [tokenizer.encode([image])[0] for image in images]
    np.testing.assert_array_equal(together, alone)


def test_images_are_the_same_alone_and_in_a_batch():
    tokenizer = _tokenizer(GREY)
    codes = tokenizer.encode(_images(GREY, 20))
    together, alone = tokenizer.decode(codes), [tokenizer.decode([code])[0] for code in codes]
    np.testing.assert_array_equal(together, alone)


def test_codes_lie_in_rows_from_the_top_left():
    """Without context layers a patch decides its own code alone, so one changed patch changes one place."""
    tokenizer = _tokenizer(replace(GREY, num_encoder_layers=0))
    black, spot = np.zeros((8, 4), dtype=np.uint8), np.zeros((8, 4), dtype=np.uint8)
    spot[2:4, 2:4] = [[255, 255], [0, 255]]
    plain, changed = tokenizer.encode([black, spot])
    assert np.flatnonzero(plain != changed).tolist() == [3]


def test_the_network_takes_any_multiple_of_the_patch():
    model = FsqImageAutoencoder(GREY)
    inputs = FsqInputs(values=torch.zeros(2, 6, 10, 1), lengths_B=torch.tensor([6, 6]))
    outputs = model(inputs)
    assert (outputs.values.shape, outputs.codes_BN.shape) == ((2, 6, 10, 1), (2, 15))


def test_loading_gives_the_same_codes_and_fingerprint(tmp_path):
    tokenizer, images = _tokenizer(GREY), _images(GREY, 4)
    tokenizer.save(tmp_path / "image")
    loaded = load_tokenizer(tmp_path / "image")
    np.testing.assert_array_equal(loaded.encode(images), tokenizer.encode(images))
    assert loaded.fingerprint == tokenizer.fingerprint


def test_the_fingerprint_depends_on_weights_and_config():
    same = replace(GREY, image_height=4, image_width=8)
    digests = {_tokenizer(GREY).fingerprint, _tokenizer(GREY, seed=1).fingerprint, _tokenizer(same).fingerprint}
    assert len(digests) == 3


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"image 1 is uint8 \[8, 8\], the tokenizer takes uint8 \[8, 4\]"):
        _tokenizer(GREY).encode([np.zeros((8, 4), np.uint8), np.zeros((8, 8), np.uint8)])


@pytest.mark.parametrize("codes", [np.full(8, 40), np.full(8, -1), np.zeros(7, np.int64)], ids=["high", "low", "short"])
def test_codes_that_are_no_image_are_refused(codes):
    with pytest.raises(ValueError, match="code"):
        _tokenizer(GREY).decode([codes])


def test_a_size_that_the_patch_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="patch_size"):
        replace(GREY, image_height=7)


def test_training_data_counts_codes():
    batch, _ = image_data(_images(COLOUR, 3), COLOUR, seed=0).batch({}, 3, 0, 1)
    assert (batch.values.shape, int(batch.num_tokens)) == ((3, 8, 4, 3), 24)


def test_a_renamed_layer_leaves_the_other_weights_as_they_were():
    deeper = replace(GREY, num_encoder_layers=2)
    first, second = FsqImageAutoencoder(GREY), FsqImageAutoencoder(deeper)
    initialize(first, 3)
    initialize(second, 3)
    assert torch.equal(first.encoder[2].mix.weight, second.encoder[2].mix.weight)
