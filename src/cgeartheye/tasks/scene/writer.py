"""Predicted classes as files: CSV, JSON, GeoJSON."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cgeartheye.data.image_io import read_georeference
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_text

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
    """Refuse a file name whose ending says no known format, before any work is done.

    Raises:
        UserError: it does.
    """
    if path.suffix.lower() not in allowed:
        raise UserError(f"{path}: the file's ending must be one of {', '.join(allowed)}")


def write_rows(path: Path, rows: Sequence[Row], classes: Sequence[str]) -> None:
    """Write predictions in the format that the file's ending says.

    CSV has `path, class, score` (and `truth`); JSON has the probability of every class besides;
    GeoJSON (RFC 7946) has the outline of each image in longitude and latitude, none (`null`) for
    an image without a reference system.

    Raises:
        UserError: GeoJSON of images of which none has a reference system; no permission.
    """
    match path.suffix.lower():
        case ".csv":
            write_text(path, _csv(rows, classes))
        case ".json":
            write_text(path, json.dumps([_full(row, classes) for row in rows], indent=1))
        case ".geojson":
            write_text(path, _geojson(rows, classes))


def _csv(rows: Sequence[Row], classes: Sequence[str]) -> str:
    text = io.StringIO()
    truths = any(row.truth is not None for row in rows)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "class", "score", *(["truth"] if truths else [])])
    for row in rows:
        best = _best(row, classes)
        writer.writerow([row.name, best["class"], best["score"], *([row.truth] if truths else [])])
    return text.getvalue()


def _geojson(rows: Sequence[Row], classes: Sequence[str]) -> str:
    places = [read_georeference(row.path) if row.path else None for row in rows]
    if not any(places):
        raise UserError(
            f"{rows[0].name} and the images after it have no reference system, so GeoJSON cannot "
            "place them: write .csv or .json"
        )
    features = [
        {
            "type": "Feature",
            "geometry": place.geometry if place else None,
            "properties": {"path": row.name, **_best(row, classes)},
        }
        for row, place in zip(rows, places, strict=True)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def _best(row: Row, classes: Sequence[str]) -> dict[str, object]:
    best = int(row.probabilities.argmax())
    return {"class": classes[best], "score": round(float(row.probabilities[best]), 6)}


def _full(row: Row, classes: Sequence[str]) -> dict[str, object]:
    probabilities = {
        name: round(float(p), 6) for name, p in zip(classes, row.probabilities, strict=True)
    }
    truth = {} if row.truth is None else {"truth": row.truth}
    return {"path": row.name, **_best(row, classes), **truth, "probabilities": probabilities}
