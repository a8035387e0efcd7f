"""A small decoder of change, for speed: no encoder of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cgeartheye.models.segmentation.light import LightDecoder


class DifferenceDecoder(nn.Module):
    """Turns differences of the maps of two dates into class scores, by a light decoder."""

    def __init__(
        self, embed_dim: int, maps: int, classes: int, channels: int = 256, symmetric: bool = False
    ):
        """Build a decoder with random weights.

        Args:
            embed_dim: C, channels of every map.
            maps: how many there are of each date.
            classes: K.
            channels: at the size of the grid; a multiple of 4.
            symmetric: compare by absolute differences alone: the same answer, to the last bit,
                whichever date comes first. Else the signed ones are seen too: whether something
                came or went.
        """
        super().__init__()
        self.symmetric = symmetric
        self.decoder = LightDecoder(embed_dim, maps * (1 if symmetric else 2), classes, channels)

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
        signed = [other - one for one, other in zip(before, after, strict=True)]
        sizes = [torch.abs(difference) for difference in signed]
        return self.decoder(sizes if self.symmetric else [*sizes, *signed], size)  # type: ignore[no-any-return]
