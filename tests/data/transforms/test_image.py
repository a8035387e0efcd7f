"""Views: the test's against Pillow, the training's by what they show of a ramp."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy.stats import chisquare, kstest
from torchvision import tv_tensors

from cgeartheye.data.transforms.image import (
    Normalize,
    PhotometricDistortion,
    RandomWindow,
    dense_transform,
    eval_transform,
    seeded,
    train_transform,
)


@given(
    height=st.integers(20, 90),
    width=st.integers(20, 90),
    image_size=st.integers(14, 56),
    margin=st.integers(0, 8),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_the_test_view_is_pillows_resize_and_the_central_square(
    height, width, image_size, margin, seed
):
    # Away from 0 and 255, where the two clip what overshoots at different times.
    pixels = np.random.default_rng(seed).integers(80, 176, (height, width, 3), dtype=np.uint8)
    resize_to = image_size + margin

    view = eval_transform(image_size, resize_to)(
        tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
    )

    # The long side is cut to whole pixels, as in torchvision and mmpretrain.
    size = [resize_to * side // min(height, width) for side in (width, height)]
    resized = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    top, left = (round((side - image_size) / 2) for side in resized.shape[:2])
    expected = resized[top : top + image_size, left : left + image_size].transpose(2, 0, 1)
    assert view.dtype == torch.uint8
    assert view.shape == (3, image_size, image_size)
    # Each of the two passes, along the rows and along the columns, may round differently.
    assert np.abs(view.numpy().astype(int) - expected).max() <= 2


def test_training_crops_cover_the_share_asked_for_and_half_are_mirrored():
    side = 256
    ramp = torch.arange(side, dtype=torch.uint8)
    image = tv_tensors.Image(
        torch.stack(
            [ramp.expand(side, side), ramp[:, None].expand(side, side), ramp.expand(side, side)]
        )
    )
    transform = train_transform(64, (0.2, 0.6))
    areas, ratios, mirrored = [], [], []
    for seed in range(200):
        torch.manual_seed(seed)
        view = transform(image).float()
        # A pixel of the view is worth the same number of pixels of the crop everywhere.
        across, down = view[0].mean(0), view[1].mean(1)
        width, height = ((line[48] - line[16]).abs().item() * 2 for line in (across, down))
        areas.append(width * height / side**2)
        ratios.append(width / height)
        mirrored.append(bool(across[0] > across[-1]))
    assert min(areas) == pytest.approx(0.2, abs=0.02)
    assert max(areas) == pytest.approx(0.6, abs=0.02)
    assert 3 / 4 - 0.05 < min(ratios) < 0.8
    assert 1.25 < max(ratios) < 4 / 3 + 0.05
    assert 70 < sum(mirrored) < 130


# Images with masks


def ramps(height: int, width: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """An image of its own columns and rows, and a mask of its columns by 8."""
    columns = torch.arange(width).expand(height, width)
    rows = torch.arange(height)[:, None].expand(height, width)
    image = torch.stack([columns, rows, torch.full_like(rows, 200)]).to(torch.uint8)
    return tv_tensors.Image(image), tv_tensors.Mask((columns // 8).to(torch.uint8))


@given(
    height=st.integers(3, 250),
    width=st.integers(3, 250),
    size=st.integers(14, 56),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_image_and_mask_go_together_and_the_rest_is_padding(height, width, size, seed):
    transform = dense_transform(size, (0.5, 2.0), 1.0, color_jitter=False)
    with seeded(seed):
        image, mask = transform(*ramps(height, width))
    assert image.shape == (3, size, size)
    assert mask.shape == (size, size)
    assert image.dtype == mask.dtype == torch.uint8
    padding = mask == 255
    assert torch.equal(padding, (image == 0).all(dim=0))
    column, step = image[0][~padding].float(), mask[~padding].float()
    # Half a pixel of the image either side, half of the crop's, and rounding.
    assert ((column - (8 * step + 3.5)).abs() <= 3.5 + 0.5 + 1.0 + 0.5).all()
    # What is no padding is a rectangle, whole where the image fits in the crop.
    across, down = (~padding).any(dim=0).sum(), (~padding).any(dim=1).sum()
    assert across * down == len(column)


def test_windows_are_those_of_a_whole_resize_and_crop():
    window = RandomWindow(40, (0.5, 2.0), 1.0)
    image, mask = ramps(240, 240)
    factors, across, down = [], [], []
    for seed in range(600):
        with seeded(seed):
            view, _ = window(image, mask)
        assert view.shape == (3, 40, 40)
        columns, rows = view[0, 20].float(), view[1, :, 20].float()
        # The ends of the ramp are bent where the window's edge repeats.
        factor = 1 / float((columns[35] - columns[5]) / 30)
        factors.append(factor)
        extent = 40 / factor
        across.append((float(columns.mean()) + 0.5 - extent / 2) / (240 - extent))
        down.append((float(rows.mean()) + 0.5 - extent / 2) / (240 - extent))
    assert kstest(factors, "uniform", (0.5, 1.5)).pvalue > 0.01
    assert kstest(across, "uniform").pvalue > 0.01
    assert kstest(down, "uniform").pvalue > 0.01


def test_all_eight_symmetries_are_equally_likely():
    transform = dense_transform(9, (1.0, 1.0), 1.0, color_jitter=False)
    image, mask = ramps(9, 9)
    turned = [image.rot90(k, (1, 2)) for k in range(4)]
    symmetries = [*turned, *(view.flip(2) for view in turned)]
    counts = [0] * 8
    for seed in range(800):
        with seeded(seed):
            view = transform(image, mask)[0]
        counts[next(n for n, one in enumerate(symmetries) if torch.equal(view, one))] += 1
    assert chisquare(counts).pvalue > 0.01


def test_crops_of_one_class_are_drawn_again():
    """Ten draws, each as good as a share of all windows: how often one of them is kept."""
    labels = torch.zeros(60, 60, dtype=torch.uint8)
    labels[:22, :22] = 1
    labels[50:] = 255  # counts for nothing
    image = tv_tensors.Image(torch.zeros(3, 60, 60, dtype=torch.uint8))
    windows = labels.unfold(0, 20, 1).unfold(1, 20, 1).flatten(0, 1).flatten(1)
    ones, zeros = (windows == 1).sum(1), (windows == 0).sum(1)
    good = float((torch.maximum(ones, zeros) <= 0.75 * (ones + zeros)).float().mean())
    assert 0.02 < good < 0.3

    window = RandomWindow(20, (1.0, 1.0), 0.75)
    kept = 0
    for seed in range(500):
        with seeded(seed):
            counts = torch.bincount(
                window(image, tv_tensors.Mask(labels))[1].flatten(), minlength=2
            )
        kept += bool(counts[:2].max() <= 0.75 * counts[:2].sum())
    expected = 1 - (1 - good) ** 10
    assert kept / 500 == pytest.approx(expected, abs=3 * (expected * (1 - expected) / 500) ** 0.5)


def test_a_crop_without_labels_is_drawn_again():
    labels = torch.full((60, 60), 255, dtype=torch.uint8)
    labels[:, 20:] = 1
    image = tv_tensors.Image(torch.zeros(3, 60, 60, dtype=torch.uint8))
    window = RandomWindow(10, (1.0, 1.0), 1.0)
    for seed in range(50):
        with seeded(seed):
            assert (window(image, tv_tensors.Mask(labels))[1] == 1).any()


def distort_by_hand(pixels: np.ndarray) -> np.ndarray:
    """mmsegmentation's distortion by matplotlib's HSV, with the same draws."""

    def draw(low: float, high: float) -> float:
        return float(torch.empty(()).uniform_(low, high))

    lighter, contrast, colored, turned, contrast_first = (torch.rand(5) < 0.5).tolist()
    gain = draw(0.5, 1.5) if contrast else 1.0
    shift = draw(-32, 32) if lighter else 0.0
    pixels = np.clip(pixels + shift, 0, 255)
    if contrast_first:
        pixels = np.clip(pixels * gain, 0, 255)
    hsv = rgb_to_hsv(pixels / 255)
    if colored:
        hsv[..., 1] = np.clip(hsv[..., 1] * draw(0.5, 1.5), 0, 1)
    if turned:
        hsv[..., 0] = (hsv[..., 0] + draw(-0.1, 0.1)) % 1
    pixels = hsv_to_rgb(hsv) * 255
    return pixels if contrast_first else np.clip(pixels * gain, 0, 255)


def test_photometric_distortion_is_mmsegmentations():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    pixels[:2] = np.array([[0], [255]])[..., None]  # black and white have no colour
    image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
    mask = tv_tensors.Mask(torch.from_numpy(pixels[..., 0]))
    distort, unchanged = PhotometricDistortion(), 0
    for seed in range(200):
        with seeded(seed):
            view, same = distort(image, mask)
        with seeded(seed):
            expected = distort_by_hand(pixels.astype(np.float64))
        assert torch.equal(same, mask)
        assert view.dtype == torch.uint8
        assert isinstance(view, tv_tensors.Image)
        assert np.abs(view.permute(1, 2, 0).numpy() - expected).max() <= 0.51
        unchanged += torch.equal(view, image)
    assert 4 <= unchanged <= 24  # one in 16


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalise(dtype):
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8).to(dtype)
    normalized = Normalize(mean, std)(images)
    expected = (images.numpy().astype(np.float64) - np.reshape(mean, (3, 1, 1))) / np.reshape(
        std, (3, 1, 1)
    )
    assert normalized.dtype == torch.float32
    np.testing.assert_allclose(normalized.numpy(), expected, atol=1e-5)


def test_normalise_goes_along_to_a_device_but_not_into_the_weights():
    module = Normalize((1.0, 2.0, 3.0), (1.0, 1.0, 1.0)).to("meta")
    assert module.mean.device.type == "meta"
    assert not module.state_dict()
