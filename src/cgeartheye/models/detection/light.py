"""A dense detector on frozen maps, for few labelled images and one modest machine.

Every point of three levels predicts a class and a box, in the manner of FCOS (Tian et al. 2019,
"FCOS: Fully convolutional one-stage object detection"): no anchors and no queries. The score of a
class is at once the quality of the box (Li et al. 2020, "Generalized focal loss"), learnt with the
points that `task_alignment` assigns. Horizontal and oriented boxes differ in their `BoxCoder`
alone. What several points find of one object, non-maximum suppression leaves once.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cgeartheye.models.detection.box_coder import BoxCoder

_PRIOR = 0.01  # chance of a class before anything is learnt (Lin et al. 2017)
_SIDE = 4.0  # cells a side of the box that a point predicts before anything is learnt
_GROUPS = 16  # of the norms


class Points(NamedTuple):
    """The points of all levels, one behind the other, in shares of the image.

    Attributes:
        centers: x and y, `[P, 2]`.
        cells: side of the cell that a point stands for, `[P, 1]`.
    """

    centers: Tensor
    cells: Tensor


class LightDetector(nn.Module):
    """Turns maps of several layers into a class and a box at every point.

    The levels have half, one and two times the stride of the maps (ViTDet, Li et al. 2022, makes
    its pyramid of one map in the same way). Batch norm brings the layers' channels to one scale.
    """

    def __init__(
        self, embed_dim: int, num_maps: int, num_classes: int, coder: BoxCoder, channels: int = 128
    ):
        """Build a detector with random weights.

        Args:
            embed_dim: C, channels of every map.
            num_maps: how many there are.
            num_classes: K.
            coder: of the boxes.
            channels: of every level; a multiple of 16.
        """
        super().__init__()
        assert channels % _GROUPS == 0
        self.coder = coder
        inputs = num_maps * embed_dim
        # Without weights of its own, which the next layer has: no gradient goes to the large maps.
        self.norm = nn.BatchNorm2d(inputs, affine=False)
        # To a level of the maps' own size, and to one of twice that: a transposed convolution, as
        # each patch is turned into four cells by weights of their own.
        self.lateral = nn.Conv2d(inputs, 5 * channels, 1)
        self.coarse = nn.Conv2d(channels, channels, 3, padding=1)
        self.tower = nn.Sequential(*(_Conv(channels) for _ in range(2)))
        self.classify = _last(channels, num_classes, -math.log(1 / _PRIOR - 1))
        self.locate = _last(channels, coder.num_offsets, 0.0)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Points]:
        """Find boxes.

        Args:
            maps: `[B, C, h, w]` each.

        Returns:
            Logits `[B, P, K]` and boxes `[B, P, numbers]` (see `BoxCoder`), float32, and the points
            that predict them.
        """
        x = torch.cat(list(maps), 1).contiguous(memory_format=torch.channels_last)
        levels = [self.tower(level) for level in self._pyramid(self.norm(x))]
        logits = torch.cat([_flat(self.classify(level)) for level in levels], 1)
        offsets = torch.cat([_flat(self.locate(level)) for level in levels], 1)
        points = points_of([(x.shape[2], x.shape[3]) for x in levels], logits.device)
        boxes = self.coder.place(points.centers, _SIDE * points.cells, offsets)
        return logits, boxes, points

    def _pyramid(self, x: Tensor) -> list[Tensor]:
        channels = self.coarse.in_channels
        middle, fine = self.lateral(x).split((channels, 4 * channels), 1)
        half = -(-x.shape[2] // 2), -(-x.shape[3] // 2)
        return [F.pixel_shuffle(fine, 2), middle, self.coarse(F.adaptive_avg_pool2d(middle, half))]


class _Conv(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.gn = nn.GroupNorm(_GROUPS, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.gn(self.conv(x)))


def _last(channels: int, outputs: int, bias: float) -> nn.Conv2d:
    """Make the output layer, whose initial output hardly depends on its input."""
    conv = nn.Conv2d(channels, outputs, 3, padding=1)
    assert conv.bias is not None
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.bias, bias)
    return conv


def points_of(shapes: Sequence[tuple[int, int]], device: torch.device) -> Points:
    """Return the points of levels of some rows and columns."""
    centers, cells = [], []
    for rows, columns in shapes:
        y = (torch.arange(rows, device=device) + 0.5) / rows
        x = (torch.arange(columns, device=device) + 0.5) / columns
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)
        centers.append(grid)
        cells.append(grid.new_full((len(grid), 1), 1 / max(rows, columns)))
    return Points(torch.cat(centers), torch.cat(cells))


def _flat(level: Tensor) -> Tensor:
    """Pixels `[B, C, h, w]` one behind the other, float32 `[B, h * w, C]`."""
    return level.flatten(2).mT.float()
