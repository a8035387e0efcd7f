"""Oriented boxes: their form, and the ways between corners, outlines and horizontal boxes.

An oriented box is five numbers `cx, cy, w, h, angle`: the centre in pixels (x to the right, y
down), the two sides in pixels, and the direction of the side w, `(cos angle, sin angle)` in these
axes, in radians; on the screen it grows clockwise. The canonical form has `w >= h` and an angle in
`[0, pi)`, so that each rectangle but a square is written in one way. A horizontal box is four
numbers `x0, y0, x1, y1`.
"""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import shapely
import torch
from torch import Tensor

# A box's corners in halves of its own sides, in order.
_CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))
# Of points and directions, around outlines: some 10 MB a temporary.
_PRODUCTS_AT_ONCE = 1 << 20


def canonical(boxes: Tensor) -> Tensor:
    """Write boxes so that w is the longer side and the angle is in [0, pi).

    Args:
        boxes: float `[..., 5]`, sides not negative, any angle.

    Returns:
        The same rectangles, `[..., 5]`.
    """
    cx, cy, w, h, angle = boxes.unbind(-1)
    upright = w < h
    angle = torch.remainder(torch.where(upright, angle + math.pi / 2, angle), math.pi)
    # A tiny negative angle comes out of the remainder as pi itself.
    angle = torch.where(angle >= math.pi, torch.zeros_like(angle), angle)
    return torch.stack([cx, cy, torch.maximum(w, h), torch.minimum(w, h), angle], dim=-1)


def corners_of(boxes: Tensor) -> Tensor:
    """Return the corners of boxes.

    Args:
        boxes: float `[..., 5]`.

    Returns:
        `[..., 4, 2]`, in the box's own axes (-w/2, -h/2), (w/2, -h/2), (w/2, h/2), (-w/2, h/2).
    """
    cx, cy, w, h, angle = boxes.unbind(-1)
    along = torch.stack([torch.cos(angle), torch.sin(angle)], dim=-1)
    across = torch.stack([-along[..., 1], along[..., 0]], dim=-1)
    half_w, half_h = along * (w / 2)[..., None], across * (h / 2)[..., None]
    center = torch.stack([cx, cy], dim=-1)
    return torch.stack([center + half_w * u + half_h * v for u, v in _CORNERS], dim=-2)


def oriented_of(corners: Tensor) -> Tensor:
    """Return the smallest rectangles around four points each.

    The smallest rectangle around points has a side along an edge of their hull, and each edge of
    the hull of four points joins two of them; so six directions suffice, in whatever order the
    points come.

    Args:
        corners: float `[..., 4, 2]`; of a rectangle in any order, or any other four points, also
            equal or collinear ones (a side of the box is then zero; of equal points the angle too).

    Returns:
        Canonical boxes `[..., 5]` of the same type.
    """
    pairs = torch.tensor(list(combinations(range(4), 2)), device=corners.device)
    points = corners.double()
    directions = points[..., pairs[:, 1], :] - points[..., pairs[:, 0], :]
    return _smallest_around(points, directions).to(corners.dtype)


def oriented_around(outlines: Sequence[Tensor]) -> Tensor:
    """Return the smallest rectangle around the points of each outline.

    Args:
        outlines: float `[n, 2]` each, with n at least 1, finite.

    Returns:
        Canonical boxes, float64 `[k, 5]`.
    """
    counts = [len(points) for points in outlines]
    assert all(counts), "an outline without points"
    points = torch.cat([torch.zeros(0, 2), *outlines]).double().cpu()
    # A line through each point twice: GEOS makes it much faster than a set of points, and none of
    # a single one.
    places = np.repeat(np.arange(len(counts)), 2 * np.array(counts, dtype=int))
    hulls = shapely.convex_hull(shapely.linestrings(points.repeat_interleave(2, 0), indices=places))
    rings = torch.from_numpy(shapely.get_coordinates(hulls))
    lengths = torch.from_numpy(shapely.get_num_coordinates(hulls))
    starts = lengths.cumsum(0) - lengths
    boxes = torch.zeros(len(counts), 5, dtype=torch.float64)
    for length in lengths.unique().tolist():
        alike = (lengths == length).nonzero()[:, 0]
        for some in alike.split(max(1, _PRODUCTS_AT_ONCE // length**2)):
            ring = rings[starts[some, None] + torch.arange(length)]
            # The hull of equal points is one point: its edge has no length.
            boxes[some] = _smallest_around(ring, ring.roll(-1, 1) - ring)
    return boxes


def horizontal_of(boxes: Tensor) -> Tensor:
    """Return the horizontal boxes around oriented ones.

    Args:
        boxes: float `[..., 5]`.

    Returns:
        `[..., 4]` as x0, y0, x1, y1.
    """
    cx, cy, w, h, angle = boxes.unbind(-1)
    cos, sin = torch.cos(angle).abs(), torch.sin(angle).abs()
    half_x, half_y = (w * cos + h * sin) / 2, (w * sin + h * cos) / 2
    return torch.stack([cx - half_x, cy - half_y, cx + half_x, cy + half_y], dim=-1)


def from_horizontal(boxes: Tensor) -> Tensor:
    """Write horizontal boxes as oriented ones.

    Args:
        boxes: float `[..., 4]` as x0, y0, x1, y1.

    Returns:
        Canonical boxes `[..., 5]`, of angle 0 or pi/2.
    """
    x0, y0, x1, y1 = boxes.unbind(-1)
    middle = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, torch.zeros_like(x0)]
    return canonical(torch.stack(middle, dim=-1))


def _smallest_around(points: Tensor, directions: Tensor) -> Tensor:
    """Return the smallest of the rectangles around points with a side along given directions.

    Args:
        points: float64 `[..., n, 2]`.
        directions: float64 `[..., k, 2]` of any length; those of length zero count only where all
            are.

    Returns:
        Canonical boxes `[..., 5]`.
    """
    # Around their own middle, so that the products below lose nothing to a far origin.
    origin = points.mean(dim=-2, keepdim=True)
    points = points - origin
    angles = torch.atan2(directions[..., 1], directions[..., 0])
    cos, sin = torch.cos(angles), torch.sin(angles)
    x, y = points[..., None, :, 0], points[..., None, :, 1]
    along = x * cos[..., None] + y * sin[..., None]
    across = y * cos[..., None] - x * sin[..., None]
    (u0, u1), (v0, v1) = torch.aminmax(along, dim=-1), torch.aminmax(across, dim=-1)
    areas = (u1 - u0) * (v1 - v0)
    areas = torch.where((directions == 0).all(dim=-1), torch.inf, areas)
    best = areas.argmin(dim=-1, keepdim=True)
    u0, u1, v0, v1, cos, sin, angle = (
        each.gather(-1, best)[..., 0] for each in (u0, u1, v0, v1, cos, sin, angles)
    )
    u, v = (u0 + u1) / 2, (v0 + v1) / 2
    cx, cy = u * cos - v * sin + origin[..., 0, 0], u * sin + v * cos + origin[..., 0, 1]
    return canonical(torch.stack([cx, cy, u1 - u0, v1 - v0, angle], dim=-1))
