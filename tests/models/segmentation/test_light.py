import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cgeartheye.models.segmentation import LightDecoder

WIDTH, CLASSES = 6, 5


def maps(count: int, grid: tuple[int, int], images: int = 2) -> list[Tensor]:
    return list(torch.randn(count, images, WIDTH, *grid))


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("grid", [(1, 1), (3, 5)])
@torch.no_grad()
def test_logits_agree_with_the_usual_order_of_operations(count: int, grid: tuple[int, int]) -> None:
    """Resize, then depthwise over pointwise: what is computed first here must not matter."""
    torch.manual_seed(0)
    decoder = LightDecoder(WIDTH, count, CLASSES, channels=16).eval()
    for tensor in decoder.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) - 0.4)
    decoder.norm.running_var.abs_()
    given = maps(count, grid)
    norm = decoder.norm
    x = torch.cat(given, 1)
    x = (x - norm.running_mean[:, None, None]) / (norm.running_var + norm.eps).sqrt()[:, None, None]
    x = x * norm.weight[:, None, None] + norm.bias[:, None, None]
    x = F.gelu(F.conv2d(x, decoder.project.weight, decoder.project.bias))
    for step in decoder.steps:
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = F.conv2d(x, step.pointwise.weight, step.pointwise.bias)
        depthwise = step.depthwise
        x = F.gelu(F.conv2d(x, depthwise.weight, depthwise.bias, padding=1, groups=x.shape[1]))
    x = F.conv2d(x, decoder.classify.weight, decoder.classify.bias)
    size = (14 * grid[0], 14 * grid[1])
    expected = F.interpolate(x, size, mode="bilinear", align_corners=False)
    found = decoder(given, size)
    assert found.shape == (2, CLASSES, *size)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_every_parameter_learns() -> None:
    decoder = LightDecoder(WIDTH, 2, CLASSES, channels=8)
    (logits,) = decoder.training_logits(maps(2, (3, 3)), (42, 42))
    logits.square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in decoder.parameters())


def test_it_learns_a_pattern_finer_than_a_patch() -> None:
    """The patch encodes which of its quarters are of which class."""
    torch.manual_seed(0)
    decoder = LightDecoder(WIDTH, 1, 2, channels=64)
    corners = torch.randint(0, 2, (8, 4, 5, 5)).float()  # of every patch
    given = [torch.cat([corners, torch.ones(8, WIDTH - 4, 5, 5)], 1)]
    truth = F.pixel_shuffle(corners, 2).repeat_interleave(7, 2).repeat_interleave(7, 3)[:, 0].long()
    optimizer = torch.optim.AdamW(decoder.parameters(), 1e-2)
    for _ in range(200):
        loss = F.cross_entropy(decoder(given, (70, 70)), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = (decoder.eval()(given, (70, 70)).argmax(1) == truth).float().mean()
    assert right > 0.93  # a patch of one class only: 0.69


@torch.no_grad()
def test_mixed_precision_still_returns_float32() -> None:
    decoder = LightDecoder(WIDTH, 2, CLASSES, channels=8).eval()
    given = maps(2, (3, 3))
    with torch.autocast("cpu", torch.bfloat16):
        found = decoder(given, (42, 42))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, decoder(given, (42, 42)), atol=2e-2, rtol=0.05)
