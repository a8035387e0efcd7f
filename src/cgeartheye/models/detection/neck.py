"""A pyramid of levels out of maps that all have the size of a ViT's grid."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

SCALES = (2.0, 1.0, 0.5)  # of the three maps, from the lowest layer to the highest
LEVELS = len(SCALES) + 1
_GROUPS = 32  # of the norms


class ChannelMapper(nn.Module):
    """Maps the channels of each map, resizes it, and makes one more level of half the smallest.

    The published neck resizes first. Mapping is linear in the channels and resizing in the pixels,
    so their order is free, and this one has a sixth of the work. Module names are mmdetection's.
    """

    def __init__(self, embed_dim: int, channels: int):
        """Build with random weights.

        Args:
            embed_dim: channels of every map.
            channels: C, of every level.
        """
        super().__init__()
        self.convs = nn.ModuleList(_Conv(embed_dim, channels, 1) for _ in SCALES)
        self.extra_convs = nn.ModuleList([_Conv(embed_dim, channels, 3, stride=2)])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map three `[B, embed_dim, h, w]` to four levels `[B, C, rows, columns]`."""
        levels = []
        for x, scale, mapper in zip(maps, SCALES, self.convs, strict=True):
            levels.append(mapper(x, scale))
        return [*levels, self.extra_convs[0](_resize(maps[-1], SCALES[-1]))]


class _Conv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        # Of two channels at least: the smallest level may be one pixel, a group's only one else.
        most = min(_GROUPS, max(1, outputs // 2))
        groups = next(n for n in range(most, 0, -1) if outputs % n == 0)
        self.gn = nn.GroupNorm(groups, outputs)
        nn.init.xavier_uniform_(self.conv.weight)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        out: Tensor = self.gn(_resize(self.conv(x), scale))
        return out


def _resize(x: Tensor, scale: float) -> Tensor:
    return x if scale == 1 else F.interpolate(x, scale_factor=scale, mode="bilinear")
