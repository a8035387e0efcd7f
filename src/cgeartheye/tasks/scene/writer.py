"""Predicted classes as files: CSV, JSON, GeoJSON."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pandas
import shapely

from cgeartheye.data.image_io import read_georeference
from cgeartheye.geo.vector_writer import write_vectors
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_json, write_text
from cgeartheye.utils.tables import csv_text

ENDINGS = (".csv", ".json", ".geojson")


@dataclass(frozen=True)
class Row:
    """The prediction for one image.

    Attributes:
        name: the image's path as the user knows it, or a name.
        probabilities: `[classes]`, sum 1.
        truth: its class, where that is known.
        path: of the image's file, for where on Earth it is.
    """

    name: str
    probabilities: np.ndarray
    truth: str | None = None
    path: Path | None = None


def check_ending(path: Path, allowed: Sequence[str]) -> None:
    """Refuse a file name whose ending is of no known format, before any work is done.

    Raises:
        UserError: it does.
    """
    if path.suffix.lower() not in allowed:
        raise UserError(f"{path}: the file's ending must be one of {', '.join(allowed)}")


def write_rows(
    path: Path, rows: Sequence[Row], classes: Sequence[str], dem: str | None = None
) -> None:
    """Write predictions in the format of the file's ending.

    CSV has `path, class, score` (and `truth`); JSON has the probability of every class besides;
    GeoJSON (RFC 7946) has the outline of each image in longitude and latitude, none (`null`) for
    an image without a CRS.

    Args:
        path: of the file.
        rows: a prediction each.
        classes: names by index.
        dem: heights for GeoJSON of images with RPCs alone; see `read_georeference`.

    Raises:
        UserError: GeoJSON of images of which none has a CRS; no permission.
    """
    match path.suffix.lower():
        case ".csv":
            write_text(path, _csv(rows, classes))
        case ".json":
            write_json(path, [_full(row, classes) for row in rows])
        case ".geojson":
            _write_geojson(path, rows, classes, dem)


def _csv(rows: Sequence[Row], classes: Sequence[str]) -> str:
    truths = any(row.truth is not None for row in rows)
    head = ["path", "class", "score", *(["truth"] if truths else [])]
    best = [_best(row, classes) for row in rows]
    return csv_text(
        head,
        (
            [row.name, one["class"], one["score"], *([row.truth] if truths else [])]
            for row, one in zip(rows, best, strict=True)
        ),
    )


def _write_geojson(
    path: Path, rows: Sequence[Row], classes: Sequence[str], dem: str | None
) -> None:
    places = [read_georeference(row.path, dem) if row.path else None for row in rows]
    check_placed(places, rows[0].name)
    table = [{"path": row.name, **_best(row, classes)} for row in rows]
    outlines = [shapely.geometry.shape(place.geometry) if place else None for place in places]
    write_geojson(path, table, outlines)


def check_geojson(out: Path, paths: Sequence[Path | None], dem: str | None) -> None:
    """Refuse GeoJSON of images without a CRS before anything is predicted.

    Args:
        out: the file that is to be written, in any format.
        paths: of the images; none: of an array.
        dem: for images with RPCs alone; see `read_georeference`.

    Raises:
        UserError: GeoJSON is asked for, and no image is georeferenced.
    """
    if out.suffix.lower() == ".geojson" and paths:
        places = (path and read_georeference(path, dem) for path in paths)
        check_placed(places, str(paths[0]))


def check_placed(places: Iterable[object | None], first: str) -> None:
    """Refuse GeoJSON if no image is georeferenced.

    Args:
        places: of the images, taken up to the first.
        first: name of the first.

    Raises:
        UserError: there is no place.
    """
    if not any(places):
        raise UserError(
            f"{first} and the images after it have no CRS, so GeoJSON cannot hold them: write "
            ".csv or .json"
        )


def write_geojson(
    path: Path,
    table: Sequence[Mapping[str, object]],
    outlines: Sequence[shapely.Geometry | None],
) -> None:
    """Write predictions of georeferenced images.

    Args:
        path: where to.
        table: `path`, `class` and `score` of each.
        outlines: of each, in longitude and latitude; none: it is not georeferenced.

    Raises:
        UserError: it cannot be written.
    """
    kinds = {"path": "str", "class": "str", "score": "float64"}
    attributes = pandas.DataFrame(table, columns=list(kinds)).astype(kinds)
    frame = geopandas.GeoDataFrame(attributes, geometry=list(outlines), crs=4326)
    write_vectors([frame], path)


def _best(row: Row, classes: Sequence[str]) -> dict[str, object]:
    best = int(row.probabilities.argmax())
    return {"class": classes[best], "score": round(float(row.probabilities[best]), 6)}


def _full(row: Row, classes: Sequence[str]) -> dict[str, object]:
    probabilities = {
        name: round(float(p), 6) for name, p in zip(classes, row.probabilities, strict=True)
    }
    truth = {} if row.truth is None else {"truth": row.truth}
    return {"path": row.name, **_best(row, classes), **truth, "probabilities": probabilities}
