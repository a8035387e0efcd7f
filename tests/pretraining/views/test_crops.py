import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from cgeartheye.config import Normalization
from cgeartheye.data.transforms.image import Normalize
from cgeartheye.pretraining.views import crops
from cgeartheye.pretraining.views.augment import augment
from cgeartheye.pretraining.views.crops import crop, crop_batch

Box = tuple[int, int, int, int]

# All eight, by torch's rotation and flip.
SYMMETRIES = [
    lambda x, k=k, f=f: torch.rot90(x.flip(2) if f else x, k, (1, 2))
    for f in (0, 1)
    for k in range(4)
]


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    """Random pixels, laid out as decoders do: the bands of a pixel together."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8)
    return pixels.permute(2, 0, 1)


def photo(height: int, width: int, seed: int) -> Tensor:
    """Smooth colours with some noise."""
    small = noise(height // 16 + 2, width // 16 + 2, seed)
    rough = noise(height, width, seed).float() - 128
    return (TF.resize(small.float(), [height, width]) + rough / 16).clamp(0, 255).byte()


def in_batch(image: Tensor, box: Box, symmetry: int, size: int, before: int = 0) -> Tensor:
    """`crop_batch` of one crop, with `before` other pixels before the image."""
    top, left, height, width = box
    stride = image.shape[2]
    pixels = torch.cat([noise(1, before)[:, 0].T, image.permute(1, 2, 0).reshape(-1, 3)])
    sources = torch.tensor([[before + top * stride + left, stride, height, width]])
    return crop_batch(pixels, sources, torch.tensor([symmetry]), size)[0]


@st.composite
def cuts(draw: st.DrawFn) -> tuple[Tensor, Box, int]:
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    box_height, box_width = draw(st.integers(1, height)), draw(st.integers(1, width))
    top = draw(st.integers(0, height - box_height))
    left = draw(st.integers(0, width - box_width))
    return noise(height, width), (top, left, box_height, box_width), draw(st.integers(1, 40))


@settings(max_examples=150)
@given(cuts())
def test_one_by_one_equals_torchvision_to_the_bit(cut: tuple[Tensor, Box, int]) -> None:
    image, box, size = cut
    expected = TF.resized_crop(image, *box, [size, size], antialias=True)
    assert torch.equal(crop(image, box, 0, size), expected)


@settings(max_examples=150)
@given(cuts(), st.integers(0, 5))
def test_batched_equals_torchvision_in_floats(cut: tuple[Tensor, Box, int], before: int) -> None:
    image, box, size = cut
    expected = TF.resized_crop(image.float(), *box, [size, size], antialias=True)
    torch.testing.assert_close(in_batch(image, box, 0, size, before), expected, atol=5e-4, rtol=0)


@settings(max_examples=80)
@given(cuts(), st.integers(0, 7))
def test_both_ways_agree(cut: tuple[Tensor, Box, int], symmetry: int) -> None:
    image, box, size = cut
    one, batched = crop(image, box, symmetry, size), in_batch(image, box, symmetry, size)
    assert one.dtype == torch.uint8
    assert (one - batched).abs().max() < 1.6  # bytes are rounded after columns and after rows


def test_both_ways_agree_on_the_whole_of_a_photo() -> None:
    image = photo(150, 150, 0)
    for symmetry in range(8):
        one = crop(image, (10, 20, 100, 120), symmetry, 98)
        difference = one - in_batch(image, (10, 20, 100, 120), symmetry, 98)
        assert difference.abs().max() < 1.6
        assert difference.abs().mean() < 0.4
        assert difference.mean().abs() < 0.02


@pytest.mark.parametrize("make", [crop, in_batch])
def test_symmetries_are_the_eight_of_a_square(make: object) -> None:
    image = noise(5, 5)
    made = [make(image, (0, 0, 5, 5), symmetry, 5).round().byte() for symmetry in range(8)]  # type: ignore[operator]
    assert torch.equal(made[0], image)
    found = [[k for k, turn in enumerate(SYMMETRIES) if torch.equal(turn(image), m)] for m in made]
    assert sorted(found) == [[k] for k in range(8)]


def test_many_crops_of_many_images_in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [noise(40, 50, 1), noise(90, 30, 2), noise(7, 9, 3)]
    pixels = torch.cat([image.permute(1, 2, 0).reshape(-1, 3) for image in images])
    random = np.random.default_rng(0)
    sources, symmetries, expected = [], random.integers(0, 8, 60), []
    for symmetry in symmetries.tolist():
        k = int(random.integers(3))
        _, height, width = images[k].shape
        box_height, box_width = random.integers(1, height + 1), random.integers(1, width + 1)
        top = int(random.integers(height - box_height + 1))
        left = int(random.integers(width - box_width + 1))
        start = sum(image[0].numel() for image in images[:k]) + top * width + left
        sources.append([start, width, box_height, box_width])
        expected.append(crop(images[k], (top, left, box_height, box_width), symmetry, 21))
    given_ = (pixels, torch.tensor(np.array(sources)), torch.from_numpy(symmetries), 21)
    whole = crop_batch(*given_)
    assert (whole - torch.stack(expected)).abs().max() < 1.6
    for at_once in (1, 12_000):  # one a part; three
        monkeypatch.setattr(crops, "_AT_ONCE", at_once)
        torch.testing.assert_close(crop_batch(*given_), whole, atol=1e-3, rtol=0)


def test_no_crops() -> None:
    empty = torch.empty((0, 4), dtype=torch.int64)
    made = crop_batch(noise(2, 2).reshape(-1, 3), empty, empty[:, 0], 14)
    assert made.shape == (0, 3, 14, 14)


# Colour

NEUTRAL = Normalization(mean=(0, 0, 0), std=(255, 255, 255))


def test_jitter_is_torchvisions_in_fixed_order() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand((40, 3, 12, 12), generator=generator) * 255
    factors = torch.rand((40, 3), generator=generator) * 1.4 + 0.3
    expected = []
    for image, (brightness, contrast, saturation) in zip(
        pixels / 255, factors.tolist(), strict=True
    ):
        image = TF.adjust_brightness(image, brightness)
        image = TF.adjust_contrast(image, contrast)
        expected.append(TF.adjust_saturation(image, saturation))
    got = augment(pixels, factors, NEUTRAL)
    torch.testing.assert_close(got, torch.stack(expected), atol=1e-5, rtol=0)


def test_factors_of_one_only_normalise() -> None:
    normalization = Normalization(mean=(100, 110, 120), std=(40, 50, 60))
    pixels = torch.stack([noise(9, 9, seed) for seed in range(4)])
    before = pixels.clone()
    got = augment(pixels, torch.ones(4, 3), normalization)
    expected = Normalize(normalization.mean, normalization.std)(pixels)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert got.dtype == torch.float32
    assert torch.equal(pixels, before)


def test_bytes_and_floats_are_jittered_alike_and_left_as_they_were() -> None:
    pixels = torch.stack([photo(20, 20, seed) for seed in range(4)])
    factors = torch.tensor([[0.6, 1.4, 0.6], [1.4, 0.6, 1.4], [1.0, 1.0, 0.0], [1.3, 0.0, 1.0]])
    floats = pixels.float()
    got = augment(floats, factors, NEUTRAL)
    assert torch.equal(got, augment(pixels, factors, NEUTRAL))
    assert torch.equal(floats, pixels.float())
    assert torch.allclose(got[2, 0], got[2, 1])  # no saturation: grey
    assert got[3].std(dim=(1, 2)).max() < 1e-6  # no contrast: one colour


def test_no_crops_to_jitter() -> None:
    nothing = torch.empty((0, 3, 14, 14), dtype=torch.uint8)
    assert augment(nothing, torch.ones(0, 3), NEUTRAL).shape == (0, 3, 14, 14)
