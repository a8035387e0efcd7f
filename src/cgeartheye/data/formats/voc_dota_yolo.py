"""Annotations, and text files of DOTA and YOLO; XML is in `annotation_xml.py`.

A mistake does not end the reading: it is noted with its file and line, so that the check can list
all of them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import yaml

from cgeartheye.data.formats.flags import flag_of
from cgeartheye.data.formats.outlines import corners_around
from cgeartheye.data.index.scene import Problem, more
from cgeartheye.utils.errors import UserError, nearest

Id = int | float | str
"""Of an image or a category in a COCO file."""

Kind = Literal["xml", "dota", "yolo", "labelme", "geojson"]
"""XML of VOC and its kin, text of DOTA or YOLO, JSON of labelme, GeoJSON of SpaceNet."""

_KINDS: dict[str, Kind] = {".xml": "xml", ".json": "labelme", ".geojson": "geojson"}

NAMES = (
    "data.yaml",
    "data.yml",
    "dataset.yaml",
    "classes.txt",
    "obj.names",
    "_darknet.labels",
    "labels.txt",
)
"""Files that name YOLO's classes by index."""

_DOTA_COLUMNS = (9, 10)  # with `difficult`, and without
_DOTA_HEAD = ("imagesource", "gsd")


@dataclass(frozen=True)
class Objects:
    """The objects of an image, as they are annotated.

    Attributes:
        corners: float64 `[n, 4, 2]`, x and y in pixels of the image on disk, in the file's order.
        labels: int64 `[n]`, the index of the class of each.
        ignored: bool `[n]`: those that count neither way in a test, as difficult ones.
        crowds: bool `[n]`: those that stand for many objects; they are ignored too.
        where: the annotation file.
        image_id: in a COCO file.
    """

    corners: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    ignored: npt.NDArray[np.bool_]
    crowds: npt.NDArray[np.bool_]
    where: Path
    image_id: Id | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Annotation:
    """One object as it is written: its class, its corners, 8 numbers, and its flags."""

    name: str
    corners: Sequence[float]
    ignored: bool = False
    crowd: bool = False


Written = list[tuple[str, Annotation]]
"""The objects of an image: where each is written, in words, and what it is."""


class Faults:
    """Mistakes in files, brought together by what is to be done about them."""

    def __init__(self) -> None:
        self._cases: dict[str, list[str]] = {}

    def add(self, case: str, advice: str) -> None:
        """Note a case, such as a file and a line; with the advice it makes a sentence."""
        self._cases.setdefault(advice, []).append(case)

    def problems(self) -> list[Problem]:
        """Return a problem for each advice."""
        return [
            Problem(f"{cases[0]}{more(cases)} {advice}", cases)
            for advice, cases in self._cases.items()
        ]


def spellings(classes: Sequence[str]) -> dict[str, int]:
    """Return the index of each class by its name as it is, and in lower case.

    Upper and lower case are one, for DIOR's files write Expressway-Service-area, but where two
    classes would be the same.
    """
    folded = [name.casefold() for name in classes]
    alike = {name: label for label, name in enumerate(folded) if folded.count(name) == 1}
    return alike | {name: label for label, name in enumerate(classes)}


def label_of(name: str, labels: Mapping[str, int]) -> int | None:
    """Return the index of a class by a name as annotations write it; none: it is of no class."""
    return labels.get(name, labels.get(name.casefold()))


def gather(
    found: Written, labels: Mapping[str, int], classes: tuple[str, ...], where: Path, faults: Faults
) -> Objects:
    """Bring the objects of an image together, but for those with a mistake.

    Args:
        found: the objects.
        labels: see `spellings`.
        classes: names by index.
        where: the annotation file.
        faults: takes the mistakes.
    """
    kept: list[tuple[int, Annotation]] = []
    for place, one in found:
        label = label_of(one.name, labels)
        if label is None:
            faults.add(
                f"{place}: the class '{one.name}'",
                f"is not among the {len(classes)} classes{nearest(one.name, list(classes))}: "
                "rename it there, or correct data.classes",
            )
        elif not all(map(math.isfinite, one.corners)):
            faults.add(place, "has a corner that is no finite number: correct or delete the object")
        else:
            kept.append((label, one))
    return Objects(
        np.array([one.corners for _, one in kept], dtype=np.float64).reshape(-1, 4, 2),
        np.array([label for label, _ in kept], dtype=np.int64),
        np.array([one.ignored or one.crowd for _, one in kept], dtype=bool),
        np.array([one.crowd for _, one in kept], dtype=bool),
        where,
    )


def corners_of_sides(x0: float, y0: float, x1: float, y1: float) -> tuple[float, ...]:
    """Return the corners of a horizontal box, 8 numbers, clockwise from the top left.

    Args:
        x0: left side, pixels.
        y0: top.
        x1: right side.
        y1: bottom.
    """
    return x0, y0, x1, y0, x1, y1, x0, y1


