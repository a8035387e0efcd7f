"""Images in memory, by the rules of their files."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from cgeartheye.data import read_image
from cgeartheye.data.arrays import images_of, to_image
from cgeartheye.utils.errors import UserError

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (6, 5, 3), dtype=np.uint8)
EXPECTED = torch.from_numpy(RGB).permute(2, 0, 1)


def only(value: object) -> torch.Tensor:
    (image,) = images_of(value)  # type: ignore[arg-type]
    return to_image(image)


@pytest.mark.parametrize(
    "value",
    [RGB, RGB.transpose(2, 0, 1), torch.from_numpy(RGB), EXPECTED, Image.fromarray(RGB), RGB[None]],
)
def test_bands_come_first_or_last(value: object) -> None:
    assert torch.equal(only(value), EXPECTED)


def test_what_may_be_read_both_ways_is_read_as_its_library_has_it() -> None:
    both = RANDOM.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    assert torch.equal(only(both), torch.from_numpy(both).permute(2, 0, 1))
    assert torch.equal(only(torch.from_numpy(both)), torch.from_numpy(both))


def test_several_images_in_one_array() -> None:
    stack = np.stack([RGB, 255 - RGB])
    for value in (stack, torch.from_numpy(stack).permute(0, 3, 1, 2)):
        first, second = (to_image(image) for image in images_of(value))
        assert torch.equal(first, EXPECTED)
        assert torch.equal(second, 255 - EXPECTED)


def test_grey_is_repeated() -> None:
    for value in (RGB[..., 0], RGB[..., :1], Image.fromarray(RGB[..., 0])):
        assert torch.equal(only(value), EXPECTED[:1].expand(3, -1, -1))


def test_16_bits_are_those_of_a_file(tmp_path: Path) -> None:
    deep = RANDOM.integers(200, 9000, (3, 30, 40), dtype=np.uint16)
    profile = {"driver": "GTiff", "height": 30, "width": 40, "count": 3, "dtype": "uint16"}
    with rasterio.open(tmp_path / "a.tif", "w", **profile) as file:
        file.write(deep)
    (image,) = images_of(deep)
    for limits in (None, (1000.0, 5000.0)):
        expected = read_image(tmp_path / "a.tif", (1, 2, 3), limits)
        assert torch.equal(to_image(image, limits), expected)
        assert torch.equal(to_image(image, None, limits), expected)


def test_floats_are_0_to_1_and_nan_is_0() -> None:
    image = RGB / np.float32(255)
    assert torch.equal(to_image(image, None, (0, 9)), EXPECTED)
    image[0, 0] = np.nan
    assert to_image(image)[:, 0, 0].tolist() == [0, 0, 0]
    assert torch.equal(to_image(RGB * 10.0, (0, 2550)), EXPECTED)


def test_what_is_masked_is_0() -> None:
    masked = np.ma.masked_array(RGB, np.zeros_like(RGB, bool))
    masked[1, 2] = np.ma.masked
    found = only(masked)
    assert found[:, 1, 2].tolist() == [0, 0, 0]
    assert torch.equal(found[:, 2:], EXPECTED[:, 2:])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((8, 8, 4), np.uint8), "is no image"),
        (np.zeros(8, np.uint8), "is no image"),
        (np.zeros((2, 8, 8, 5), np.uint8), "choose three of more bands"),
        (RGB.astype(np.int64), "an image of int64: convert it to uint8"),
        (RGB.astype(np.float32), "in place of 0 to 1"),
        (RGB > 100, "an image of bool"),
    ],
)
def test_mistakes_are_one_sentence(value: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        only(value)
