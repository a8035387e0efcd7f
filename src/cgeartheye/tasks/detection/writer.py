"""Predicted boxes as files: CSV, COCO's JSON, GeoJSON, DOTA's folder of text files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import torch
from rasterio.warp import transform_geom

from cgeartheye.boxes import Detections, corners_of
from cgeartheye.data.formats.voc_dota_yolo import Id
from cgeartheye.data.image_io import quiet
from cgeartheye.geo.georeference import Place, place_of
from cgeartheye.tasks.scene import writer as tables
from cgeartheye.utils.io import write_json, write_text
from cgeartheye.utils.tables import csv_text

LEAST_SCORE = 0.05  # of boxes in tables; those below serve nothing but the figures of a test

_CORNERS = ("x0", "y0", "x1", "y1", "x2", "y2", "x3", "y3")


@dataclass(frozen=True)
class Row:
    """Detections of an image.

    Attributes:
        path: of the image's file, for where on Earth it is.
        name: as the user knows it.
        preds: in pixels of the image.
        image_id: in a COCO file.
        given: the path as it was given to a command, for the column `path`; none: `name`.
    """

    path: Path | None
    name: str
    preds: Detections
    image_id: Id | None = None
    given: str | None = None

    @property
    def shown(self) -> str:
        """The image in tables."""
        return self.given or self.name


def check_ending(out: Path, tested: bool) -> None:
    """Refuse a file name whose ending is of no known format, before any work is done.

    Raises:
        UserError: it does.
    """
    if out.suffix or out.is_file():
        tables.check_ending(out, tables.ENDINGS[:2] if tested else tables.ENDINGS)


def write_boxes(
    out: Path,
    rows: Sequence[Row],
    classes: Sequence[str],
    category_ids: Mapping[str, Id] | None = None,
    dem: str | None = None,
) -> None:
    """Write boxes in the format of the file's ending; the best of each image first.

    CSV has `path, class, score` and the four corners; JSON has COCO's results, with the ids
    of the file that was tested on or else numbers, of images from 0 and of categories from 1, and
    with `file_name` and `corners` besides; GeoJSON (RFC 7946)
    has polygons in longitude and latitude. Without an ending it is a folder of DOTA's text files,
    one a class: `Task1_<class>.txt` with lines `image score x0 y0 .. x3 y3`, or, of horizontal
    boxes, `Task2_<class>.txt` with `image score x0 y0 x1 y1`; images are named by their stems, or,
    where two have the same, by their paths. Test figures take all boxes, however
    weak; files leave out those below `LEAST_SCORE`.

    Args:
        out: the file or folder.
        rows: of each image.
        classes: names by label.
        category_ids: of the classes in a COCO file.
        dem: heights for GeoJSON of images with RPCs alone; see `place_of`.

    Raises:
        UserError: GeoJSON of images of which none has a CRS; no permission.
    """
    match out.suffix.lower():
        case ".csv":
            write_text(out, _csv(rows, classes))
        case ".json":
            numbers = category_ids or {name: label + 1 for label, name in enumerate(classes)}
            boxes = [
                _coco(number if row.image_id is None else row.image_id, row, one, classes, numbers)
                for number, row, one in _each(rows)
            ]
            write_json(out, boxes, indent=None)
        case ".geojson":
            _write_geojson(out, rows, classes, dem)
        case _:
            distinct = len({row.name for row in rows}) == len(rows)
            images = _unique_names([row.name if distinct else row.shown for row in rows])
            for label, name in enumerate(classes):
                lines = [
                    f"{images[number]} {one.score:.6f} {_spaced(one.dota)}\n"
                    for number, _, one in _each(rows)
                    if one.label == label
                ]
                task = 2 if rows and rows[0].preds.boxes.shape[1] == 4 else 1
                file = f"Task{task}_{name}.txt".replace("/", "_")
                write_text(out / file, "".join(lines))


def _unique_names(names: Sequence[str]) -> list[str]:
    """Return images' stems if all differ, else their paths without or with their suffixes."""
    stems = [Path(name).stem for name in names]
    paths = [Path(name).with_suffix("").as_posix() for name in names]
    return next((some for some in (stems, paths) if len(set(some)) == len(some)), list(names))


@dataclass(frozen=True)
class _Box:
    label: int
    score: float
    numbers: list[float]
    corners: list[float]

    @property
    def dota(self) -> list[float]:
        """Return the corners as DOTA's files have them: two if it is horizontal, else all four."""
        return self.numbers if len(self.numbers) == 4 else self.corners


def _each(rows: Sequence[Row]) -> Iterator[tuple[int, Row, _Box]]:
    for number, row in enumerate(rows):
        preds = row.preds[row.preds.scores >= LEAST_SCORE]
        for label, score, numbers, corners in zip(
            preds.labels.tolist(),
            preds.scores.tolist(),
            preds.boxes.tolist(),
            _corners(preds).tolist(),
            strict=True,
        ):
            yield number, row, _Box(label, score, numbers, [round(at, 3) for at in corners])


def _corners(preds: Detections) -> torch.Tensor:
    """Corners `[n, 8]`, from the upper left one on."""
    if preds.boxes.shape[1] == 5:
        return corners_of(preds.boxes).flatten(1)
    return preds.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]]


def _csv(rows: Sequence[Row], classes: Sequence[str]) -> str:
    return csv_text(
        ["path", "class", "score", *_CORNERS],
        (
            [row.shown, classes[one.label], round(one.score, 6), *one.corners]
            for _, row, one in _each(rows)
        ),
    )


def _coco(
    image_id: Id, row: Row, one: _Box, classes: Sequence[str], numbers: Mapping[str, Id]
) -> dict[str, Any]:
    xs, ys = one.corners[0::2], one.corners[1::2]
    low = min(xs), min(ys)
    angle = {"angle": one.numbers[4]} if len(one.numbers) == 5 else {}
    return {
        "image_id": image_id,
        "file_name": row.name,
        "category_id": numbers.get(classes[one.label]),
        "category": classes[one.label],
        "bbox": [round(at, 3) for at in (*low, max(xs) - low[0], max(ys) - low[1])],
        "score": round(one.score, 6),
        "corners": one.corners,
        **angle,
    }


def _write_geojson(
    path: Path, rows: Sequence[Row], classes: Sequence[str], dem: str | None
) -> None:
    places = [place_of(row.path, dem) if row.path else None for row in rows]
    tables.check_placed(places, rows[0].name)
    table, outlines = [], []
    for number, row, one in _each(rows):
        table.append({"path": row.shown, "class": classes[one.label], "score": round(one.score, 6)})
        outlines.append(_outline(one, places[number]))
    tables.write_geojson(path, table, outlines)


def _outline(one: _Box, place: Place | None) -> shapely.Geometry | None:
    """Return a box in longitude and latitude; none: no georeference."""
    if place is None or place.crs is None:
        return None
    x, y = place.to_map(np.array(one.corners[0::2], float), np.array(one.corners[1::2], float))
    ring = list(zip(x.tolist(), y.tolist(), strict=True))
    outline = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    with quiet():
        return shapely.geometry.shape(transform_geom(place.crs, "EPSG:4326", outline))


def _spaced(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:.1f}" for number in numbers)