def kind_of(files: Iterable[Path]) -> Kind:
    """Distinguish DOTA's text from YOLO's by the first line that is of one of them.

    Only DOTA's begins with a head or has a class name behind the corners; where no line is of
    either, each is right.
    """
    for path in files:
        if path.suffix.lower() in _KINDS:
            return _KINDS[path.suffix.lower()]
        for line in lines_of(path, Faults()):
            columns = line.split()
            numbers = [_numbers([column]) is not None for column in columns]
            if _is_yolo(len(columns)) and all(numbers):
                return "yolo"
            if line.startswith(_DOTA_HEAD) or (len(columns) in _DOTA_COLUMNS and all(numbers[:8])):
                return "dota"
    return "yolo"


def read_dota(path: Path, faults: Faults) -> Written:
    """Read a text file of DOTA: lines `x1 y1 x2 y2 x3 y3 x4 y4 class difficult`.

    Returns:
        As `read_xml`. The head, lines `imagesource:` and `gsd:`, is not about the objects, and
        a missing last column means: not difficult.
    """
    found: Written = []
    for number, line in enumerate(lines_of(path, faults), start=1):
        columns = line.split()
        if not columns or columns[0].startswith(_DOTA_HEAD):
            continue
        place = f"{path}:{number}"
        corners = _numbers(columns[:8])
        difficult = flag_of(columns[9] if len(columns) == 10 else None)
        if len(columns) not in _DOTA_COLUMNS or corners is None or difficult is None:
            faults.add(
                place,
                "is not x1 y1 x2 y2 x3 y3 x4 y4 class difficult, as in DOTA's files: correct the "
                "line or delete it",
            )
            continue
        found.append((place, Annotation(columns[8], corners, difficult)))
    return found


def read_yolo(
    path: Path, size: tuple[int, int], names: Sequence[str], oriented: bool, faults: Faults
) -> Written:
    """Read a text file of YOLO: `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 ...`.

    Args:
        path: the file; its numbers are shares of the image's width and height.
        size: width and height of the image in pixels.
        names: of the classes by index.
        oriented: whether an outline of other than four points becomes the smallest rectangle
            around it, or the box along the axes.
        faults: takes the mistakes.

    Returns:
        As `read_dota`.
    """
    read: list[tuple[str, str, npt.NDArray[np.float64]]] = []
    for number, line in enumerate(lines_of(path, faults), start=1):
        columns = line.split()
        if not columns:
            continue
        place = f"{path}:{number}"
        numbers = _numbers(columns)
        if not _is_yolo(len(columns)) or numbers is None:
            faults.add(
                place,
                "is not class cx cy w h, class x1 y1 x2 y2 x3 y3 x4 y4, or class and an outline, "
                "as in YOLO's files: correct the line or delete it",
            )
            continue
        index, *shares = numbers
        if not (index.is_integer() and 0 <= index < len(names)):
            faults.add(
                f"{place}: class {columns[0]}",
                f"is out of range: {len(names)} classes are named, so it is 0 to "
                f"{len(names) - 1}; correct the line or the list of classes",
            )
            continue
        if len(shares) == 4:
            cx, cy, w, h = shares
            shares = list(corners_of_sides(cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
        points = np.array(shares, dtype=np.float64).reshape(-1, 2) * size
        read.append((place, names[int(index)], points))
    # Four points are a box as it is.
    outlines = [None if len(points) == 4 else points for _, _, points in read]
    boxes = corners_around(outlines, oriented)
    return [
        (place, Annotation(name, points.flatten().tolist() if corners is None else corners))
        for (place, name, points), corners in zip(read, boxes, strict=True)
    ]


def _is_yolo(columns: int) -> bool:
    """Return whether a line has as many columns as one of YOLO's: a box, or an outline."""
    return columns == 5 or (columns >= 7 and columns % 2 == 1)


def read_names(folders: Iterable[Path]) -> tuple[str, ...]:
    """Return the names of YOLO's class indices that a file beside the labels lists; none: ().

    A catalog's order is not taken for them: YOLO's files of DOTA have another.

    Args:
        folders: where it may be, the likeliest first.

    Raises:
        UserError: there is such a file, but without names, or with one twice.
    """
    files = (folder / name for folder in folders for name in NAMES)
    path = next(filter(Path.is_file, files), None)
    if path is None:
        return ()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: save it as UTF-8") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    names = _names_in_yaml(text) if path.suffix in (".yaml", ".yml") else lines
    if names is None:
        raise UserError(
            f"{path} has no 'names', a list of classes or one name for each index from 0: "
            "correct it, or delete it and name them in data.classes"
        )
    found = tuple(map(str, names))
    if len(set(found)) < len(found):
        raise UserError(f"{path} names a class twice: each index has a name of its own")
    return found


def _names_in_yaml(text: str) -> list[Any] | None:
    """Return YOLO's list `names`, which may also be written as one name for each index."""
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None  # PyYAML raises all of these
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and names.keys() == set(range(len(names))):
        names = [names[index] for index in range(len(names))]
    return names if isinstance(names, list) else None


def lines_of(path: Path, faults: Faults) -> list[str]:
    """Return the lines of a text file; of one that is no text none, and a fault."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        faults.add(str(path), "cannot be read as text: save it as UTF-8")
        return []


def _numbers(texts: Sequence[str]) -> list[float] | None:
    try:
        return [float(text) for text in texts]
    except ValueError:
        return None
