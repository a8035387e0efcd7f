"""From outlines to the corners of boxes."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from cgeartheye.boxes import corners_of, oriented_around


def corners_around(
    outlines: Sequence[np.ndarray | None], oriented: bool
) -> list[Sequence[float] | None]:
    """Return the corners of the smallest box around each outline.

    Args:
        outlines: float64 points `[n, 2]` each, n at least 1; none: there is no outline.
        oriented: whether boxes are oriented, or along the axes.

    Returns:
        8 numbers each: NaN for an outline with a point that is not finite, which is reported with
        the boxes that have such; none where there is no outline.
    """
    corners: list[Sequence[float] | None] = [
        None if points is None else [math.nan] * 8 for points in outlines
    ]
    finite = {
        place: points
        for place, points in enumerate(outlines)
        if points is not None and np.isfinite(points).all()
    }
    if oriented:
        boxes = oriented_around([torch.from_numpy(points) for points in finite.values()])
        rectangles = corners_of(boxes).flatten(1).tolist()
    else:
        sides = [(*points.min(0).tolist(), *points.max(0).tolist()) for points in finite.values()]
        rectangles = [[x0, y0, x1, y0, x1, y1, x0, y1] for x0, y0, x1, y1 in sides]
    for place, rectangle in zip(finite, rectangles, strict=True):
        corners[place] = rectangle
    return corners
