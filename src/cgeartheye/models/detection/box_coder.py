"""What differs between horizontal and oriented boxes in a detector, and nothing else does.

Inside the detector a box is in shares of the (square) image: centre, sides, and for an oriented one
the angle in radians; see `boxes.convert` for its meaning.
"""

import math
from typing import Protocol

import torch
from torch import Tensor
from torchvision.ops import box_convert

from cgeartheye.boxes import canonical, hausdorff, kld_loss, oriented_of

_LEAST = 1e-4  # of a share, before its logit is taken
_ALMOST_NOTHING = 1e-9  # of the image's area
_PIXELS = 1000.0  # a side of an image that stands for all


class BoxCoder(Protocol):
    """A kind of boxes: how they are told, refined, compared.

    Attributes:
        box_dim: of a box.
    """

    box_dim: int

    def encode(self, boxes: Tensor, side: int) -> Tensor:
        """Turn annotated boxes in pixels into shares of an image of `side` pixels.

        Args:
            boxes: horizontal `[..., 4]` as x0, y0, x1, y1; oriented `[..., 8]` as corners.
            side: of the image.

        Returns:
            `[..., numbers]`.
        """

    def decode(self, boxes: Tensor, side: int) -> Tensor:
        """Turn `[..., numbers]` into pixels, in the form of `boxes.Detections`."""

    def refine(self, boxes: Tensor, change: Tensor) -> Tensor:
        """Return boxes `[..., numbers]` that a change of the same shape has moved."""

    def distance(self, found: Tensor, truth: Tensor) -> Tensor:
        """Cost of taking one for the other when they are matched; broadcasts to `[...]`."""

    def losses(self, found: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Return the weighted losses `[P]` of P boxes `[P, numbers]` that belong together."""


class HorizontalBoxes:
    """DINO's boxes (Zhang et al. 2022): L1 and generalised IoU, with weights 5 and 2."""

    box_dim = 4

    def encode(self, boxes: Tensor, side: int) -> Tensor:
        """See `BoxCoder`."""
        shares: Tensor = box_convert(boxes, "xyxy", "cxcywh") / side
        return shares

    def decode(self, boxes: Tensor, side: int) -> Tensor:
        """See `BoxCoder`; cut to the image, as annotations are."""
        pixels: Tensor = box_convert(boxes, "cxcywh", "xyxy") * side
        return pixels.clamp(0, side)

    def refine(self, boxes: Tensor, change: Tensor) -> Tensor:
        """See `BoxCoder`."""
        return _shift(boxes, change)

    def distance(self, found: Tensor, truth: Tensor) -> Tensor:
        """See `BoxCoder`."""
        return sum(self._parts(found, truth).values())  # type: ignore[return-value]

    def losses(self, found: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """See `BoxCoder`."""
        return self._parts(found, truth)

    def _parts(self, found: Tensor, truth: Tensor) -> dict[str, Tensor]:
        return {
            "l1": 5 * (found - truth).abs().sum(-1),
            "giou": 2 * (1 - _generalised_iou(found, truth)),
        }


class OrientedBoxes:
    """RHINO's boxes (Lee et al. 2023): matched by Hausdorff distance and KLD, with weights 5 and 5;
    learnt by L1 and KLD, 5 and 5.

    Two things are our own. The angle is refined by adding to it, modulo pi, where RHINO squeezes it
    through a sigmoid: boxes at 0, the commonest, would lie at the sigmoid's far end. And the L1
    loss is taken to the nearer of the two ways in which a box can be written, the second with the
    sides swapped and a quarter turn, so that a square is not torn between the two.
    """

    box_dim = 5

    def encode(self, boxes: Tensor, side: int) -> Tensor:
        """See `BoxCoder`."""
        oriented = oriented_of(boxes.unflatten(-1, (4, 2)))
        return torch.cat([oriented[..., :4] / side, oriented[..., 4:]], -1)

    def decode(self, boxes: Tensor, side: int) -> Tensor:
        """See `BoxCoder`."""
        return canonical(torch.cat([boxes[..., :4] * side, boxes[..., 4:]], -1))

    def refine(self, boxes: Tensor, change: Tensor) -> Tensor:
        """See `BoxCoder`."""
        angle = torch.remainder(boxes[..., 4:] + change[..., 4:], math.pi)
        return torch.cat([_shift(boxes[..., :4], change[..., :4]), angle], -1)

    def distance(self, found: Tensor, truth: Tensor) -> Tensor:
        """See `BoxCoder`."""
        return 5 * hausdorff(found, truth) + 5 * _divergence(found, truth)

    def losses(self, found: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """See `BoxCoder`."""
        center = (found[..., :2] - truth[..., :2]).abs().sum(-1)
        other = truth[..., 4] + math.pi / 2
        shape = torch.minimum(
            (found[..., 2:4] - truth[..., 2:4]).abs().sum(-1) + _turn(found[..., 4], truth[..., 4]),
            (found[..., 2:4] - truth[..., [3, 2]]).abs().sum(-1) + _turn(found[..., 4], other),
        )
        return {"l1": 5 * (center + shape), "kld": 5 * _divergence(found, truth)}


def coder_of(oriented: bool) -> BoxCoder:
    """Return the coder of oriented or of horizontal boxes."""
    return OrientedBoxes() if oriented else HorizontalBoxes()


def _shift(shares: Tensor, change: Tensor) -> Tensor:
    """Change shares by adding to their logits."""
    return (torch.logit(shares, eps=_LEAST) + change).sigmoid()


def _generalised_iou(found: Tensor, truth: Tensor) -> Tensor:
    """Of boxes as centre and sides (Rezatofighi et al. 2019), -1..1; broadcasts to `[...]`."""
    low = found[..., :2] - found[..., 2:] / 2, truth[..., :2] - truth[..., 2:] / 2
    high = found[..., :2] + found[..., 2:] / 2, truth[..., :2] + truth[..., 2:] / 2
    shared = (torch.minimum(*high) - torch.maximum(*low)).clamp_min(0).prod(-1)
    hull = (torch.maximum(*high) - torch.minimum(*low)).prod(-1).clamp_min(_ALMOST_NOTHING)
    union = (found[..., 2:].prod(-1) + truth[..., 2:].prod(-1) - shared).clamp_min(_ALMOST_NOTHING)
    return shared / union - (hull - union) / hull


def _divergence(found: Tensor, truth: Tensor) -> Tensor:
    """RHINO's loss of the boxes' Gaussians; it does not depend on the scale, but knows pixels."""
    found, truth = (torch.cat([b[..., :4] * _PIXELS, b[..., 4:]], -1) for b in (found, truth))
    return kld_loss(found, truth)


def _turn(first: Tensor, second: Tensor) -> Tensor:
    """The turn between two directions of a line, in shares of pi: 0 to 0.5."""
    turn = torch.remainder(first - second, math.pi)
    return torch.minimum(turn, math.pi - turn) / math.pi
