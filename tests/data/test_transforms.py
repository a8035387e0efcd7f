"""Views: the test's against Pillow, the training's by what they show of a ramp."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors

from cgeartheye.data.transforms import Normalise, eval_transform, train_transform


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


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalise(dtype):
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8).to(dtype)
    normalised = Normalise(mean, std)(images)
    expected = (images.numpy().astype(np.float64) - np.reshape(mean, (3, 1, 1))) / np.reshape(
        std, (3, 1, 1)
    )
    assert normalised.dtype == torch.float32
    np.testing.assert_allclose(normalised.numpy(), expected, atol=1e-5)


def test_normalise_goes_along_to_a_device_but_not_into_the_weights():
    module = Normalise((1.0, 2.0, 3.0), (1.0, 1.0, 1.0)).to("meta")
    assert module.mean.device.type == "meta"
    assert not module.state_dict()
