"""Pictures of any size become the square that a network takes."""

import numpy as np
import pytest

from triptych.models.tokenizers.image.pixels import PixelConfig, normalized, pictures, square

PIXELS = PixelConfig(image_size=8, filter="bicubic", rescale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.5, 0.2, 0.1))
RNG = np.random.default_rng(0)


def test_a_picture_of_the_size_is_not_touched():
    image = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(square(image, PIXELS, 3), image)


@pytest.mark.parametrize("shape", [(8, 20, 3), (20, 8, 3)])
def test_the_middle_is_cut_out(shape):
    image = RNG.integers(0, 256, shape, dtype=np.uint8)
    middle = image[:, 6:14] if shape[1] == 20 else image[6:14]
    np.testing.assert_array_equal(square(image, PIXELS, 3), middle)


@pytest.mark.parametrize("shape", [(1, 1), (3, 300), (301, 7, 3), (64, 48, 3), (9, 8)])
def test_any_size_becomes_the_square(shape):
    assert square(np.full(shape, 77, np.uint8), PIXELS, 3).tolist() == np.full((8, 8, 3), 77).tolist()


def test_grey_becomes_three_equal_channels():
    image = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
    np.testing.assert_array_equal(square(image, PIXELS, 3), np.stack([image] * 3, -1))


def test_colour_becomes_one_channel_where_the_network_has_one():
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 1] = 100
    assert np.unique(square(image, PIXELS, 1)).tolist() == [59]  # 0.587 of green, ITU-R BT.601


def test_shrinking_looks_at_every_pixel():
    image = np.zeros((64, 64), np.uint8)
    image[::2] = 200
    middle = square(image, PIXELS, 3)[2:-2]
    assert np.abs(middle.astype(int) - 100).max() <= 2


def test_normalizing_is_by_channel():
    images_BYXC = np.full((1, 8, 8, 3), 255, np.uint8)
    np.testing.assert_allclose(normalized(images_BYXC, PIXELS)[0, :, 0, 0], [1.0, 3.0, 7.0])


def test_normalizing_is_undone():
    images_BYXC = np.arange(3 * 256, dtype=np.uint8).reshape(4, 8, 8, 3)
    np.testing.assert_array_equal(pictures(normalized(images_BYXC, PIXELS), PIXELS), images_BYXC)


def test_values_out_of_range_are_cut_off():
    images = normalized(np.full((1, 8, 8, 3), 255, np.uint8), PIXELS)
    assert np.unique(pictures(images * 5, PIXELS)).tolist() == [255]


@pytest.mark.parametrize("wrong", [{"image_size": 0}, {"rescale": 0.0}, {"std": (1.0, 0.0, 1.0)}, {"mean": (0.5,)}])
def test_numbers_that_make_no_pixels(wrong):
    fields = {"image_size": 8, "filter": "bicubic", "rescale": 1.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    with pytest.raises(ValueError, match="do not make pixels"):
        PixelConfig(**fields | wrong)
