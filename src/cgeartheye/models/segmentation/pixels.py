"""The image itself, beside the feature maps of a frozen backbone.

A patch of a plain transformer is one vector: where in it an edge runs, and what is smaller than it,
is hardly told. A small decoder that sees the pixels too, through two convolutions, finds both again
(ViTMatte, Yao et al. 2023, restores details in this way). Pixels are laid out as one more map, so
that they are cached, stacked and cut as features are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 8  # values a side that are kept of a cell: 1.75 pixels each in a patch of 14
CHANNELS = 3 * SIDE**2


class PixelMap(nn.Module):
    """Lays images out as a map of a backbone's grid, in steps of whole cells."""

    shares: Tensor

    def __init__(self, stride: int, channels: int):
        """Build what has nothing to learn.

        Args:
            stride: pixels a side of a cell.
            channels: of the map, 192 at least; what is beyond these is 0.
        """
        super().__init__()
        assert channels >= CHANNELS
        self.stride, self.channels = stride, channels
        # Of each value, the share that each pixel of a row has in it: the mean of an interval.
        row = torch.eye(SIDE).repeat_interleave(stride, 1).unflatten(1, (stride, SIDE)).sum(2)
        square = torch.einsum("ip,jq->ijpq", row, row).flatten(0, 1) / stride**2
        self.register_buffer("shares", square[:, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images `[B, 3, h * stride, w * stride]` to `[B, channels, h, w]`."""
        # A convolution, as all exporters know it; not one of three groups, which OpenVINO gets
        # wrong in int8.
        bands = images.flatten(0, 1)[:, None]
        cells = F.conv2d(bands, self.shares.to(images.dtype), stride=self.stride)
        cells = cells.unflatten(0, (-1, 3)).flatten(1, 2)
        return F.pad(cells, (0, 0, 0, 0, 0, self.channels - CHANNELS))


class PixelStem(nn.Module):
    """Turns the map of pixels into features at a quarter of a cell."""

    def __init__(self, channels: int):
        """Build with random weights.

        Args:
            channels: C, of the features.
        """
        super().__init__()
        # Without a bias, which the norm would undo.
        self.halve = nn.Conv2d(3, channels, 6, stride=2, padding=2, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map what `PixelMap` returns, `[B, 192 or more, h, w]`, to `[B, C, 4 h, 4 w]`."""
        image = F.pixel_shuffle(pixels[:, :CHANNELS], SIDE)
        out: Tensor = self.conv(F.gelu(self.norm(self.halve(image))))
        return out
