"""JSON files of labelme and X-AnyLabeling, one for each image."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from cgeartheye.data.formats.flags import flag_of
from cgeartheye.data.formats.outlines import corners_around
from cgeartheye.data.formats.voc_dota_yolo import Annotation, Faults, Written

_HEAD = 65_536  # bytes in which `shapes` begins; the image itself may follow as text
_LEAST = {"rectangle": 2, "polygon": 3, "rotation": 4, "circle": 2, "mask": 2}
"""The kinds of shapes around an object, and how many points each has at least."""


def is_labelme(path: Path) -> bool:
    """Return whether a JSON file is one of labelme's."""
    try:
        with path.open("rb") as file:
            return b'"shapes"' in file.read(_HEAD)
    except OSError:
        return False


def read_labelme(path: Path, oriented: bool, faults: Faults) -> Written:
    """Read a JSON file of labelme: rectangles, polygons, circles and turned rectangles.

    Args:
        path: the file.
        oriented: whether a polygon becomes the smallest rectangle around it, or the box along the
            axes.
        faults: takes the mistakes.

    Returns:
        Where each object is written, and what it is.
    """
    try:
        content = json.loads(path.read_bytes())
        shapes = content["shapes"]
        assert isinstance(shapes, list)
    except (OSError, ValueError, TypeError, KeyError, AssertionError, RecursionError):
        faults.add(str(path), "is not labelme's JSON with a list 'shapes': export it again")
        return []
    read: list[tuple[str, str, np.ndarray, bool]] = []
    for number, shape in enumerate(shapes, start=1):
        place = f"{path}, shape {number}"
        if isinstance(shape, dict) and shape.get("label") == "__ignore__":
            continue  # as labelme's own converter does
        points = _points(shape)
        difficult = flag_of(shape.get("difficult")) if isinstance(shape, dict) else None
        if points is None or difficult is None:
            faults.add(
                place,
                f"needs a label, a shape_type among {', '.join(_LEAST)}, and its points: correct "
                "or delete it",
            )
            continue
        read.append((place, str(shape["label"]).strip(), points, difficult))
    boxes = corners_around([points for _, _, points, _ in read], oriented)
    return [
        (place, Annotation(name, corners, difficult))
        for (place, name, _, difficult), corners in zip(read, boxes, strict=True)
        if corners is not None
    ]


def _points(shape: Any) -> np.ndarray | None:
    """Return the points of a shape, float64 `[n, 2]`; none: it is no shape around an object."""
    try:
        least = _LEAST[shape.get("shape_type") or "polygon"]
        points = np.array(shape["points"], dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < least or not shape["label"]:
            return None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    if shape.get("shape_type") == "circle":
        (x, y), edge = points[0], points[1]
        radius = math.dist((x, y), edge)
        points = np.array([[x - radius, y - radius], [x + radius, y + radius]])
    if shape.get("shape_type") in ("rectangle", "mask", "circle"):
        (x0, y0), (x1, y1) = points.min(0), points.max(0)
        points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    return points
