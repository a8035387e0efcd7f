"""COCO's annotation files: one JSON for all images of a part."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from cgeartheye.boxes import corners_of
from cgeartheye.data.formats.flags import flag_of
from cgeartheye.data.formats.outlines import corners_around
from cgeartheye.data.formats.run_lengths import run_ends
from cgeartheye.data.formats.voc_dota_yolo import Annotation, Faults, Id, Written, corners_of_sides
from cgeartheye.utils.errors import UserError

T = TypeVar("T")
_LISTS = ("images", "annotations", "categories")

LABELME_MARKS = frozenset({"_background_", "__ignore__"})
"""Classes of labelme's lists that no object has."""


@dataclass(frozen=True)
class CocoFile:
    """Content of a COCO file.

    Attributes:
        categories: the id of each by its name, in the order of the file.
        images: for each image's `file_name`, where each of its objects is written, and what it is.
        ids: of the images, by `file_name`.
    """

    categories: dict[str, Id]
    images: dict[str, Written]
    ids: dict[str, Id]


def read_coco(path: Path, outlines: bool, faults: Faults) -> CocoFile:
    """Read a COCO file.

    Args:
        path: the file.
        outlines: whether boxes are the smallest rectangles around the outlines (`segmentation`),
            where there are such, rather than `bbox`.
        faults: takes the mistakes of single annotations.

    Raises:
        UserError: it is missing, no JSON, or no COCO file.
    """
    content = _read(path)
    categories: dict[Id, str] = {}
    for category in content["categories"]:
        first_name = categories.setdefault(category["id"], str(category["name"]))
        if first_name != str(category["name"]):
            faults.add(
                f"{path}: the categories '{first_name}' and '{category['name']}'",
                "have the same id: give each its own",
            )
    found: dict[str, Written] = {}
    of_image: dict[Id, Written] = {}
    ids: dict[str, Id] = {}
    for image in content["images"]:
        file_name = str(image["file_name"])
        if file_name in found:
            faults.add(
                f"{path}: the image '{file_name}'",
                "is there twice: bring its annotations together under one id",
            )
            continue
        found[file_name] = []
        if image["id"] in of_image:
            faults.add(
                f"{path}: the image '{file_name}' and another",
                "have the same id, so annotations cannot be assigned: give each its own",
            )
        of_image[image["id"]] = found[file_name]
        ids[file_name] = image["id"]
    listed: list[tuple[Written, str, str, dict[str, Any]]] = []
    for number, annotation in enumerate(content["annotations"]):
        place = f"{path}: annotation {annotation.get('id', number)}"
        objects = _named(of_image, annotation.get("image_id"))
        name = _named(categories, annotation.get("category_id"))
        if objects is None or name is None:
            faults.add(
                place,
                "has an image_id or category_id that the file does not list: correct it, or delete "
                "the annotation",
            )
            continue
        listed.append((objects, place, name, annotation))
    rectangles: list[Sequence[float] | None] = [None] * len(listed)
    if outlines:
        rectangles = corners_around(
            [_outline(one.get("segmentation"), place, faults) for _, place, _, one in listed], True
        )
    for (objects, place, name, annotation), corners in zip(listed, rectangles, strict=True):
        if corners is None:
            corners = _box(annotation, place, faults)
        if corners is not None:
            crowd, ignored = (flag_of(annotation.get(flag)) for flag in ("iscrowd", "ignore"))
            if crowd is None or ignored is None:
                faults.add(place, "has an iscrowd or ignore that is neither 0 nor 1: correct it")
                continue
            objects.append((place, Annotation(name, corners, ignored, crowd)))
    used = {name for _, _, name, _ in listed}
    added = _added(content["categories"]) - used
    first: dict[str, Id] = {}
    for key, name in categories.items():
        if name not in added:
            first.setdefault(name, key)
    return CocoFile(first, found, ids)


