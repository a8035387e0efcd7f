"""Exact overlap of boxes, horizontal and oriented.

The area of the intersection of two rectangles is computed in double precision in the axes of one
of them, where it is the axis-parallel window [-w/2, w/2] x [-h/2, h/2]. Walk around the other one
and move each point to the nearest one of the window: the path so bent encloses the intersection
exactly, and is piecewise straight, bent only where an edge crosses a side of the window, so its
area is a short sum. Nothing in it is decided by a comparison that rounding could turn: equal
boxes, shared edges and boxes without area need no special case, and the error is that of the
additions.

torchvision's kernel for rotated boxes is not used: it collects crossing points and drops those that
nearly coincide. Of 2000 ordinary boxes in float32 it was off by up to 1.0 for 72 against themselves
turned by pi, and by up to 0.43 for 32 against themselves turned by 1e-6; in float64 the latter by
up to 0.40 for 12; and for boxes of 1e-6 pixels always (torchvision 0.29).
"""

from itertools import pairwise

import torch
from torch import Tensor
from torchvision.ops import box_area, box_iou

from cgeartheye.boxes.convert import corners_of, horizontal_of

# Pairs that are intersected at once: some 50 MB of temporaries.
_PAIRS_AT_ONCE = 1 << 16


def areas_of(boxes: Tensor) -> Tensor:
    """Return the areas of boxes.

    Args:
        boxes: float `[n, 4]` or `[n, 5]`.

    Returns:
        float64 `[n]`, in square pixels.
    """
    boxes = boxes.double()
    return box_area(boxes) if _horizontal(boxes) else boxes[:, 2] * boxes[:, 3]


def paired_intersection(a: Tensor, b: Tensor) -> Tensor:
    """Return the area of the intersection of each box with the one beside it.

    Args:
        a: float `[k, 4]` or `[k, 5]`.
        b: the same shape.

    Returns:
        float64 `[k]`, in square pixels.
    """
    assert a.shape == b.shape, (a.shape, b.shape)
    if _horizontal(a):
        a, b = a.double(), b.double()
        low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
        return (high - low).clamp(min=0).prod(dim=1)
    parts = zip(a.split(_PAIRS_AT_ONCE), b.split(_PAIRS_AT_ONCE), strict=True)
    areas = [_intersected(first.double(), second.double()) for first, second in parts]
    return torch.cat(areas)


def rotated_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the intersection over union of oriented boxes, each with each.

    Args:
        a: float `[n, 5]`.
        b: float `[m, 5]`.

    Returns:
        float64 `[n, m]`, 0..1; 0 where neither box has an area.
    """
    intersection = _intersections(a, b)
    union = areas_of(a)[:, None] + areas_of(b)[None] - intersection
    return _share(intersection, union)


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Return the intersection over union of boxes of either kind, each with each.

    Args:
        a: float `[n, 4]` or `[n, 5]`.
        b: float `[m, 4]` or `[m, 5]`, of the same kind.

    Returns:
        float64 `[n, m]`, 0..1; 0 where neither box has an area.
    """
    if _horizontal(a):
        iou: Tensor = box_iou(a.double(), b.double())
        return iou.nan_to_num(nan=0.0)
    return rotated_iou(a, b)


def intersection_over_smaller(a: Tensor, b: Tensor) -> Tensor:
    """Return the share of the smaller of two boxes that the other covers, for every pair.

    It is near 1 for a piece of a box that a border cut and the whole one, whose intersection over
    union may be anything.

    Args:
        a: float `[n, 4]` or `[n, 5]`.
        b: float `[m, 4]` or `[m, 5]`, of the same kind.

    Returns:
        float64 `[n, m]`, 0..1; 0 where the smaller has no area.
    """
    smaller = torch.minimum(areas_of(a)[:, None], areas_of(b)[None])
    return _share(_intersections(a, b), smaller)


def paired_overlap(a: Tensor, b: Tensor) -> Tensor:
    """Return the intersection over union of each box with the one beside it.

    Args:
        a: float `[k, 4]` or `[k, 5]`.
        b: the same shape.

    Returns:
        float64 `[k]`, 0..1; 0 where neither box has an area.
    """
    intersection = paired_intersection(a, b)
    return _share(intersection, areas_of(a) + areas_of(b) - intersection)


def _horizontal(boxes: Tensor) -> bool:
    assert boxes.ndim == 2 and boxes.shape[1] in (4, 5), boxes.shape
    return boxes.shape[1] == 4


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole, 0.0).clamp(max=1.0)


def _intersections(a: Tensor, b: Tensor) -> Tensor:
    """Return the areas of intersection, each with each: float64 `[n, m]`."""
    frames_a, frames_b = (
        each.double() if _horizontal(each) else horizontal_of(each.double()) for each in (a, b)
    )
    near = (frames_a[:, None, :2] <= frames_b[None, :, 2:]).all(dim=-1)
    near &= (frames_b[None, :, :2] <= frames_a[:, None, 2:]).all(dim=-1)
    rows, columns = near.nonzero(as_tuple=True)
    areas = torch.zeros(len(a), len(b), dtype=torch.float64, device=a.device)
    areas[rows, columns] = paired_intersection(a[rows], b[columns])
    return areas


def _intersected(a: Tensor, b: Tensor) -> Tensor:
    """Return the areas of intersection of oriented boxes `[k, 5]` with those beside them."""
    # The window is the smaller box: coordinates inside it then keep their relative precision.
    swap = (a[:, 2] * a[:, 3] < b[:, 2] * b[:, 3])[:, None]
    a, b = torch.where(swap, b, a), torch.where(swap, a, b)
    moved = torch.cat([a[:, :2] - b[:, :2], a[:, 2:]], dim=1)
    corners = corners_of(moved)
    cos, sin = torch.cos(b[:, 4:]), torch.sin(b[:, 4:])
    half_x, half_y = b[:, 2:3] / 2, b[:, 3:4] / 2
    # Axes of the window, [k, 4 corners].
    x = corners[..., 0] * cos + corners[..., 1] * sin
    y = corners[..., 1] * cos - corners[..., 0] * sin
    dx, dy = x.roll(-1, 1) - x, y.roll(-1, 1) - y
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    start, end = _crossings(x, dx, half_x, zero, one)
    low, high = _crossings(y, dy, half_y, start, end)
    area = torch.zeros_like(half_x[:, 0])
    points = [
        (
            torch.clamp(x + t * dx, -half_x, half_x),
            torch.clamp(y + t * dy, -half_y, half_y) + half_y,
        )
        for t in (start, low, high, end)
    ]
    for (x0, y0), (x1, y1) in pairwise(points):
        area += ((x1 - x0) * (y0 + y1)).sum(dim=1)
    smaller = torch.minimum(a[:, 2] * a[:, 3], b[:, 2] * b[:, 3])
    return torch.minimum((area / 2).abs(), smaller)


def _crossings(
    start: Tensor, step: Tensor, half: Tensor, first: Tensor, last: Tensor
) -> tuple[Tensor, Tensor]:
    """Return where `start + t * step` crosses -half and +half, in order, moved into first..last.

    Where it runs parallel any t will do: the coordinate does not change between them.
    """
    divisor = torch.where(step == 0, 1.0, step)
    one, other = (-half - start) / divisor, (half - start) / divisor
    low, high = torch.minimum(one, other), torch.maximum(one, other)
    return (
        torch.minimum(torch.maximum(low, first), last),
        torch.minimum(torch.maximum(high, first), last),
    )
