"""A small decoder of segmentation, for speed."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cgeartheye.models.segmentation.pixels import PixelStem
from cgeartheye.models.segmentation.upernet import resize_logits

DETAILS = 32  # channels of what the pixels tell


class LightDecoder(nn.Module):
    """Turns feature maps into class scores for every pixel, through maps of a quarter of a patch.

    Batch norm and a linear layer on the concatenated maps are the linear probe of DINOv2 (Oquab et
    al. 2023); two steps of upsampling follow, each of which halves the channels first, so that most
    of the work is done at the size of the grid. The pixels, if they are seen, add to the scores
    what a convolution makes of them and of the upsampled features.
    """

    def __init__(
        self, embed_dim: int, maps: int, classes: int, channels: int = 256, pixels: bool = False
    ):
        """Build a decoder with random weights.

        Args:
            embed_dim: C, channels of every map.
            maps: how many there are of the backbone.
            classes: K.
            channels: at the size of the grid; a multiple of 4.
            pixels: one more map follows these, which `PixelMap` made of the images.
        """
        super().__init__()
        assert channels % 4 == 0
        self.norm = nn.BatchNorm2d(maps * embed_dim)
        self.project = nn.Conv2d(maps * embed_dim, channels, 1)
        self.steps = nn.Sequential(
            Upsampling(channels, channels // 2), Upsampling(channels // 2, channels // 4)
        )
        self.classify = nn.Conv2d(channels // 4, classes, 1)
        self.refine = Refinement(channels // 4, classes) if pixels else None

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Return logits.

        Args:
            maps: `[B, C, h, w]` each.
            size: rows and columns of the result.

        Returns:
            float32 `[B, K, *size]`.
        """
        features = list(maps)
        pixels = features.pop() if self.refine else None
        x = self.project(self.norm(torch.cat(features, dim=1)))
        x = self.steps(F.gelu(x))
        logits = self.classify(x)
        if self.refine:
            logits = logits + self.refine(x, pixels)
        return resize_logits(logits, size)

    def training_logits(self, maps: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Return the logits that the loss is taken of; see `UPerNet`."""
        return [self(maps, size)]


class Upsampling(nn.Module):
    """Doubles the size: a depthwise-separable convolution, its pointwise half before the resize."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.pointwise = nn.Conv2d(inputs, outputs, 1)
        self.depthwise = nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, inputs, h, w]` to `[B, outputs, 2h, 2w]`."""
        # Both are linear and work on other axes, so their order is free: the small map is cheaper.
        x = F.interpolate(self.pointwise(x), scale_factor=2.0, mode="bilinear")
        return F.gelu(self.depthwise(x))


class Refinement(nn.Module):
    """Makes class scores of upsampled features and of the pixels."""

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.stem = PixelStem(DETAILS)
        self.conv = nn.Conv2d(inputs + DETAILS, DETAILS, 3, padding=1)
        self.classify = nn.Conv2d(DETAILS, classes, 1)

    def forward(self, x: Tensor, pixels: Tensor) -> Tensor:
        """Map features `[B, inputs, 4 h, 4 w]` and pixels `[B, C, h, w]` to `[B, K, 4 h, 4 w]`."""
        out: Tensor = self.classify(F.gelu(self.conv(torch.cat([x, self.stem(pixels)], dim=1))))
        return out
