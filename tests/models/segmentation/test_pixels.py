import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cgeartheye.models.segmentation import LightDecoder
from cgeartheye.models.segmentation.pixels import CHANNELS, SIDE, PixelMap

STRIDE = 14


def features_and_pixels(images: Tensor, known: Tensor) -> list[Tensor]:
    """A map that tells something of each cell, and that of the pixels."""
    return [F.pad(known, (0, 0, 0, 0, 0, CHANNELS - known.shape[1])), laid_out(images)]


def laid_out(images: Tensor) -> Tensor:
    return PixelMap(STRIDE, CHANNELS)(images)


@pytest.mark.parametrize("stride", [8, 14, 16, 32])
def test_each_value_is_the_mean_of_its_part_of_a_cell(stride: int) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 2 * stride, 3 * stride)
    found = PixelMap(stride, 200)(images)
    assert found.shape == (2, 200, 2, 3)
    fine = images.repeat_interleave(SIDE, 2).repeat_interleave(SIDE, 3)
    expected = F.avg_pool2d(fine, stride)
    torch.testing.assert_close(F.pixel_shuffle(found[:, :CHANNELS], SIDE), expected)
    assert (found[:, CHANNELS:] == 0).all()


def test_a_stride_of_eight_keeps_the_image() -> None:
    images = torch.randn(1, 3, 16, 24)
    assert torch.equal(F.pixel_shuffle(PixelMap(8, CHANNELS)(images), 8), images)


def test_edges_are_found_that_the_features_do_not_tell() -> None:
    """The features tell which of two colours is the thing; the pixels, where it is."""
    torch.manual_seed(0)
    place = torch.rand(16, 1, 70, 70)
    blobs = F.avg_pool2d(place, 9, 1, 4, count_include_pad=False)
    truth = (blobs > blobs.flatten(1).median(1)[0][:, None, None, None]).long()
    swapped = torch.randint(0, 2, (16, 1, 1, 1))
    images = (truth ^ swapped).float().expand(-1, 3, -1, -1) + 0.1 * torch.randn(16, 3, 70, 70)
    given = features_and_pixels(images, swapped.float().expand(-1, 1, 5, 5))
    shares = {}
    for pixels in (False, True):
        torch.manual_seed(0)
        decoder = LightDecoder(CHANNELS, 1, 2, 32, pixels)
        optimizer = torch.optim.AdamW(decoder.parameters(), 1e-2)
        for _ in range(120):
            loss = F.cross_entropy(decoder(given[: 1 + pixels], (70, 70)), truth[:, 0])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        predicted = decoder.eval()(given[: 1 + pixels], (70, 70)).argmax(1)
        shares[pixels] = (predicted == truth[:, 0]).float().mean()
    assert shares[False] < 0.6
    assert shares[True] > 0.85


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    given = features_and_pixels(torch.randn(2, 3, 42, 42), torch.randn(2, 8, 3, 3))
    decoder = LightDecoder(CHANNELS, 1, 3, 16, pixels=True)
    decoder(given, (42, 42)).square().sum().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
