"""A contact sheet of objects: a few of each class, with the boxes drawn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from cgeartheye.config import Color, DetectionData
from cgeartheye.data.checks.contact_sheet import contact_sheet
from cgeartheye.data.datasets.detection import boxes_of
from cgeartheye.data.formats.voc_dota_yolo import Objects
from cgeartheye.data.image_io import read_image
from cgeartheye.utils.colors import class_colors

_SAMPLES, _SIDE = 4, 160  # objects of a class, pixels of each
_AROUND = 2.0  # times the longer side of the object that is shown
_LEAST = 64  # pixels on disk that are shown


def box_sheet(
    root: Path,
    classes: tuple[str, ...],
    parts: Sequence[dict[str, Objects]],
    data: DetectionData,
) -> Image.Image:
    """Draw examples of each class, evenly over the images that have it.

    Args:
        root: of the images' names.
        classes: names by index.
        parts: images that can be read and their objects; the first part that has a class shows it.
        data: how boxes are fitted, and images read.
    """
    colors = class_colors(classes)
    rows: dict[str, list[npt.NDArray[np.uint8]]] = {}
    for label, name in enumerate(classes):
        for objects in parts:
            having = sorted(image for image, one in objects.items() if label in one.labels)
            if having:
                places = np.linspace(0, len(having) - 1, min(_SAMPLES, len(having))).astype(int)
                rows[name] = [
                    _thumbnail(root / having[place], objects[having[place]], label, colors, data)
                    for place in places
                ]
                break
    return contact_sheet(rows, _SIDE, dict(zip(classes, colors, strict=True)))


def _thumbnail(
    path: Path, objects: Objects, label: int, colors: tuple[Color, ...], data: DetectionData
) -> npt.NDArray[np.uint8]:
    """Show the largest object of a class in an image, its box bold, and all other boxes."""
    image = read_image(path, data.bands, data.stretch)
    corners = outlines(boxes_of(objects.corners, data.boxes == "oriented"))
    low, high = corners.min(axis=1), corners.max(axis=1)
    lengths = np.where(objects.labels == label, (high - low).max(axis=1), -1)
    shown = int(lengths.argmax())
    side = max(_AROUND * float(lengths[shown]), _LEAST)
    left, top = (low[shown] + high[shown]) / 2 - side / 2
    pixels = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    cut = pixels.transform(
        (_SIDE, _SIDE),
        Image.Transform.EXTENT,
        (left, top, left + side, top + side),
        Image.Resampling.BILINEAR,
    )
    draw = ImageDraw.Draw(cut)
    for place, box in enumerate((corners - (left, top)) * (_SIDE / side)):
        color = colors[objects.labels[place]]
        draw.polygon(
            [tuple(point) for point in box.tolist()],
            outline=color,
            width=3 if place == shown else 1,
        )
    return np.asarray(cut)


def outlines(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the corners `[n, 4, 2]` of boxes, `[n, 4]` or `[n, 8]`."""
    if boxes.shape[1] == 4:
        boxes = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]]
    return boxes.reshape(-1, 4, 2)
