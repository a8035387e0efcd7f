"""Distances between oriented boxes with gradients: of their corners, and of their Gaussians.

Both work on boxes `[..., 5]` that broadcast against each other, element by element, so that a cost
for each query and each object, `[900, 1, 5]` against `[1, n, 5]`, makes no larger temporary than
its result. They compute in float32 at least, also under autocast, and their gradients are finite
for boxes of any size, also where two boxes are equal.
"""

import math

import torch
from torch import Tensor

from cgeartheye.boxes.convert import corners_of

# Sides below this many pixels count as this long in the Gaussians. It is far below anything that
# can be drawn, and far above what float32 resolves over a box of 1000 pixels turned by pi.
SHORTEST_SIDE = 1e-3
# Of a Hellinger distance's square, whose root has no gradient at 0.
_SMALLEST = 1e-6


def hausdorff(a: Tensor, b: Tensor) -> Tensor:
    """Return the Hausdorff distance between the four corners of boxes.

    The largest distance from a corner of either box to the nearest corner of the other. As a cost
    of matching it is indifferent to how a rectangle is written (angle, order of the sides), where
    the difference of five numbers is not (Lee et al. 2023, 'Hausdorff Distance Matching with
    Adaptive Query Denoising for Rotated Detection Transformer'). In its public code boxes come in
    units of the image: x and w over its width, y and h over its height, the angle as it is; and the
    cost has the weight 5.

    Args:
        a: float `[..., 5]`.
        b: float `[..., 5]`, which broadcasts against a.

    Returns:
        float32 (float64 for such boxes) `[...]`, in the unit of the boxes. The gradient is zero
        where the distance is.
    """
    corners_a, corners_b = corners_of(_precise(a)), corners_of(_precise(b))
    squares = [
        [
            (corners_a[..., i, 0] - corners_b[..., j, 0]).square()
            + (corners_a[..., i, 1] - corners_b[..., j, 1]).square()
            for j in range(4)
        ]
        for i in range(4)
    ]
    from_a = [_least(squares[i]) for i in range(4)]
    from_b = [_least([squares[i][j] for i in range(4)]) for j in range(4)]
    largest = from_a[0]
    for each in (*from_a[1:], *from_b):
        largest = torch.maximum(largest, each)
    apart = largest > 0
    return torch.where(apart, torch.sqrt(torch.where(apart, largest, 1.0)), 0.0)


def gaussian_kld(a: Tensor, b: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence KL(a || b) of boxes' Gaussians.

    A box stands for the normal distribution around its centre with standard deviations w/2 and h/2
    along its sides. In the axes of b the divergence is a sum of squares (the closed form of Yang et
    al. 2021, 'Learning High-Precision Bounding Box for Rotated Object Detection via
    Kullback-Leibler Divergence'), which so loses nothing to cancellation in long thin boxes. Sides
    count as `SHORTEST_SIDE` at least, and have no gradient below it.

    Args:
        a: float `[..., 5]`, in pixels.
        b: float `[..., 5]`, in pixels, which broadcasts against a.

    Returns:
        float32 (float64 for such boxes) `[...]`, 0 or more, not symmetric.
    """
    xa, ya, wa, ha, angle_a = _precise(a).unbind(-1)
    xb, yb, wb, hb, angle_b = _precise(b).unbind(-1)
    wa, ha, wb, hb = (side.clamp(min=SHORTEST_SIDE) for side in (wa, ha, wb, hb))
    dx, dy = xa - xb, ya - yb
    cos_b, sin_b = torch.cos(angle_b), torch.sin(angle_b)
    between = angle_a - angle_b
    cos, sin = torch.cos(between).square(), torch.sin(between).square()
    offset = (2 * (dx * cos_b + dy * sin_b) / wb).square()
    offset = offset + (2 * (dy * cos_b - dx * sin_b) / hb).square()
    spread = ((wa / wb).square() + (ha / hb).square()) * cos
    spread = spread + ((wa / hb).square() + (ha / wb).square()) * sin
    shrinkage = (wb.log() + hb.log()) - (wa.log() + ha.log())
    return ((offset + spread) / 2 + shrinkage - 1).clamp(min=0)


def kld_loss(predicted: Tensor, target: Tensor, tau: float = 1.0) -> Tensor:
    """Return 1 - 1 / (tau + log(1 + KL(target || predicted))), the loss and the cost of RHINO.

    The form of Yang et al. 2021 (see `gaussian_kld`) with the logarithm. RHINO's public code takes
    the divergence of the target from the prediction, on boxes in pixels of the image, without a
    root, with tau = 1 and the weight 5 in both the cost of matching and the loss.

    Args:
        predicted: float `[..., 5]`, in pixels.
        target: float `[..., 5]`, in pixels, which broadcasts against predicted.
        tau: 1 or more; with 1 the loss of equal boxes is 0.

    Returns:
        float32 (float64 for such boxes) `[...]`, below 1.
    """
    return 1 - 1 / (tau + torch.log1p(gaussian_kld(target, predicted)))


def hellinger(a: Tensor, b: Tensor) -> Tensor:
    """Return the Hellinger distance of boxes' Gaussians, the loss of ProbIoU.

    Here a box stands for the normal distribution with the mean and the covariance of a uniform one
    over it, w^2 / 12 and h^2 / 12 along its sides (Llerena et al. 2021, 'Gaussian Bounding Boxes
    and Probabilistic Intersection-over-Union for Object Detection', whose first loss this is). Near
    equal boxes it grows with the distance, as 1 - IoU does, and `gaussian_kld` with its square. All
    determinants are sums of positive terms, so thin boxes lose nothing to cancellation. Sides count
    as `SHORTEST_SIDE` at least, and have no gradient below it.

    Args:
        a: float `[..., 5]`, in pixels.
        b: float `[..., 5]`, in pixels, which broadcasts against a.

    Returns:
        float32 (float64 for such boxes) `[...]`, 0..1, symmetric.
    """
    xa, ya, wa, ha, angle_a = _precise(a).unbind(-1)
    xb, yb, wb, hb, angle_b = _precise(b).unbind(-1)
    wa, ha, wb, hb = (side.clamp(min=SHORTEST_SIDE).square() / 12 for side in (wa, ha, wb, hb))
    # In the axes of b, of which the covariance is diagonal.
    dx, dy = xa - xb, ya - yb
    cos_b, sin_b = torch.cos(angle_b), torch.sin(angle_b)
    dx, dy = dx * cos_b + dy * sin_b, dy * cos_b - dx * sin_b
    cos, sin = torch.cos(angle_a - angle_b), torch.sin(angle_a - angle_b)
    xx, yy = wa * cos.square() + ha * sin.square(), wa * sin.square() + ha * cos.square()
    xy = (wa - ha) * cos * sin
    both = wa * ha + wb * hb + xx * hb + yy * wb  # determinant of the sum of the covariances
    offset = ((yy + hb) * dx.square() - 2 * xy * dx * dy + (xx + wb) * dy.square()) / both
    shape = both.log() - (wa.log() + ha.log() + wb.log() + hb.log()) / 2 - math.log(4)
    apart = -torch.expm1(-(offset / 4 + shape / 2).clamp(min=0))
    return (apart + _SMALLEST).sqrt() - math.sqrt(_SMALLEST)


def _precise(boxes: Tensor) -> Tensor:
    return boxes if boxes.dtype == torch.float64 else boxes.float()


def _least(distances: list[Tensor]) -> Tensor:
    first, second, third, fourth = distances
    return torch.minimum(torch.minimum(first, second), torch.minimum(third, fourth))
