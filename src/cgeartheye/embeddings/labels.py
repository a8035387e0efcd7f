"""Labels: geometries with a class, in a GeoPackage that QGIS edits too, and their patches."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pandas
import shapely
from rasterio.features import rasterize

from cgeartheye.embeddings.store import Bools, Embedding, Ints, Reals
from cgeartheye.geo.crs import WGS84
from cgeartheye.geo.vector_reader import reading_vectors
from cgeartheye.utils.colors import RGB, class_colors, distinct_colors
from cgeartheye.utils.console import warn
from cgeartheye.utils.errors import UserError

CLASS, USER, TIME, COLOR, SOURCE = "class", "user", "time", "color", "source"
LAYER = "labels"
NOT = "not "
"""What the class of a label begins with that only excludes one: 'not water'."""

_MOST = 200  # patches of one label that count: a large polygon is not worth thousands of clicks
_MOST_CLASSES = 255  # of a map in bytes, whose 255 is nodata


def read_labels(path: Path, user: str | None = None) -> geopandas.GeoDataFrame:
    """Read labels: points, lines (scribbles), boxes and polygons with a `class`.

    Args:
        path: any vector file; only the column `class` is required.
        user: whose labels are read; none: everybody's.

    Returns:
        Columns class, user, time (ISO 8601), color (of the class, #rrggbb), source (what a label
        corrects) and geometry, the oldest first; what is not known is empty.

    Raises:
        UserError: a file that is missing or damaged, without classes or without labels.
    """
    with reading_vectors(path, "labels"):
        frame = geopandas.read_file(path, layer=0)
    if CLASS not in frame or not isinstance(frame, geopandas.GeoDataFrame):
        raise UserError(
            f"{path} has no column '{CLASS}' with the name of each label's class: add one"
        )
    for name in (USER, TIME, COLOR, SOURCE):
        frame[name] = frame[name].fillna("").astype(str) if name in frame else ""
    named = frame[CLASS].notna() & frame.geometry.notna() & ~frame.geometry.is_empty
    if not named.all():
        warn(f"{path}: {int((~named).sum())} labels have no class or no geometry, and are left out")
    frame = frame[named]
    if user is not None:
        frame = frame[frame[USER] == user]
    if frame.empty:
        whose = f" of the user {user}" if user is not None else ""
        raise UserError(f"{path} has no label{whose}: draw some first")
    frame = frame.assign(**{CLASS: frame[CLASS].astype(str)})
    columns = [CLASS, USER, TIME, COLOR, SOURCE, "geometry"]
    frame = frame.sort_values(TIME, kind="stable", key=_moments, na_position="first")
    return frame[columns].reset_index(drop=True)


def _moments(times: pandas.Series) -> pandas.Series:
    """Return times as such: as text those of other zones would be out of order."""
    return pandas.to_datetime(times, format="ISO8601", utc=True, errors="coerce")


def named_classes(labels: geopandas.GeoDataFrame) -> tuple[str, ...]:
    """Return the names of the classes: a background first, others as they were first labelled.

    Args:
        labels: of `read_labels`.
    """
    names = dict.fromkeys(name for name in labels[CLASS] if not name.startswith(NOT))
    return tuple(sorted(names, key=lambda name: name.lower() != "background"))


def classes_of(labels: geopandas.GeoDataFrame) -> tuple[str, ...]:
    """Return the names of the classes, of which there are two at least; see `named_classes`.

    Args:
        labels: of `read_labels`.

    Raises:
        UserError: there is only one, or none, or more than a map can have.
    """
    names = named_classes(labels)
    if len(names) < 2:
        what = f"of the class {names[0]}" if names else "what is not there"
        raise UserError(f"all labels are {what}: label at least one place of another class")
    if len(names) > _MOST_CLASSES:
        raise UserError(
            f"the labels have {len(names)} classes, and a map {_MOST_CLASSES} at most: name fewer"
        )
    return names


def class_numbers(labels: geopandas.GeoDataFrame, names: Sequence[str]) -> Ints:
    """Return the index of each label's class `[n]`.

    A label that excludes one of two classes is of the other. With more classes it is of none, -1:
    what is there is not known, but earlier labels there no longer count. So is a correction that
    excludes: its map may have classes that no label has.

    Args:
        labels: of `read_labels`.
        names: of the classes.
    """
    numbers = {name: number for number, name in enumerate(names)}
    others = {f"{NOT}{names[n]}": 1 - n for n in range(2)} if len(names) == 2 else {}
    found = [
        numbers.get(name, -1 if source else others.get(name, -1))
        for name, source in zip(labels[CLASS], labels[SOURCE], strict=True)
    ]
    return np.array(found, np.int64)


def colors_of(labels: geopandas.GeoDataFrame, names: Sequence[str]) -> tuple[RGB, ...]:
    """Return the colors of the classes, all distinct: those of their latest labels, or in order.

    Args:
        labels: of `read_labels`.
        names: of the classes.
    """
    given = {
        name: _rgb(color)
        for name, color in zip(labels[CLASS], labels[COLOR], strict=True)
        if re.fullmatch("#[0-9a-fA-F]{6}", color)
    }
    chosen: dict[RGB, str] = {}
    for name in names:
        if name in given:
            chosen.setdefault(given[name], name)  # of two classes with one color the first has it
    own = {name: color for color, name in chosen.items()}
    others = [*class_colors(names), *distinct_colors(2 * len(names))]
    free = (color for color in dict.fromkeys(others) if color not in chosen)
    return tuple(own[name] if name in own else next(free) for name in names)


def _rgb(color: str) -> RGB:
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


@dataclass(frozen=True, eq=False)
class LabelledPatches:
    """Patches whose class is known.

    Attributes:
        rows: of the embedding `[n]`.
        columns: of the patches.
        classes: index of each one's class `[n]`.
        labels: number of the label that each is of `[n]`.
        names: of the classes.
        covered: all patches that labels are on, more than those above where a label is large or
            only excludes a class, `[rows, columns]`.
    """

    rows: Ints
    columns: Ints
    classes: Ints
    labels: Ints
    names: tuple[str, ...]
    covered: Bools

    def __len__(self) -> int:
        return len(self.rows)


def patches_of(
    labels: geopandas.GeoDataFrame, embedding: Embedding, names: Sequence[str] | None = None
) -> LabelledPatches:
    """Find the patches of labels: of a polygon those whose middle is inside.

    Of a patch that several labels claim the latest one counts.

    Args:
        labels: the oldest first, in any CRS.
        embedding: of the scene.
        names: of the classes; none: those of the labels.

    Raises:
        UserError: labels of one class only, none within the scene, or without a CRS for a scene
            that has one.
    """
    names = tuple(names) if names is not None else classes_of(labels)
    shapes = on_grid(labels, embedding)
    owner = np.full(embedding.shape, -1, np.int64)
    classes = class_numbers(labels, names)
    outside = contradicted = 0
    for number, shape in enumerate(shapes):
        rows, columns = _patches_in(shape, embedding.shape)
        known = embedding.valid[rows, columns]
        rows, columns = rows[known], columns[known]
        if not len(rows):
            outside += 1
            continue
        before = owner[rows, columns]
        before = before[before >= 0]
        contradicted += int((classes[before] != classes[number]).sum())
        owner[rows, columns] = number
    if outside == len(labels):
        raise UserError(
            f"none of the {outside} labels is where {embedding.name} has data: check the scene "
            "and the CRS of the labels"
        )
    if outside:
        warn(f"{outside} of {len(labels)} labels are outside of {embedding.name}: left out")
    if contradicted:
        warn(f"{contradicted} patches have labels of two classes: the later one counts")
    covered = owner >= 0
    owner[~covered | (classes[owner] < 0)] = -1
    rows, columns = _some_of_each(owner)
    whose = owner[rows, columns]
    return LabelledPatches(rows, columns, classes[whose], whose, names, covered)


def _some_of_each(owner: Ints) -> tuple[Ints, Ints]:
    """Rows and columns of at most `_MOST` patches of each label, drawn at random."""
    rows, columns = np.nonzero(owner >= 0)
    whose = owner[rows, columns]
    order = np.random.default_rng(0).permutation(len(whose))
    order = order[np.argsort(whose[order], kind="stable")]
    rank = np.arange(len(order)) - np.searchsorted(whose[order], whose[order])
    some = np.sort(order[rank < _MOST])
    return rows[some], columns[some]


def on_grid(labels: geopandas.GeoDataFrame, embedding: Embedding) -> npt.NDArray[Any]:
    """Return the shapes of labels, x and y counted in patches, `[n]`.

    Args:
        labels: in any CRS.
        embedding: of the scene.

    Raises:
        UserError: the labels have no CRS, and the scene has one.
    """
    shapes = labels.geometry
    if embedding.crs is not None:
        if labels.crs is None:
            raise UserError(
                "the labels have no CRS, and the scene has one: set it with ogr2ogr -a_srs "
                "EPSG:CODE"
            )
        shapes = shapes.to_crs(embedding.crs.to_wkt())
    to_patches: Any = ~embedding.transform

    def place(xy: Reals) -> Reals:
        return np.stack(to_patches @ (xy[:, 0], xy[:, 1]), axis=-1)

    return np.asarray(shapely.transform(shapes.to_numpy(), place))


def _patches_in(shape: Any, size: tuple[int, int]) -> tuple[Ints, Ints]:
    """Rows and columns of the patches of one shape."""
    if not shapely.box(0, 0, size[1], size[0]).intersects(shape):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    lines = shape.geom_type in ("LineString", "MultiLineString")
    low = np.maximum(np.floor(shape.bounds[:2]), 0).astype(int)
    high = np.minimum(np.ceil(np.array(shape.bounds[2:])) + 1, size[::-1]).astype(int)
    if (low >= high).any():  # it only touches the right or lower edge
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    local = shapely.transform(shape, lambda xy: xy - low)
    inside = rasterize(
        [local], (high[1] - low[1], high[0] - low[0]), all_touched=lines, dtype="uint8"
    )
    rows, columns = np.nonzero(inside)
    if not len(rows):  # a point's own patch, or that of a polygon smaller than one
        x, y = shape.representative_point().coords[0]
        rows, columns = np.array([int(y) - low[1]]), np.array([int(x) - low[0]])
        if not (0 <= x < size[1] and 0 <= y < size[0]):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return rows + low[1], columns + low[0]


def frame_of(
    shapes: Sequence[Any],
    classes: Sequence[str],
    user: str = "",
    times: Sequence[str] | None = None,
    colors: Sequence[str] | None = None,
    sources: Sequence[str] | None = None,
) -> geopandas.GeoDataFrame:
    """Return labels in longitude and latitude as a table that `write_vectors` takes.

    Args:
        shapes: of shapely.
        classes: name of each one's class.
        user: who labelled.
        times: ISO 8601; none: not known.
        colors: of the classes, #rrggbb; none: not chosen.
        sources: what each one corrects; none: nothing.
    """
    text = {CLASS: classes, TIME: times, COLOR: colors, SOURCE: sources}
    whole = {name: list(values or [""] * len(shapes)) for name, values in text.items()}
    whole[USER] = [user] * len(shapes)
    columns = {name: pandas.Series(values, dtype="str") for name, values in whole.items()}
    return geopandas.GeoDataFrame(columns, geometry=list(shapes), crs=WGS84.to_wkt())
