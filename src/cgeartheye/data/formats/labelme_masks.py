"""Shapes of labelme's JSON, drawn as a mask the way its own converter draws them."""

import base64
import binascii
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from cgeartheye.data.image_io import PILLOW_FORMATS, refuse_bomb
from cgeartheye.utils.errors import UserError, nearest

UNLABELED = 255  # in masks of every kind; counts nowhere: not in losses, not in metrics
_IGNORED = "__ignore__"
_BACKGROUND = ("background", "_background_")
_LEAST = {"polygon": 3, "rectangle": 2, "rotation": 4, "circle": 2, "mask": 2}
"""The kinds of shapes that have an area, and how many points each has at least."""


def outside(classes: Sequence[str]) -> int:
    """Return the class of what no shape covers: the background, or not labelled."""
    names = [name.casefold() for name in classes]
    return next((names.index(name) for name in _BACKGROUND if name in names), UNLABELED)


def draw_shapes(path: Path, classes: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Read a JSON file of labelme as a mask; later shapes cover earlier ones.

    A shape covers the pixels that Pillow fills, its outline with them, as in labelme's
    `shapes_to_label`. The label `__ignore__` is not labelled.

    Args:
        path: the file.
        classes: names by index; without one that is called background, pixels that no shape covers
            are not labelled.

    Returns:
        uint8 `[H, W]`, class indices and 255.

    Raises:
        UserError: it is not labelme's, or a shape has no area, too few points or another label.
    """
    try:
        content = json.loads(path.read_bytes())
        width, height = int(content["imageWidth"]), int(content["imageHeight"])
        shapes = content["shapes"]
        if not isinstance(shapes, list) or width < 1 or height < 1:
            raise ValueError
    except FileNotFoundError as error:
        raise UserError(f"no mask {path}: correct the path or restore the file") from error
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise UserError(
            f"{path} is not labelme's JSON with shapes, imageWidth and imageHeight: export it again"
        ) from error
    refuse_bomb(path, width, height, bytes_a_pixel=3)
    mask = np.full((height, width), outside(classes), dtype=np.uint8)
    for number, shape in enumerate(shapes, start=1):
        place = f"{path}, shape {number}"
        label = _label(shape, classes, place)
        kind, points = _points(shape, place)
        if kind == "mask":
            _lay(mask, shape, points, label, place)
            continue
        picture = Image.fromarray(mask)
        _draw(ImageDraw.Draw(picture), kind, points, label)
        mask = np.array(picture)
    return mask


def _label(shape: Any, classes: Sequence[str], place: str) -> int:
    name = str(shape.get("label") or "").strip() if isinstance(shape, dict) else ""
    if name == _IGNORED:
        return UNLABELED
    if name in classes:
        return list(classes).index(name)
    raise UserError(
        f"{place}: the label '{name}' is not among the {len(classes)} classes"
        f"{nearest(name, list(classes))}: rename it there, or add it to data.classes"
    )


def _points(shape: dict[str, Any], place: str) -> tuple[str, list[tuple[float, float]]]:
    """Return the kind of a shape and its points."""
    kind = shape.get("shape_type") or "polygon"
    if kind not in _LEAST:
        raise UserError(
            f"{place} is a '{kind}', which covers no area: a mask has shapes of the types "
            f"{', '.join(_LEAST)}; draw one, or delete it"
        )
    try:
        points = [(float(x), float(y)) for x, y in shape["points"]]
    except (KeyError, TypeError, ValueError, OverflowError):
        points = []
    # Pillow takes coordinates of 32 bits.
    if len(points) < _LEAST[kind] or not all(abs(x) < 1e6 for point in points for x in point):
        raise UserError(
            f"{place} needs {_LEAST[kind]} points or more for its type '{kind}', with finite "
            "coordinates: correct or delete it"
        )
    return kind, points


def _draw(
    draw: ImageDraw.ImageDraw, kind: str, points: list[tuple[float, float]], label: int
) -> None:
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points[:2]  # any two opposite corners
        corners = [(min(x0, x1), min(y0, y1)), (max(x0, x1), max(y0, y1))]
        draw.rectangle(corners, outline=label, fill=label)
    elif kind == "circle":
        (x, y), edge = points[0], points[1]
        radius = math.dist((x, y), edge)
        box = [(x - radius, y - radius), (x + radius, y + radius)]
        draw.ellipse(box, outline=label, fill=label)
    else:
        draw.polygon(points, outline=label, fill=label)


def _lay(
    mask: npt.NDArray[np.uint8],
    shape: dict[str, Any],
    points: list[tuple[float, float]],
    label: int,
    place: str,
) -> None:
    """Lay a shape of the type `mask`, a PNG as text, into a mask at its first point."""
    try:
        content = io.BytesIO(base64.b64decode(shape["mask"], validate=True))
        with Image.open(content, formats=PILLOW_FORMATS) as image:
            if image.width > mask.shape[1] or image.height > mask.shape[0]:
                raise ValueError
            covered = np.array(image.convert("L")) > 0
    except (KeyError, TypeError, ValueError, OSError, SyntaxError, binascii.Error) as error:
        raise UserError(f"{place} has no PNG that fits as its 'mask': delete the shape") from error
    left, top = (round(value) for value in points[0])
    rows = slice(max(top, 0), max(top + covered.shape[0], 0))
    columns = slice(max(left, 0), max(left + covered.shape[1], 0))
    below = mask[rows, columns]
    covered = covered[max(-top, 0) :, max(-left, 0) :][: below.shape[0], : below.shape[1]]
    below[covered] = label
