import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFilter
from scipy import ndimage

from cgeartheye.jlssd.quality.measures import MEASURES, luminance, measure


def picture(side: int = 128, seed: int = 0) -> np.ndarray:
    """Fields, a road and noise."""
    random = np.random.default_rng(seed)
    coarse = random.integers(40, 170, (side // 16, side // 16, 3))
    pixels = np.kron(coarse, np.ones((16, 16, 1)))
    pixels[:, side // 3 : side // 3 + 5] = 120
    return (pixels + random.normal(0, 6, pixels.shape)).clip(0, 255).astype(np.uint8)


def everywhere(pixels: np.ndarray) -> np.ndarray:
    return np.ones(pixels.shape[:2], bool)


def measured(pixels: np.ndarray) -> dict[str, float]:
    return measure(pixels, everywhere(pixels))


def blur_effect(light: np.ndarray, valid: np.ndarray) -> float:
    """Crete et al. 2007 as written, with the mean computed."""
    blurs = []
    for axis in (0, 1):
        image = light.astype(float)
        smooth = ndimage.uniform_filter1d(image, 9, axis=axis)
        step, of_smooth = np.abs(np.diff(image, axis=axis)), np.abs(np.diff(smooth, axis=axis))
        inner = [slice(None), slice(None)]
        inner[axis] = slice(4, -4)
        # A step counts where all ten pixels that contribute to it are valid.
        whole = ndimage.minimum_filter1d(valid.astype(int), 10, axis=axis, origin=-1) > 0
        counted = whole.take(range(step.shape[axis]), axis)[tuple(inner)]
        lost = np.maximum(0, step - of_smooth)[tuple(inner)][counted].sum()
        blurs.append(1 - lost / step[tuple(inner)][counted].sum())
    return max(blurs)


def test_sharpness_is_one_minus_the_blur_effect() -> None:
    pixels = picture()
    valid = everywhere(pixels)
    expected = 1 - blur_effect(luminance(pixels), valid)
    assert measure(pixels, valid)["sharpness"] == pytest.approx(expected, abs=1e-12)


def test_sharpness_with_holes() -> None:
    pixels, valid = picture(), everywhere(picture())
    valid[30:70, 50:60] = False
    expected = 1 - blur_effect(luminance(pixels), valid)
    assert measure(pixels, valid)["sharpness"] == pytest.approx(expected, abs=1e-12)
    spoilt = pixels.copy()
    spoilt[~valid] = 255
    assert measure(spoilt, valid) == measure(pixels, valid)


@pytest.mark.parametrize("radius", [1, 2, 4])
def test_blur_lowers_sharpness(radius: int) -> None:
    blurred = [
        np.asarray(Image.fromarray(picture()).filter(ImageFilter.GaussianBlur(r)))
        for r in (0, radius / 2, radius)
    ]
    values = [measured(pixels)["sharpness"] for pixels in blurred]
    assert values[0] > values[1] > values[2]


def test_sharpness_does_not_depend_on_contrast() -> None:
    pixels = picture()
    faint = (pixels // 2 + 60).astype(np.uint8)
    assert measured(faint)["sharpness"] == pytest.approx(measured(pixels)["sharpness"], abs=0.02)


def test_shares_are_counted() -> None:
    pixels = picture(160)
    pixels[:10, :, 1] = 255
    pixels[10:15] = 254
    pixels[15:20] = 253
    valid = everywhere(pixels)
    valid[-32:] = False
    pixels[-32:] = 255
    figures = measure(pixels, valid)
    assert figures["nodata"] == pytest.approx(0.2)
    assert figures["saturated"] == pytest.approx(15 / 128)


def test_contrast_and_entropy_of_known_pictures() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, ::2] = 200
    figures = measured(pixels)
    assert figures["contrast"] == pytest.approx(100 / 255)
    assert figures["entropy"] == pytest.approx(1.0)
    levels = np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8, 1), 3, 2).repeat(8, 0)
    assert measured(levels.repeat(8, 1))["entropy"] == pytest.approx(6.0)


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
    st.integers(0, 2**16),
)
def test_ranges(pixels: np.ndarray, seed: int) -> None:
    valid = np.random.default_rng(seed).random(pixels.shape[:2]) < 0.7
    figures = measure(pixels, valid)
    assert tuple(figures) == MEASURES
    assert figures["nodata"] == pytest.approx(1 - valid.mean())
    if not valid.any():
        assert all(math.isnan(figures[name]) for name in MEASURES[1:])
        return
    light = luminance(pixels)[valid].astype(float)
    assert figures["contrast"] == pytest.approx(light.std() / 255, abs=1e-9)
    for name, value in figures.items():
        assert 0 <= value <= (8 if name == "entropy" else 1) + 1e-6, (name, value)


def test_luminance_is_pillows() -> None:
    pixels = picture()
    expected = np.asarray(Image.fromarray(pixels).convert("L")).astype(int)
    assert np.abs(luminance(pixels).astype(int) - expected).max() <= 1


def test_constant_chip() -> None:
    figures = measured(np.full((64, 64, 3), 90, np.uint8))
    assert (figures["sharpness"], figures["contrast"], figures["entropy"]) == (0, 0, 0)


def with_cloud(pixels: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A white disc with soft edges and a little texture; and where it covers the ground."""
    side = len(pixels)
    y, x = np.mgrid[:side, :side]
    cover = np.clip((radius - np.hypot(y - side / 2, x - side / 2)) / 8 + 1, 0, 1)
    white = 225 + 8 * np.sin(x / 9)[..., None] * np.ones(3)
    mixed = pixels * (1 - cover[..., None]) + white * cover[..., None]
    return mixed.astype(np.uint8), cover > 0.5


def test_cloud_is_about_what_is_covered() -> None:
    pixels = picture(320)
    assert measured(pixels)["cloud"] == 0
    clouded, cover = with_cloud(pixels, 90)
    assert measured(clouded)["cloud"] == pytest.approx(cover.mean(), abs=0.06)
    whole = np.full((256, 256, 3), 230, np.uint8)
    assert measured(whole)["cloud"] == pytest.approx(1)


def test_roofs_roads_and_sand_are_no_cloud() -> None:
    pixels = picture(320)
    pixels[40:80, 40:200] = 235  # a white roof of 30 x 120 m
    pixels[200:300, 20:300] = (225, 200, 160)  # sand
    assert measured(pixels)["cloud"] == 0


def test_haze_grows_with_the_veil() -> None:
    pixels = picture(256)
    values = [
        measured((pixels * t + 225 * (1 - t)).astype(np.uint8))["haze"] for t in (1, 0.7, 0.4, 0.2)
    ]
    assert values == sorted(values)
    # The veil alone gives 225 (1 - t); what is dark below it adds little.
    assert values[-1] == pytest.approx(225 * 0.8 / 255, abs=0.05)


def test_bright_ground_with_shadows_is_not_hazy() -> None:
    pixels = np.full((256, 256, 3), 210, np.uint8)
    pixels[::20] = 25
    assert measured(pixels)["haze"] < 0.2
