"""Labels: geometries with a class, in a GeoPackage that QGIS edits too, and their patches."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pandas
import shapely
from pyogrio.errors import DataSourceError
from rasterio.features import rasterize

from cgeartheye.embeddings.store import Embedding, Ints, Reals
from cgeartheye.geo.crs import WGS84
from cgeartheye.utils.console import warn
from cgeartheye.utils.errors import UserError

CLASS, USER, TIME = "class", "user", "time"
LAYER = "labels"

_MOST = 200  # patches of one label that count: a large polygon is not worth thousands of clicks


def read_labels(path: Path, user: str | None = None) -> geopandas.GeoDataFrame:
    """Read labels: points, lines (scribbles), boxes and polygons with a `class`.

    Args:
        path: any vector file; columns `user` and `time` are not required.
        user: whose labels are read; none: everybody's.

    Returns:
        Columns class, user, time (ISO 8601 or empty) and geometry, the oldest first.

    Raises:
        UserError: a file that is missing or damaged, without classes or without labels.
    """
    try:
        frame = geopandas.read_file(path, layer=0)
    except (DataSourceError, OSError, shapely.GEOSException) as error:
        raise UserError(f"{path} cannot be read as labels: {error}") from error
    if CLASS not in frame or not isinstance(frame, geopandas.GeoDataFrame):
        raise UserError(
            f"{path} has no column '{CLASS}' with the name of each label's class: add one"
        )
    for name in (USER, TIME):
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
    columns = [CLASS, USER, TIME, "geometry"]
    return frame.sort_values(TIME, kind="stable")[columns].reset_index(drop=True)


def classes_of(labels: geopandas.GeoDataFrame) -> tuple[str, ...]:
    """Return the names of the classes in order: a background first, others by the alphabet.

    Args:
        labels: of `read_labels`.

    Raises:
        UserError: there is only one.
    """
    names = sorted(set(labels[CLASS]), key=lambda name: (name.lower() != "background", name))
    if len(names) < 2:
        raise UserError(
            f"all labels are of the class {names[0]}: label at least one place of another class"
        )
    return tuple(names)


@dataclass(frozen=True, eq=False)
class LabelledPatches:
    """Patches whose class is known.

    Attributes:
        rows: of the embedding `[n]`.
        columns: of the patches.
        classes: index of each one's class `[n]`.
        labels: number of the label that each is of `[n]`.
        names: of the classes.
    """

    rows: Ints
    columns: Ints
    classes: Ints
    labels: Ints
    names: tuple[str, ...]

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
    classes = np.array([names.index(name) for name in labels[CLASS]], np.int64)
    random = np.random.default_rng(0)
    outside = contradicted = 0
    for number, shape in enumerate(shapes):
        rows, columns = _patches_in(shape, embedding.shape)
        known = embedding.valid[rows, columns]
        rows, columns = rows[known], columns[known]
        if not len(rows):
            outside += 1
            continue
        if len(rows) > _MOST:
            some = np.sort(random.permutation(len(rows))[:_MOST])
            rows, columns = rows[some], columns[some]
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
    rows, columns = np.nonzero(owner >= 0)
    whose = owner[rows, columns]
    return LabelledPatches(rows, columns, classes[whose], whose, names)


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
    shapes: Sequence[Any], classes: Sequence[str], user: str = "", time: str = ""
) -> geopandas.GeoDataFrame:
    """Return labels in longitude and latitude as a table that `write_vectors` takes.

    Args:
        shapes: of shapely.
        classes: name of each one's class.
        user: who labelled.
        time: ISO 8601.
    """
    text = {CLASS: list(classes), USER: [user] * len(shapes), TIME: [time] * len(shapes)}
    columns = {name: pandas.Series(values, dtype="str") for name, values in text.items()}
    return geopandas.GeoDataFrame(columns, geometry=list(shapes), crs=WGS84.to_wkt())
