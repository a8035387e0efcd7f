"""XML files of an image's objects: VOC, DIOR-R, roLabelImg, HRSC2016 and FAIR1M."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np
import torch

from cgeartheye.boxes import corners_of
from cgeartheye.data.formats.flags import flag_of
from cgeartheye.data.formats.outlines import corners_around
from cgeartheye.data.formats.voc_dota_yolo import Annotation, Faults, Written, corners_of_sides

Corners = Sequence[float]
"""Eight numbers, x and y of four corners, in pixels."""

DEEPEST = 100  # elements within each other; those of all these formats are less than ten

_ROOTS = {"annotation": ("object",), "HRSC_Image": ("HRSC_Object",)}
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_CORNERS = tuple(
    f"{axis}_{corner}"
    for corner in ("left_top", "right_top", "right_bottom", "left_bottom")
    for axis in "xy"
)
_TURNED = ("cx", "cy", "w", "h", "angle")  # of roLabelImg: pixels, radians clockwise
_HRSC_TURNED = ("mbox_cx", "mbox_cy", "mbox_w", "mbox_h", "mbox_ang")


def read_xml(path: Path, faults: Faults) -> Written:
    """Read an XML file of VOC, DIOR-R, roLabelImg, HRSC2016 or FAIR1M.

    An object has a `bndbox` (VOC), a `robndbox` with four corners (DIOR-R) or with centre, sides
    and angle (roLabelImg), `mbox_cx` and so on (HRSC2016), or `points` (FAIR1M); a file may mix
    them. The element `type` is not needed.

    Args:
        path: the file; an empty one has no objects.
        faults: takes the mistakes.

    Returns:
        Where each object is written, and what it is; coordinates as they are written.
    """
    try:
        content = path.read_bytes()
        if not content:
            return []
        root, lines = _parse(content)
    except (expat.ExpatError, OSError, ValueError, LookupError) as error:
        faults.add(f"{path} ({error})", "cannot be read as XML: repair the file or replace it")
        return []
    if root.tag not in _ROOTS:
        faults.add(
            f"{path}, whose root is <{root.tag}>,",
            "is not an annotation of VOC, DIOR-R, HRSC2016 or FAIR1M: its root is <annotation> or "
            "<HRSC_Image>; replace the file",
        )
        return []
    found: Written = []
    for number, element in enumerate(_objects(root), start=1):
        place = f"{path}, object {number}"
        name, corners = _name(element), _corners(element)
        if not name or corners is None:
            faults.add(
                place,
                "needs a <name> and a <bndbox> with xmin, ymin, xmax and ymax, or a <robndbox> "
                "with the x and y of four corners or with cx, cy, w, h and angle: add them or "
                "delete the object",
            )
            continue
        written = element.find("difficult")
        difficult = flag_of(None if written is None else written.text)
        if difficult is None:
            assert written is not None
            faults.add(
                f"{path}:{lines[written]}: <difficult>{(written.text or '').strip()}</difficult>",
                "is neither yes nor no: write 1 or 0",
            )
            continue
        found.append((place, Annotation(name, corners, difficult)))
    return found


def _objects(root: Element) -> Iterator[Element]:
    for tag in _ROOTS[root.tag]:
        yield from root.iter(tag)


def _name(element: Element) -> str:
    """Return the class of an object.

    HRSC2016 numbers its classes; the benchmark's one class, and the first of its three levels, is
    `ship`, and all others, 100000002 to 100000032, are kinds of it.
    """
    for path in ("name", "possibleresult/name"):
        if name := (element.findtext(path) or "").strip():
            return name
    number = (element.findtext("Class_ID") or "").strip()
    return "ship" if number.startswith("1000000") else number


def _corners(element: Element) -> Corners | None:
    """Return the corners of an object; none: they are not there, or no numbers."""
    for tag, names, corners in _FORMS:
        box = element if tag is None else element.find(tag)
        if box is not None:
            numbers = _numbers([box.findtext(name) or "" for name in names])
            if numbers is not None:
                return corners(numbers)
    points = [_numbers((point.text or "").split(",")) or [] for point in element.iter("point")]
    if len(points) < 3 or any(len(point) != 2 for point in points):
        return None
    # An outline may repeat its first point; four are corners as they are.
    ring = np.array(points[:-1] if len(points) > 3 and points[0] == points[-1] else points)
    if len(ring) == 4:
        flat: list[float] = ring.flatten().tolist()
        return flat
    return corners_around([ring], oriented=True)[0]


def _turned(numbers: Sequence[float]) -> Corners:
    corners: list[float] = corners_of(torch.tensor(numbers, dtype=torch.float64)).flatten().tolist()
    return corners


def _as_they_are(numbers: Sequence[float]) -> Corners:
    return numbers


def _of_sides(numbers: Sequence[float]) -> Corners:
    return corners_of_sides(*numbers)


_FORMS: tuple[tuple[str | None, tuple[str, ...], Callable[[Sequence[float]], Corners]], ...] = (
    ("robndbox", _CORNERS, _as_they_are),
    ("robndbox", _TURNED, _turned),
    (None, _HRSC_TURNED, _turned),
    ("bndbox", _SIDES, _of_sides),
    (None, tuple(f"box_{side}" for side in _SIDES), _of_sides),
)
"""The element that holds a box (none: the object itself), its numbers, and what they mean."""


def _numbers(texts: Sequence[str]) -> list[float] | None:
    try:
        return [float(text) for text in texts]
    except ValueError:
        return None


def _parse(content: bytes) -> tuple[Element, dict[Element, int]]:
    """Parse XML; return its root, and the line on which each element begins.

    Raises:
        ValueError: it defines entities, or nests elements deeper than `DEEPEST`.
    """
    builder, lines = TreeBuilder(), dict[Element, int]()
    parser = expat.ParserCreate()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"elements nested deeper than {DEEPEST}")
        lines[builder.start(tag, attributes)] = parser.CurrentLineNumber

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def entity(name: str, *_: object) -> None:
        raise ValueError(f"it defines the entity {name}, which no annotation needs")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = entity
    parser.buffer_text = True
    parser.Parse(_decoded(content), True)
    return builder.close(), lines


def _decoded(content: bytes) -> bytes | str:
    """Return XML without the encoding that it declares: the parser can do few, and not GBK."""
    declared = re.match(rb"<\?xml[^>]*encoding=[\"']([\w.-]+)", content)
    if not declared:
        return content
    head, _, rest = content.decode(declared[1].decode()).partition("?>")
    return "\n" * head.count("\n") + rest  # lines keep their numbers
