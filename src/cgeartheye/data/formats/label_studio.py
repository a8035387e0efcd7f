"""Label Studio's own JSON: one file for all images of a project."""

import json
import math
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from cgeartheye.data.formats.coco import CocoFile, is_text
from cgeartheye.data.formats.outlines import corners_around
from cgeartheye.data.formats.voc_dota_yolo import Annotation, Faults, Id, Written
from cgeartheye.data.image_io import SUFFIXES
from cgeartheye.utils.errors import UserError

_HEAD = 4_096  # bytes in which the first task begins
_UPLOADED = re.compile(r"[0-9a-f]{8}-")  # what an upload gets before its file's name
_SHAPES = frozenset({"rectangle", "polygon", "ellipse", "brush", "keypoint"})


def is_label_studio(path: Path) -> bool:
    """Return whether a JSON file is a list of objects, as Label Studio's; COCO's is an object."""
    try:
        with path.open("rb") as file:
            return re.match(rb"(\xef\xbb\xbf)?\s*\[\s*\{", file.read(_HEAD)) is not None
    except OSError:
        return False


def read_label_studio(
    path: Path, stems: Collection[str], oriented: bool, faults: Faults
) -> CocoFile:
    """Read the rectangles, turned or not, and polygons of a project.

    Of several annotations of an image the one that is marked as ground truth counts, else the
    newest; a task without one is not labeled yet, and left out.

    Args:
        path: the file.
        stems: of the images on disk, to find out whether they have the names that uploads get.
        oriented: whether a polygon becomes the smallest rectangle around it, or the box along the
            axes.
        faults: takes the mistakes of single tasks and regions.

    Returns:
        Its annotations in the form of a COCO file, without an order of the classes.

    Raises:
        UserError: it is missing or no such file.
    """
    images: dict[str, Written] = {}
    ids: dict[str, Id] = {}
    read: list[tuple[Written, str, str, np.ndarray, bool]] = []
    for number, task in enumerate(_tasks(path), start=1):
        result = _result(task)
        if result is None:
            continue
        task_id = task["id"] if isinstance(task.get("id"), int) else number
        place, name = f"{path}: task {task_id}", _image_of(task, stems)
        if name is None:
            faults.add(place, "names no image in its data: correct it or delete the task")
        elif name in images:
            faults.add(f"{path}: the image '{name}'", "is in two tasks: delete one of them")
        else:
            images[name], ids[name] = [], task_id
            for where, region in _regions(result, place, faults):
                label, points = _label(region), _outline(region)
                if label is None or points is None:
                    faults.add(
                        where,
                        "needs one label, and x, y, width and height, or points, in percent of "
                        "original_width and original_height, of an image that is not turned: "
                        "correct it in Label Studio or delete it",
                    )
                else:
                    is_box = "points" not in region["value"]
                    read.append((images[name], where, label, points, is_box))
    outlines = [None if is_box else points for *_, points, is_box in read]
    boxes = corners_around(outlines, oriented)
    for (objects, where, label, points, _), corners in zip(read, boxes, strict=True):
        written = points.flatten().tolist() if corners is None else corners
        objects.append((where, Annotation(label, written)))
    return CocoFile({}, images, ids)


def _tasks(path: Path) -> list[dict[str, Any]]:
    try:
        tasks = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"no annotations {path}: correct data.annotations") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}): export the annotations again") from error
    if not all(
        isinstance(task, dict)
        and isinstance(task.get("data"), dict)
        and isinstance(task.get("annotations"), list)
        and all(
            isinstance(one, dict) and isinstance(one.get("result"), list)
            for one in task["annotations"]
        )
        for task in tasks
    ):
        raise UserError(
            f"{path} is neither COCO's JSON nor Label Studio's, with the data, annotations and "
            "results of each task: export it as JSON, not JSON-MIN, or name another in "
            "data.annotations"
        )
    checked: list[dict[str, Any]] = tasks
    return checked


def _result(task: dict[str, Any]) -> list[Any] | None:
    """Return the regions of the annotation that counts; none: the image is not labeled."""
    given = [one for one in task["annotations"] if not one.get("was_cancelled")]
    rank = [(bool(one.get("ground_truth")), str(one.get("created_at"))) for one in given]
    result: list[Any] | None = given[rank.index(max(rank))]["result"] if given else None
    return result


def _image_of(task: dict[str, Any], stems: Collection[str]) -> str | None:
    """Return the path of a task's image, as it is called on disk; none: the task has none.

    The labeling interface decides under which name the data hold it; `file_upload` may also be
    the table that the tasks came from.
    """
    data = task["data"]
    for text in (data.get("image"), *data.values(), task.get("file_upload")):
        if not isinstance(text, str) or not is_text(text):
            continue
        try:
            address = urlsplit(text)
        except ValueError:
            continue
        # Files of the machine that Label Studio runs on: /data/local-files/?d=folder/a.png
        local = parse_qs(address.query).get("d")
        name = (local[0] if local else unquote(address.path)).replace("\\", "/")
        folder, slash, file = name.rpartition("/")
        if Path(file).suffix.lower() in SUFFIXES:
            uploaded = Path(file).stem not in stems and _UPLOADED.match(file)
            return f"{folder}{slash}{file[uploaded.end() :] if uploaded else file}"
    return None


def _regions(result: list[Any], place: str, faults: Faults) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the regions labelled as objects: not choices and texts on the whole image.

    An interface with shapes and labels apart writes both of an object, with the same id.
    """
    kinds = [str(one.get("type")) if isinstance(one, dict) else None for one in result]
    labeled = {
        str(region.get("id"))
        for region, kind in zip(result, kinds, strict=True)
        if kind and kind.endswith("labels")
    }
    for number, (region, kind) in enumerate(zip(result, kinds, strict=True), start=1):
        where = f"{place}, region {number}"
        if kind is None:
            faults.add(where, "is no region: delete it")
        elif kind.endswith("labels"):
            yield where, region
        elif kind in _SHAPES and str(region.get("id")) not in labeled:
            faults.add(where, "has no label: give it one in Label Studio or delete it")


def _label(region: dict[str, Any]) -> str | None:
    value = region.get("value")
    labels = value.get(region["type"]) if isinstance(value, dict) else None
    if not isinstance(labels, list) or len(labels) != 1 or not is_text(labels[0]):
        return None
    return str(labels[0]).strip() or None


def _outline(region: dict[str, Any]) -> np.ndarray | None:
    """Return the points of a rectangle or polygon in pixels, float64 `[n, 2]`; none: it is none.

    A rectangle is turned clockwise around its first corner, in pixels, not in percent.
    """
    try:
        value = region["value"]
        wide, high = (float(region[f"original_{side}"]) / 100 for side in ("width", "height"))
        if region.get("image_rotation") or not (wide > 0 and high > 0):
            return None
        if "points" in value:
            points = np.array(value["points"], np.float64)
            fits = points.ndim == 2 and points.shape[1] == 2 and len(points) >= 3
            return points * (wide, high) if fits else None
        x, y, width, height = (float(value[name]) for name in ("x", "y", "width", "height"))
        turn = math.radians(value.get("rotation") or 0)
        cos, sin = math.cos(turn), math.sin(turn)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if width < 0 or height < 0:
        return None
    x, y, width, height = x * wide, y * high, width * wide, height * high
    (ax, ay), (dx, dy) = (width * cos, width * sin), (-height * sin, height * cos)
    return np.array([(x, y), (x + ax, y + ay), (x + ax + dx, y + ay + dy), (x + dx, y + dy)])
