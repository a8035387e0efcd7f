"""Oriented boxes, and what is drawn inside them: pixels, corners, places along a path.

Coordinates are pixels with the origin in the upper left corner of the world: x to the right, y
down, and the centre of the first pixel at (0.5, 0.5).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Boxes:
    """N oriented boxes.

    Attributes:
        center: `[N, 2]` x, y in pixels.
        half: `[N, 2]` half the length along the heading and half the width, pixels.
        angle: `[N]` heading in radians, from the x axis towards the y axis.
    """

    center: Floats
    half: Floats
    angle: Floats

    @classmethod
    def of(cls, center: npt.ArrayLike, half: npt.ArrayLike, angle: npt.ArrayLike) -> Self:
        """Make boxes of arrays that broadcast.

        Args:
            center: `[N, 2]` pixels, or one that broadcasts to it.
            half: half length and half width, pixels, `[N, 2]`, or one that broadcasts to it.
            angle: heading, radians, `[N]` or one for all.
        """
        centers = np.asarray(center, float).reshape(-1, 2)
        halves = np.broadcast_to(np.asarray(half, float), centers.shape)
        return cls(centers, halves, np.broadcast_to(np.asarray(angle, float), len(centers)))

    @classmethod
    def concatenate(cls, parts: Sequence["Boxes"]) -> Self:
        """Put several sets of boxes one behind the other; none gives no box."""
        return cls(
            np.concatenate([np.zeros((0, 2)), *(part.center for part in parts)]),
            np.concatenate([np.zeros((0, 2)), *(part.half for part in parts)]),
            np.concatenate([np.zeros(0), *(part.angle for part in parts)]),
        )

    def __len__(self) -> int:
        return len(self.angle)

    def __getitem__(self, which: Bools | Ints | slice) -> Self:
        return type(self)(self.center[which], self.half[which], self.angle[which])

    def grown(self, by: float) -> Self:
        """The same boxes with `by` pixels more on every side."""
        return type(self)(self.center, self.half + by, self.angle)

    def at(self, u: npt.ArrayLike, v: npt.ArrayLike) -> Floats:
        """World coordinates `[N, 2]` of (u, v) pixels along and across each box's heading."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        along, across = np.asarray(u, float), np.asarray(v, float)
        turned = np.stack([along * cos - across * sin, along * sin + across * cos], -1)
        return np.asarray(self.center + turned)

    def corners(self) -> Floats:
        """The four corners `[N, 4, 2]`, front left first, then round with the sun."""
        a, b = self.half.T
        return np.stack([self.at(a, -b), self.at(a, b), self.at(-a, b), self.at(-a, -b)], 1)

    def bounds(self) -> Floats:
        """The horizontal boxes around them, `[N, 4]` x0, y0, x1, y1."""
        corners = self.corners()
        return np.concatenate([corners.min(1), corners.max(1)], 1)


@dataclass(frozen=True, eq=False)
class Pixels:
    """The pixels near a set of boxes, one entry for each pixel of each box.

    Attributes:
        box: `[P]` whose pixel it is, rising.
        index: `[P]` place in the flattened world.
        u: `[P]` of the pixel's centre along the heading, pixels from the box's centre.
        v: `[P]` across the heading.
    """

    box: Ints
    index: Ints
    u: npt.NDArray[np.float32]
    v: npt.NDArray[np.float32]

    def select(self, which: Bools) -> "Pixels":
        """Only the entries for which `which` [P] is true."""
        return Pixels(self.box[which], self.index[which], self.u[which], self.v[which])


def pixels_of(boxes: Boxes, size: int, margin: float = 0.0) -> Pixels:
    """List the pixels whose centres are in the boxes, or within `margin` pixels of them.

    Args:
        boxes: pixels outside the world are left out.
        size: pixels a side of the world.
        margin: pixels.
    """
    wide = boxes.grown(margin)
    bounds = wide.bounds()
    low = np.clip(np.ceil(bounds[:, :2] - 0.5), 0, size).astype(np.intp)
    high = np.clip(np.floor(bounds[:, 2:] - 0.5) + 1, 0, size).astype(np.intp)
    columns, rows = np.maximum(high - low, 0).T
    count = columns * rows
    box = np.repeat(np.arange(len(boxes)), count)
    place = np.arange(len(box)) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(place, columns[box])
    row, column = row + low[box, 1], column + low[box, 0]
    dx = column + 0.5 - boxes.center[box, 0]
    dy = row + 0.5 - boxes.center[box, 1]
    cos, sin = np.cos(boxes.angle)[box], np.sin(boxes.angle)[box]
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    inside = (np.abs(u) <= wide.half[box, 0]) & (np.abs(v) <= wide.half[box, 1])
    return Pixels(
        box[inside],
        (row * size + column)[inside],
        u[inside].astype(np.float32),
        v[inside].astype(np.float32),
    )


def stand_on(boxes: Boxes, allowed: Bools, margin: float = 0.0) -> Bools:
    """Return which boxes are wholly in the world and on allowed pixels, bool `[N]`.

    Args:
        boxes: N.
        allowed: bool `[H, W]`.
        margin: pixels around a box that must be allowed too.
    """
    size = len(allowed)
    pixels = pixels_of(boxes, size, margin)
    spoilt = np.bincount(pixels.box, ~allowed.ravel()[pixels.index], len(boxes)) > 0
    bounds = boxes.grown(margin).bounds()
    inside = (bounds.min(1) >= 0) & (bounds.max(1) <= size)
    return np.asarray(inside & ~spoilt)


def stand_apart(boxes: Boxes, size: int, margin: float = 0.5) -> Bools:
    """Return which boxes touch no earlier one, bool `[N]`.

    Args:
        boxes: N.
        size: pixels a side of the world.
        margin: pixels by which both boxes are widened.
    """
    pixels = pixels_of(boxes, size, margin)
    first = np.full(size * size, len(boxes))
    # Of several values for one place the last one stays: go backwards, and the first box does.
    first[pixels.index[::-1]] = pixels.box[::-1]
    touched = np.bincount(pixels.box, first[pixels.index] != pixels.box, len(boxes))
    return np.asarray(touched == 0)


def places_along(path: Floats, spacing: float, offset: float = 0.0) -> tuple[Floats, Floats]:
    """Walk a path and mark a place at every step.

    Args:
        path: `[K, 2]` corners of a line, pixels.
        spacing: pixels between two places.
        offset: pixels of the places to the right of the direction of travel.

    Returns:
        `[N, 2]` places and `[N]` headings in radians.
    """
    steps = np.diff(path, axis=0)
    lengths = np.hypot(*steps.T)
    ends = np.concatenate([[0.0], np.cumsum(lengths)])
    at = np.arange(spacing / 2, ends[-1], spacing)
    part = np.clip(np.searchsorted(ends, at, "right") - 1, 0, len(steps) - 1)
    share = (at - ends[part]) / lengths[part]
    angle = np.arctan2(steps[part, 1], steps[part, 0])
    right = np.stack([-np.sin(angle), np.cos(angle)], 1)
    return path[part] + share[:, None] * steps[part] + offset * right, angle


def ribbon(path: Floats, half_width: npt.ArrayLike) -> Floats:
    """The outline `[2K, 2]` of a band along a path `[K, 2]`, its half width `[K]` or one number."""
    direction = np.gradient(path, axis=0)
    normal = np.stack([-direction[:, 1], direction[:, 0]], 1)
    normal *= np.reshape(half_width, (-1, 1)) / np.linalg.norm(normal, axis=1, keepdims=True)
    return np.concatenate([path + normal, (path - normal)[::-1]])