def _added(categories: list[dict[str, Any]]) -> set[str]:
    """Return the categories that a tool has added and no one has named.

    Roboflow's first one is that of all others, called after the project; labelme's converter keeps
    two marks of its own.
    """
    above = {str(category.get("supercategory")) for category in categories}
    roots = {
        str(one["name"])
        for one in categories
        if one.get("supercategory") == "none" and str(one["name"]) in above
    }
    return roots | LABELME_MARKS


def _named(table: Mapping[Id, T], key: Any) -> T | None:
    return table.get(key) if isinstance(key, Id) else None


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the content of a file that has COCO's form."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"no annotations {path}: correct data.annotations or restore the file"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; deep nesting
        raise UserError(f"{path} is not JSON ({error}): export the annotations again") from error
    wrong = None
    if not isinstance(content, dict):
        wrong = "its content is a list or a number"
    else:
        absent = [name for name in _LISTS if not isinstance(content.get(name), list)]
        if absent:
            wrong = f"it has no list '{absent[0]}'"
        elif not all(isinstance(one, dict) for name in _LISTS for one in content[name]):
            wrong = "its lists hold something else than objects"
        elif not all({"id", "file_name"} <= image.keys() for image in content["images"]):
            wrong = "an image lacks its id or file_name"
        elif not all({"id", "name"} <= category.keys() for category in content["categories"]):
            wrong = "a category lacks its id or name"
        elif not all(
            isinstance(one["id"], Id) for name in ("images", "categories") for one in content[name]
        ):
            wrong = "an id is neither a number nor a text"
        elif not all(
            is_text(one[field])
            for name, field in (("images", "file_name"), ("categories", "name"))
            for one in content[name]
        ):
            wrong = "a name is no text"
    if wrong:
        raise UserError(
            f"{path} is not a COCO file, {wrong}: export one with images, annotations and "
            "categories, or name another in data.annotations"
        )
    checked: dict[str, list[dict[str, Any]]] = content
    return checked


def is_text(name: Any) -> bool:
    """Return whether a name can be encoded: unpaired surrogates cannot."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return isinstance(name, str | int | float)


def _box(annotation: dict[str, Any], place: str, faults: Faults) -> Sequence[float] | None:
    """Return the corners of a `bbox`; numbers that are not finite are found later.

    CVAT writes a turned box as it was before it was turned, and by how many degrees, clockwise
    around its center, in `attributes`.
    """
    box = annotation.get("bbox")
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(isinstance(number, int | float) for number in box)
        or box[2] < 0
        or box[3] < 0
    ):
        faults.add(
            place, "has no bbox of x, y, width and height: correct it, or delete the annotation"
        )
        return None
    x, y, width, height = _floats(box)
    attributes = annotation.get("attributes")
    turn = attributes.get("rotation") if isinstance(attributes, dict) else None
    if isinstance(turn, int | float) and turn:
        numbers = (x + width / 2, y + height / 2, width, height, math.radians(turn))
        turned: list[float] = (
            corners_of(torch.tensor(numbers, dtype=torch.float64)).flatten().tolist()
        )
        return turned
    return corners_of_sides(x, y, x + width, y + height)


def _floats(numbers: Sequence[float]) -> list[float]:
    """Return numbers as floats; an integer that none can hold is infinite."""
    found = []
    for number in numbers:
        try:
            found.append(float(number))
        except OverflowError:
            found.append(math.inf)
    return found


def _outline(outline: Any, place: str, faults: Faults) -> np.ndarray | None:
    """Return the points of an outline, float64 `[n, 2]`; none: there is none."""
    if not outline:
        return None
    try:
        points = run_ends(outline) if isinstance(outline, dict) else _vertices(outline)
    except (TypeError, ValueError, KeyError, IndexError, OverflowError):
        faults.add(
            place,
            "has a segmentation that is neither polygons nor a run-length code: correct it, or "
            "delete it, for its bbox to count",
        )
        return None
    return points if len(points) else None


def _vertices(polygons: list[list[float]]) -> np.ndarray:
    """Return the points of all polygons, float64 `[n, 2]`: an object may be in several pieces."""
    return np.concatenate([np.array(one, dtype=np.float64).reshape(-1, 2) for one in polygons])
