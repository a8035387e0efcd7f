"""A world cut into chips: what is learned from, what is tested, and the boxes in each."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

import numpy as np
import shapely
from PIL import Image

from cgeartheye.synthetic.materials import SEASONS
from cgeartheye.synthetic.objects import OBJECTS
from cgeartheye.synthetic.world import Objects, World
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_image, write_text

Square = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; right and bottom are outside."""

_Record = dict[str, object]
_CORNERS = ("left_top", "right_top", "right_bottom", "left_bottom")


def split(
    size: int, side: int, test_side: int | None = None, held_out: Literal["east", "north"] = "east"
) -> tuple[list[Square], list[Square]]:
    """Cut a world into squares to learn from, and squares of one third of it to test on.

    In the east there are no harbours, as the river flows in the west; the north has what the south
    has.

    Args:
        size: pixels a side of the world.
        side: of the squares to learn from.
        test_side: of the squares to test on; none: the same.
        held_out: the third that is tested.
    """
    border = held_out_from(size)
    if held_out == "east":
        learned, tested = (0, 0, border, size), (border, 0, size, size)
    else:
        learned, tested = (0, size - border, size, size), (0, 0, size, size - border)
    return _tiles(learned, side), _tiles(tested, test_side or side)


def held_out_from(size: int) -> int:
    """Pixels from the western edge to the eastern third of a world."""
    return size * 2 // 3


def _tiles(area: Square, side: int) -> list[Square]:
    """The whole squares side by side in an area, row by row."""
    left, top, right, bottom = area
    return [
        (x, y, x + side, y + side)
        for y in range(top, bottom - side + 1, side)
        for x in range(left, right - side + 1, side)
    ]


def objects_in(objects: Objects, square: Square) -> Objects:
    """The objects that have at least half of their area in a square, in its own pixels.

    They stay whole: corners may be outside.
    """
    left, top, right, bottom = square
    x0, y0, x1, y1 = objects.horizontal.T
    near = np.flatnonzero((x0 < right) & (x1 > left) & (y0 < bottom) & (y1 > top))
    shapes = shapely.polygons(objects.corners[near])
    inside = shapely.area(shapely.intersection(shapes, shapely.box(*square)))
    kept = objects.select(near[inside >= 0.5 * shapely.area(shapes)])
    corner = np.array([left, top])
    return Objects(kept.labels, kept.horizontal - np.tile(corner, 2), kept.corners - corner)


def write_detection_chips(
    world: World,
    folder: Path,
    part: str,
    squares: Sequence[Square],
    seasons: Sequence[str] = SEASONS,
    dates: Sequence[int] = (1,),
    classes: Sequence[str] = OBJECTS,
) -> int:
    """Write one part of a detection data set in the layouts of DIOR and DIOR-R.

    - `images/<part>/<seed>_<date>_<season>_<top>_<left>.png`; the seasons take turns.
    - `Annotations/Oriented Bounding Boxes/<the same>.xml`: the four corners of each object, from
      the left of its front round with the sun; of objects that the border cuts too, so that some
      corners may be outside.
    - `Annotations/<part>.json` (COCO): the same corners as `segmentation`, and as `bbox` what the
      chip shows of the horizontal box.

    An object belongs to a chip that shows at least half of its area. Chips without objects stay.

    Args:
        world: what is cut.
        folder: the root of the data set.
        part: `trainval` or `test`, as DIOR names them.
        squares: places of the chips, e.g. by `split`.
        seasons: of `SEASONS`.
        dates: 1, 2 or both; every square is cut at each.
        classes: of `OBJECTS`, those that are annotated, in the order of their numbers.

    Returns:
        The number of objects.

    Raises:
        UserError: a class, season or date that there is not, or a folder that cannot be written to.
    """
    if unknown := set(classes) - set(OBJECTS):
        raise UserError(f"classes {sorted(unknown)} are none of {OBJECTS}")
    wanted = [OBJECTS.index(name) for name in classes]
    images: list[_Record] = []
    annotations: list[_Record] = []
    for date in dates:
        pictures = [Image.fromarray(world.image(season, date)) for season in seasons]
        objects = world.boxes(date)
        objects = objects.select(np.isin(objects.labels, wanted))
        for place, square in enumerate(squares):
            left, top, right, bottom = square
            turn = place % len(seasons)
            stem = f"{world.seed}_{date}_{seasons[turn]}_{top}_{left}"
            path = folder / "images" / part / f"{stem}.png"
            write_image(path, pictures[turn].crop(square))
            size = right - left, bottom - top
            number = len(images) + 1
            images.append(
                {"id": number, "file_name": path.name, "width": size[0], "height": size[1]}
            )
            seen = objects_in(objects, square)
            xml = folder / "Annotations" / "Oriented Bounding Boxes" / f"{stem}.xml"
            write_text(xml, _xml(path.name, *size, seen))
            for record in _records(*size, seen, classes):
                annotations.append({"id": len(annotations) + 1, "image_id": number, **record})
    categories = [{"id": n + 1, "name": name} for n, name in enumerate(classes)]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    write_text(folder / "Annotations" / f"{part}.json", json.dumps(coco))
    return len(annotations)


def _records(
    width: int, height: int, objects: Objects, classes: Sequence[str]
) -> Iterator[_Record]:
    """The objects of one chip as COCO has them."""
    for label, bounds, corners in zip(*objects, strict=True):
        x0, y0 = np.maximum(bounds[:2], 0)
        x1, y1 = np.minimum(bounds[2:], (width, height))
        box = np.round([x0, y0, x1 - x0, y1 - y0], 3).tolist()
        yield {
            "category_id": classes.index(OBJECTS[label]) + 1,
            "bbox": box,
            "area": round(box[2] * box[3], 3),
            "segmentation": [corners.ravel().round(3).tolist()],
            "iscrowd": 0,
        }


def _xml(file_name: str, width: int, height: int, objects: Objects) -> str:
    """The annotation of one chip as DIOR-R has it."""
    size = f"<width>{width}</width><height>{height}</height><depth>3</depth>"
    lines = [f"  <filename>{escape(file_name)}</filename>", f"  <size>{size}</size>"]
    for label, corners in zip(objects.labels, objects.corners, strict=True):
        box = "".join(
            f"<{axis}_{corner}>{value:.3f}</{axis}_{corner}>"
            for corner, place in zip(_CORNERS, corners, strict=True)
            for axis, value in zip("xy", place, strict=True)
        )
        lines.append(
            f"  <object><type>robndbox</type><name>{escape(OBJECTS[label])}</name>"
            f"<difficult>0</difficult><robndbox>{box}</robndbox></object>"
        )
    return "\n".join(["<annotation>", *lines, "</annotation>", ""])
