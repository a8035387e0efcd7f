"""Boxes to test with, drawn by hypothesis, and shapely's view of them."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import shapely
import torch
from hypothesis import strategies as st
from torch import Tensor

# From degenerate to larger than any image.
sides = st.one_of(
    st.sampled_from([0.0, 1e-6, 1.0, 30.0]), st.floats(min_value=0.5, max_value=300.0)
)
angles = st.one_of(
    st.sampled_from([0.0, math.pi / 2, math.pi / 4, 1e-9, math.pi - 1e-9, math.pi, -1e-12]),
    st.floats(min_value=-7.0, max_value=7.0),
)
places = st.floats(min_value=-100.0, max_value=100.0)
oriented = st.tuples(places, places, sides, sides, angles).map(
    lambda numbers: torch.tensor(numbers, dtype=torch.float64)
)


def some_boxes(count: int, extent: float, seed: int) -> Tensor:
    """Return float64 boxes `[count, 5]` with sides of 2 to 40 pixels."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.rand(count, 5, generator=generator, dtype=torch.float64)
    scale = torch.tensor([extent, extent, 38.0, 38.0, math.pi], dtype=torch.float64)
    return numbers * scale + torch.tensor([0.0, 0.0, 2.0, 2.0, 0.0], dtype=torch.float64)


def polygon(box: Tensor) -> shapely.Polygon:
    """Return the rectangle, made of its numbers by shapely's own affine steps."""
    cx, cy, w, h, angle = box.double().tolist()
    flat = shapely.box(-w / 2, -h / 2, w / 2, h / 2)
    turned = shapely.affinity.rotate(flat, angle, origin=(0, 0), use_radians=True)
    return shapely.affinity.translate(turned, cx, cy)


def iou(a: Tensor, b: Tensor) -> float:
    """Return shapely's intersection over union."""
    first, second = polygon(a), polygon(b)
    common = first.intersection(second).area
    union = first.area + second.area - common
    return common / union if union > 0 else 0.0


def coordinates(geometry: shapely.Geometry) -> np.ndarray:
    """Return the points of a polygon without the repeated last one."""
    return np.asarray(geometry.exterior.coords)[:-1]


def exact_iou(a: Tensor, b: Tensor) -> float:
    """Return the intersection over union by clipping in rational numbers.

    GEOS gives 0 for some squares with themselves turned by pi, whose corners differ in the last
    bit.
    """
    first, second = exact_corners(a), exact_corners(b)
    common = abs(area(clipped(first, second)))
    union = abs(area(first)) + abs(area(second)) - common
    return float(common / union) if union > 0 else 0.0


def exact_corners(box: Tensor) -> list[tuple[Fraction, Fraction]]:
    cx, cy, w, h, angle = (Fraction(number) for number in box.double().tolist())
    cos, sin = Fraction(math.cos(angle)), Fraction(math.sin(angle))
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    halves = [(u * w / 2, v * h / 2) for u, v in signs]
    return [(cx + u * cos - v * sin, cy + u * sin + v * cos) for u, v in halves]


def area(ring: list[tuple[Fraction, Fraction]]) -> Fraction:
    edges = pairwise([*ring, *ring[:1]])
    return sum((x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in edges), Fraction(0)) / 2


def clipped(
    ring: list[tuple[Fraction, Fraction]], by: list[tuple[Fraction, Fraction]]
) -> list[tuple[Fraction, Fraction]]:
    """Return the part of a ring on the inner side of each edge of a convex one."""
    for (x0, y0), (x1, y1) in pairwise([*by, by[0]]):
        kept = []
        sides = [(x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) for x, y in ring]
        for index, (point, side) in enumerate(zip(ring, sides, strict=True)):
            before, other = ring[index - 1], sides[index - 1]
            if side * other < 0:
                t = other / (other - side)
                kept.append(tuple(p + t * (q - p) for p, q in zip(before, point, strict=True)))
            if side >= 0:
                kept.append(point)
        ring = kept
    return ring
