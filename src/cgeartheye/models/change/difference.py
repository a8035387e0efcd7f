"""A small decoder of change, for speed: no encoder of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cgeartheye.models.segmentation.light import DETAILS, LightDecoder


class DifferenceDecoder(nn.Module):
    """Turns differences of the maps of two dates into class scores, by a light decoder.

    The pixels of each date go through the same stem, whose results are compared like the maps.
    """

    def __init__(
        self,
        embed_dim: int,
        maps: int,
        classes: int,
        channels: int = 256,
        symmetric: bool = False,
        pixels: bool = False,
    ):
        """Build a decoder with random weights.

        Args:
            embed_dim: C, channels of every map.
            maps: how many there are of each date, of the backbone.
            classes: K.
            channels: at the size of the grid; a multiple of 4.
            symmetric: compare by absolute differences alone: the same answer, to the last bit,
                whichever date comes first. Else the signed ones are seen too: whether something
                came or went.
            pixels: see `LightDecoder`.
        """
        super().__init__()
        sides = 1 if symmetric else 2
        self.symmetric = symmetric
        self.decoder = LightDecoder(embed_dim, maps * sides, classes, channels, pixels)
        self.compare = nn.Conv2d(sides * DETAILS, DETAILS, 1) if pixels else None

    def forward(
        self, before: Sequence[Tensor], after: Sequence[Tensor], size: tuple[int, int]
    ) -> Tensor:
        """Return logits.

        Args:
            before: maps of the first date, `[B, C, h, w]` each.
            after: of the second date.
            size: rows and columns of the result.

        Returns:
            float32 `[B, K, *size]`.
        """
        details, stem = None, self.decoder.stem
        if stem is not None and self.compare is not None:
            (*before, first), (*after, second) = before, after
            seen = self._differences([stem(first)], [stem(second)])
            details = self.compare(torch.cat(seen, dim=1))
        return self.decoder.scores(self._differences(before, after), details, size)

    def _differences(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> list[Tensor]:
        signed = [other - one for one, other in zip(before, after, strict=True)]
        sizes = [torch.abs(difference) for difference in signed]
        return sizes if self.symmetric else [*sizes, *signed]
