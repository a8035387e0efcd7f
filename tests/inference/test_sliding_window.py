from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from cgeartheye.inference.sliding_window import slide
from cgeartheye.utils.errors import UserError

SIDE = 12


def image(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def by_pixel(windows: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits that depend on a pixel's own colour only: windows must not matter."""
    assert tuple(windows.shape[-2:]) == size == (SIDE, SIDE)
    return windows.float() / 50


class Recorder:
    """Logits that depend on everything: on the window's pixels and on the place within it.

    Attributes:
        batches: windows of each call.
    """

    def __init__(self) -> None:
        self.batches: list[Tensor] = []

    def __call__(self, windows: Tensor, size: tuple[int, int]) -> Tensor:
        self.batches.append(windows)
        return disturbed(windows, size)


def disturbed(windows: Tensor, size: tuple[int, int]) -> Tensor:
    x = F.interpolate(windows.float(), size, mode="bilinear") / 50
    ramp = torch.linspace(0, 2, size[0])
    return x + x.mean((2, 3), keepdim=True) * (ramp[:, None] - ramp * 0.3)


def blended(pixels: Tensor, overlap: float, network: Callable[..., Tensor] = disturbed) -> Tensor:
    """The same by its definition, one window and one pixel after the other, in numpy."""
    _, height, width = pixels.shape
    stride = max(1, int(SIDE * (1 - overlap)))

    def along(length: int) -> list[int]:
        count = -(-max(0, length - SIDE) // stride) + 1
        return [round(x) for x in np.linspace(0, max(0, length - SIDE), count)]

    def weight(place: int) -> float:
        ramp = max(1, int(SIDE * overlap))
        return np.sin(np.pi / 2 * min(1, (min(place, SIDE - 1 - place) + 0.5) / ramp)) ** 2

    wide = np.pad(
        pixels.numpy(), ((0, 0), (0, max(0, SIDE - height)), (0, max(0, SIDE - width))), "symmetric"
    )
    sums, weights = np.zeros((3, *wide.shape[1:])), np.zeros(wide.shape[1:])
    for top in along(height):
        for left in along(width):
            window = torch.from_numpy(wide[None, :, top : top + SIDE, left : left + SIDE])
            seen = network(window, (SIDE, SIDE))[0].double().softmax(0).numpy()
            for row in range(SIDE):
                for column in range(SIDE):
                    w = weight(row) * weight(column) if overlap else 1.0
                    sums[:, top + row, left + column] += w * seen[:, row, column]
                    weights[top + row, left + column] += w
    return torch.from_numpy((sums / weights)[:, :height, :width]).float()


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    overlap=st.sampled_from([0.0, 0.25, 1 / 3, 0.75]),
    flips=st.booleans(),
)
def test_windows_do_not_show_where_they_do_not_matter(
    height: int, width: int, overlap: float, flips: bool
) -> None:
    pixels = image(height, width)
    (found,) = slide([pixels], by_pixel, SIDE, overlap, 5, flips)
    assert found.shape == (3, height, width)
    torch.testing.assert_close(found, (pixels.float() / 50).softmax(0), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("overlap", [0.0, 1 / 3, 0.6])
@pytest.mark.parametrize("shape", [(30, 23), (12, 12), (9, 31), (5, 3)])
def test_blending_agrees_with_its_definition(shape: tuple[int, int], overlap: float) -> None:
    pixels = image(*shape)
    (found,) = slide([pixels], disturbed, SIDE, overlap, 4)
    torch.testing.assert_close(found, blended(pixels, overlap), atol=1e-5, rtol=1e-4)


@settings(max_examples=15, deadline=None)
@given(
    batch_size=st.integers(1, 30),
    shapes=st.lists(st.tuples(st.integers(4, 30), st.integers(4, 30)), max_size=4),
    flips=st.booleans(),
)
def test_neither_batches_nor_other_images_show(
    batch_size: int, shapes: list[tuple[int, int]], flips: bool
) -> None:
    given_images = [image(*shape, seed) for seed, shape in enumerate(shapes)]
    together = list(slide(given_images, disturbed, SIDE, 0.4, batch_size, flips))
    assert len(together) == len(shapes)
    for pixels, found in zip(given_images, together, strict=True):
        (alone,) = slide([pixels], disturbed, SIDE, 0.4, 3, flips)
        torch.testing.assert_close(found, alone, atol=1e-6, rtol=1e-5)


def test_batches_are_full_across_images() -> None:
    recorder = Recorder()
    shapes = [(12, 12), (20, 12), (28, 28), (3, 3)]  # 1 + 2 + 9 + 1 windows
    list(slide([image(*s) for s in shapes], recorder, SIDE, 1 / 3, 4))
    assert [len(windows) for windows in recorder.batches] == [4, 4, 4, 1]
    assert {windows.dtype for windows in recorder.batches} == {torch.uint8}


def test_images_are_finished_before_all_are_read() -> None:
    read = []

    def images() -> Iterator[Tensor]:
        for seed in range(6):
            read.append(seed)
            yield image(20, 20, seed)  # 4 windows

    results = slide(images(), disturbed, SIDE, 1 / 3, 4)
    next(results)
    assert len(read) <= 2
    assert len(list(results)) == 5


def test_flips_are_averaged() -> None:
    pixels = image(12, 30)
    (found,) = slide([pixels], disturbed, SIDE, 1 / 3, 2, flips=True)
    parts = []
    for axes in ([], [-1], [-2], [-2, -1]):

        def seen(windows: Tensor, size: tuple[int, int], axes: list[int] = axes) -> Tensor:
            # Its softmax is that of the flipped window, flipped back.
            return disturbed(windows.flip(axes), size).flip(axes)

        parts.append(blended(pixels, 1 / 3, seen))
    torch.testing.assert_close(found, torch.stack(parts).mean(0), atol=1e-5, rtol=1e-4)


def test_flips_make_the_prediction_of_a_flipped_image_the_flipped_prediction() -> None:
    pixels = image(20, 28)
    (found,) = slide([pixels], disturbed, SIDE, 1 / 3, 8, flips=True)
    (mirrored,) = slide([pixels.flip(-1)], disturbed, SIDE, 1 / 3, 8, flips=True)
    torch.testing.assert_close(mirrored.flip(-1), found, atol=1e-6, rtol=1e-5)
    (plain,) = slide([pixels], disturbed, SIDE, 1 / 3, 8)
    assert (plain - found).abs().max() > 0.05


def test_scales_see_windows_of_other_sizes() -> None:
    seen = []

    def network(windows: Tensor, size: tuple[int, int]) -> Tensor:
        seen.append((tuple(windows.shape[-2:]), size))
        # The prediction of a pixel is its mean colour, whatever the scale.
        return F.interpolate(windows.float(), size, mode="bilinear", antialias=True) / 50

    rows, columns = torch.meshgrid(torch.arange(30), torch.arange(26), indexing="ij")
    smooth = torch.stack([8 * rows, 9 * columns, 100 + 2 * rows]).to(torch.uint8)
    (found,) = slide([smooth], network, SIDE, 1 / 3, 3, scales=(1, 2, 0.5))
    assert set(seen) == {((SIDE, SIDE), (size, size)) for size in (12, 6, 24)}
    expected = (smooth.float() / 50).softmax(0)
    inner = (slice(None), slice(3, -3), slice(3, -3))
    torch.testing.assert_close(found[inner], expected[inner], atol=0.02, rtol=0)
    torch.testing.assert_close(found.sum(0), torch.ones(30, 26))


def test_each_scale_weighs_the_same() -> None:
    pixels = image(30, 26)
    both, one, two = (
        next(slide([pixels], disturbed, SIDE, 1 / 3, 4, scales=scales))
        for scales in ([1.0, 2.0], [1.0], [2.0])
    )
    torch.testing.assert_close(both, (one + two) / 2, atol=1e-6, rtol=1e-5)


def test_a_window_that_is_wrong_at_its_edge_leaves_no_seam() -> None:
    """Windows disagree by a whole class along their edges; the map must not jump there."""

    def network(windows: Tensor, size: tuple[int, int]) -> Tensor:
        ramp = torch.linspace(-4, 4, size[1]).expand(len(windows), 1, *size)
        return torch.cat([ramp, -ramp], 1)

    jumps = []
    for overlap in (0.0, 0.5):
        (found,) = slide([image(64, 192)], network, 64, overlap, 4)
        jumps.append(found[0].diff(dim=1).abs().max().item())
    assert jumps[0] > 0.9
    assert jumps[1] < 0.08


def test_predictions_that_are_not_finite_are_an_error() -> None:
    def diverged(windows: Tensor, size: tuple[int, int]) -> Tensor:
        logits = disturbed(windows, size)
        logits[-1, 1, 2, 3] = torch.nan
        return logits

    with pytest.raises(UserError, match="diverged"):
        list(slide([image(20, 20)], diverged, SIDE, 1 / 3, 2))
