"""Codecs that travel refuse what the tokenizers refuse."""

import numpy as np
import pytest

from triptych.models.hugging_face.codecs_triptych import FsqImageCodec

CONFIG = {
    "hidden_size": 4,
    "patch_size": 2,
    "num_channels": 1,
    "levels": [3, 3],
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "image_height": 4,
    "image_width": 8,
}


@pytest.fixture
def codec():
    return FsqImageCodec(CONFIG).double().eval()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 4), np.uint8),  # as many pixels, in other rows
        np.zeros((4, 8, 3), np.uint8),
        np.zeros((4, 8), np.float32),  # of another scale
    ],
)
def test_an_image_of_another_kind_is_refused(codec, image):
    with pytest.raises(ValueError, match=r"takes uint8 \[4, 8\]; convert it first"):
        codec.encode(image)


@pytest.mark.parametrize("num_codes", [0, 4, 7])
def test_another_number_of_codes_is_refused(codec, num_codes):
    with pytest.raises(ValueError, match=f"{num_codes} codes, not 8; cut or fill"):
        codec.decode([0] * num_codes)


def test_what_fits_comes_back_in_its_size(codec):
    codes = codec.encode(np.zeros((4, 8), np.uint8))
    assert codes.shape == (8,) and codec.decode(codes).shape == (4, 8)
