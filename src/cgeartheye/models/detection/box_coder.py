"""Differences between horizontal and oriented boxes in a detector, and nothing else.

Inside the detector a box is in shares of the (square) image: centre, sides, and for an oriented one
the angle in radians; see `boxes.convert` for its meaning.
"""

import math
from typing import Protocol

import torch
from torch import Tensor
from torchvision.ops import box_convert

from cgeartheye.boxes import canonical, hausdorff, hellinger, kld_loss, oriented_of, paired_overlap

_LEAST = 1e-4  # of a share, before its logit is taken
_ALMOST_NOTHING = 1e-9  # of the image's area
_PIXELS = 1000.0  # a side of an image that stands for all
_ASKEW = 1e-3  # so that no box is an exact square, whose direction has no gradient
_LARGEST_GROWTH = 4.0  # of the logarithm of a side: 55 times as long


class BoxCoder(Protocol):
    """A kind of boxes: how they are predicted, refined, compared.

    Attributes:
        box_dim: of a box.
        num_offsets: numbers that place a box at a point.
        nms_threshold: intersection over union above which two boxes are of one object. Horizontal
            boxes of neighbors at an angle overlap more.
    """

    box_dim: int
    num_offsets: int
    nms_threshold: float

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

    def place(self, points: Tensor, sides: Tensor, offsets: Tensor) -> Tensor:
        """Return the boxes of points, as a dense detector predicts them.

        Args:
            points: in shares of the image, `[P, 2]`.
            sides: shares of the image in which each point counts, `[P, 1]`.
            offsets: `[..., P, num_offsets]`; the first two move the center, in these sides; zeros
                give a square of `sides` around the point.

        Returns:
            `[..., P, numbers]`.
        """

    def local(self, points: Tensor, boxes: Tensor) -> Tensor:
        """Return points `[..., 2]` relative to boxes `[..., numbers]`: -1..1 along both sides."""

    def iou(self, found: Tensor, truth: Tensor) -> Tensor:
        """Return the intersection over union of each box with that beside it, `[P]`, 0..1."""

    def distance(self, found: Tensor, truth: Tensor) -> Tensor:
        """Cost of taking one for the other when they are matched; broadcasts to `[...]`."""

    def losses(self, found: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Return the weighted losses `[P]` of P boxes `[P, numbers]` that belong together."""

    def overlap_loss(self, found: Tensor, truth: Tensor) -> Tensor:
        """Return the loss of a dense detector's boxes, `[P]`; it does not depend on the scale."""


class HorizontalBoxes:
    """DINO's boxes (Zhang et al. 2022): L1 and generalised IoU, with weights 5 and 2."""

    box_dim = 4
    num_offsets = 4
    nms_threshold = 0.5

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

    def place(self, points: Tensor, sides: Tensor, offsets: Tensor) -> Tensor:
        """See `BoxCoder`."""
        return _placed(points, sides, offsets)

    def local(self, points: Tensor, boxes: Tensor) -> Tensor:
        """See `BoxCoder`."""
        return 2 * (points - boxes[..., :2]) / boxes[..., 2:].clamp_min(_ALMOST_NOTHING)

    def iou(self, found: Tensor, truth: Tensor) -> Tensor:
        """See `BoxCoder`."""
        return paired_overlap(*(box_convert(each, "cxcywh", "xyxy") for each in (found, truth)))

    def distance(self, found: Tensor, truth: Tensor) -> Tensor:
        """See `BoxCoder`."""
        return sum(self._parts(found, truth).values())  # type: ignore[return-value]

    def losses(self, found: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """See `BoxCoder`."""
        return self._parts(found, truth)

    def overlap_loss(self, found: Tensor, truth: Tensor) -> Tensor:
        """See `BoxCoder`."""
        return 2 * (1 - _generalised_iou(found, truth))

    def _parts(self, found: Tensor, truth: Tensor) -> dict[str, Tensor]:
        l1 = 5 * (found - truth).abs().sum(-1)
        return {"l1": l1, "giou": self.overlap_loss(found, truth)}


class OrientedBoxes:
    """RHINO's boxes (Lee et al. 2023): matched by Hausdorff distance and KLD, with weights 5 and 5;
    learnt by L1 and KLD, 5 and 5; by ProbIoU in a dense detector.

    Two things are our own. The angle is refined by adding to it, modulo pi, where RHINO squeezes it
    through a sigmoid: boxes at 0, the commonest, would be at the sigmoid's far end. And the L1
    loss is taken to the nearer of the two ways in which a box can be written, the second with the
    sides swapped and a quarter turn, so that a square is not torn between the two.
    """

    box_dim = 5
    num_offsets = 5
    nms_threshold = 0.3

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

    def place(self, points: Tensor, sides: Tensor, offsets: Tensor) -> Tensor:
        """See `BoxCoder`; offsets of the center, the size, and how long in which direction.

        The last three are the logarithm of the box's covariance, a symmetric matrix: its mean on
        the diagonal, and cosine and sine of twice the angle times half the logarithm of the sides'
        ratio. So each rectangle is written in one way, w is the longer side, nothing jumps where a
        direction passes pi, and near a square, of which there is no direction, nothing depends on
        one.
        """
        along, across = offsets[..., 3] + _ASKEW, offsets[..., 4]
        longer = (along.square() + across.square()).sqrt()
        logs = torch.stack([offsets[..., 2] + longer, offsets[..., 2] - longer], -1)
        placed = _placed(points, sides, torch.cat([offsets[..., :2], logs], -1))
        return torch.cat([placed, torch.atan2(across, along)[..., None] / 2], -1)

    def local(self, points: Tensor, boxes: Tensor) -> Tensor:
        """See `BoxCoder`."""
        x, y = (points - boxes[..., :2]).unbind(-1)
        cos, sin = boxes[..., 4].cos(), boxes[..., 4].sin()
        turned = torch.stack([x * cos + y * sin, y * cos - x * sin], -1)
        return 2 * turned / boxes[..., 2:4].clamp_min(_ALMOST_NOTHING)

    def iou(self, found: Tensor, truth: Tensor) -> Tensor:
        """See `BoxCoder`."""
        return paired_overlap(found, truth)

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

    def overlap_loss(self, found: Tensor, truth: Tensor) -> Tensor:
        """See `BoxCoder`; a square may have any direction.

        The divergence hardly changes near the truth, and a dense detector has few boxes to learn
        from: with it small objects were found, but not to an overlap of a half.
        """
        return 2 * hellinger(_pixels(found), _pixels(truth))


def coder_of(oriented: bool) -> BoxCoder:
    """Return the coder of oriented or of horizontal boxes."""
    return OrientedBoxes() if oriented else HorizontalBoxes()


def _shift(shares: Tensor, change: Tensor) -> Tensor:
    """Change shares by adding to their logits."""
    return (torch.logit(shares, eps=_LEAST) + change).sigmoid()


def _placed(points: Tensor, sides: Tensor, offsets: Tensor) -> Tensor:
    """Centers and sides of the boxes of points, `[..., P, 4]`."""
    centers = points + offsets[..., :2] * sides
    return torch.cat([centers, sides * offsets[..., 2:4].clamp(max=_LARGEST_GROWTH).exp()], -1)


def _generalised_iou(found: Tensor, truth: Tensor) -> Tensor:
    """Of boxes as centre and sides (Rezatofighi et al. 2019), -1..1; broadcasts to `[...]`.

    torchvision's `generalized_box_iou_loss` adds 1e-7 to areas, which is up to 0.01 of the loss of
    small boxes in shares of an image, and takes no boxes that broadcast, as matching needs.
    """
    low = found[..., :2] - found[..., 2:] / 2, truth[..., :2] - truth[..., 2:] / 2
    high = found[..., :2] + found[..., 2:] / 2, truth[..., :2] + truth[..., 2:] / 2
    shared = (torch.minimum(*high) - torch.maximum(*low)).clamp_min(0).prod(-1)
    hull = (torch.maximum(*high) - torch.minimum(*low)).prod(-1).clamp_min(_ALMOST_NOTHING)
    union = (found[..., 2:].prod(-1) + truth[..., 2:].prod(-1) - shared).clamp_min(_ALMOST_NOTHING)
    return shared / union - (hull - union) / hull


def _divergence(found: Tensor, truth: Tensor) -> Tensor:
    """RHINO's loss of the boxes' Gaussians; it does not depend on the scale, but knows pixels."""
    return kld_loss(_pixels(found), _pixels(truth))


def _pixels(boxes: Tensor) -> Tensor:
    """Oriented boxes in pixels of an image that stands for all."""
    return torch.cat([boxes[..., :4] * _PIXELS, boxes[..., 4:]], -1)


def _turn(first: Tensor, second: Tensor) -> Tensor:
    """The turn between two directions of a line, in shares of pi: 0 to 0.5."""
    turn = torch.remainder(first - second, math.pi)
    return torch.minimum(turn, math.pi - turn) / math.pi
