"""Regions: the polygons of a vector file, and which of them holds a point."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from cgeartheye.geo.vector_reader import reading_vectors
from cgeartheye.jlssd.sampling.equal_area_grid import Bounds, Floats
from cgeartheye.utils.errors import UserError

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

Indices = npt.NDArray[np.int32]

NOWHERE = -1
"""In place of a region's index."""


@dataclass(frozen=True)
class Regions:
    """Polygons by region; they stay in their own CRS, points are brought to it.

    Attributes:
        names: of the regions.
        without: names of rows that have no polygon.
        parts: single polygons, those of the file's first row first.
        owners: index into `names` of each part.
        crs: of the parts, as text of PROJ.
    """

    names: tuple[str, ...]
    without: tuple[str, ...]
    parts: npt.NDArray[np.object_]
    owners: Indices
    crs: str

    def holding(self, lon: Floats, lat: Floats) -> tuple[Indices, int]:
        """Return the region that holds each point, and how many points are in several regions.

        Of several regions that overlap, the first in the file is meant.
        """
        x, y = self._to_map.transform(lon, lat)
        found = np.full(len(lon), NOWHERE, np.int32)
        several = np.zeros(len(lon), bool)
        finite = np.isfinite(x) & np.isfinite(y)
        if not finite.any():
            return found, 0
        south, north = y[finite].min(), y[finite].max()
        for turn in (0, 360, -360) if self._in_degrees else (0,):
            moved = x + turn
            box = shapely.box(moved[finite].min(), south, moved[finite].max(), north)
            for part in np.sort(self._tree.query(box)):
                polygon, owner = self.parts[part], self.owners[part]
                shapely.prepare(polygon)
                whole = finite.all() and polygon.contains_properly(box)
                inside = np.full(len(lon), True) if whole else _inside(polygon, moved, y)
                several |= inside & (found != NOWHERE) & (found != owner)
                earlier = (found == NOWHERE) | (owner < found)
                found[inside & earlier] = owner
        return found, int(several.sum())

    def touch(self, around: Bounds) -> npt.NDArray[np.bool_]:
        """Return which rectangles of degrees, within one turn, may hold a part of a region."""
        touched = np.zeros(len(around.west), bool)
        boxes = shapely.box(*around)
        tree = shapely.STRtree(boxes)
        touched[np.unique(tree.query(self._in_a_turn)[1])] = True
        return touched

    @cached_property
    def _in_a_turn(self) -> npt.NDArray[np.object_]:
        """Rectangles around the parts, in degrees from -180 to 180."""
        boxes = []
        back = Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True)
        for part in self.parts:
            if self._in_degrees:
                west, south, east, north = part.bounds
            else:
                left, bottom, right, top = part.bounds
                bounds = back.transform_bounds(left, bottom, right, top, densify_pts=51)
                west, south, east, north = bounds
                east += 360 if east < west else 0
            if not all(map(math.isfinite, (west, south, east, north))) or east - west >= 360:
                west, east = -180.0, 180.0
            south, north = (min(90.0, max(-90.0, v)) for v in (south, north))
            boxes += [shapely.box(west + t, south, east + t, north) for t in (-360, 0, 360)]
        return np.array(boxes, dtype=object)

    @cached_property
    def _in_degrees(self) -> bool:
        return CRS.from_user_input(self.crs).is_geographic

    @cached_property
    def _to_map(self) -> Transformer:
        return Transformer.from_crs("EPSG:4326", self.crs, always_xy=True)

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self.parts)


def read_regions(path: Path, column: str | None = None) -> Regions:
    """Read the polygons of a vector file (GeoPackage, Shapefile, GeoJSON, Parquet, ...).

    Args:
        path: of the file.
        column: whose values name the regions; rows of one name are one region. None: the column
            `name` if there is one, else the rows' numbers, from 1. So are rows without a value.

    Raises:
        UserError: a file that is missing, unreadable, has several layers, no CRS or
            no polygon, or not that column.
    """
    frame = _read(path)
    columns = [name for name in frame.columns if name != frame.geometry.name]
    if column is not None and column not in columns:
        raise UserError(f"{path} has no column {column!r}, only {', '.join(columns) or 'shapes'}")
    if column is None:
        column = next((name for name in columns if name.lower() == "name"), None)
    texts = [""] * len(frame)
    if column is not None:
        # A column of whole numbers with gaps is read as one of fractions.
        values = frame[column].convert_dtypes().astype("string")
        texts = values.fillna("").str.strip().tolist()
    names = [text or f"row {row}" for row, text in enumerate(texts, start=1)]
    order = {name: index for index, name in enumerate(dict.fromkeys(names))}
    parts, owners = [], []
    for name, geometry in zip(names, frame.geometry, strict=True):
        for polygon in _polygons(geometry):
            parts.append(polygon)
            owners.append(order[name])
    if not parts:
        raise UserError(f"{path} holds no polygon, so there are no regions")
    without = tuple(name for name, index in order.items() if index not in set(owners))
    return Regions(
        tuple(order),
        without,
        np.array(parts, dtype=object),
        np.array(owners, np.int32),
        frame.crs.to_wkt(),
    )


def _read(path: Path) -> "GeoDataFrame":
    # The processes that only locate points read no files and need no pandas.
    import geopandas

    with reading_vectors(path, "regions"):
        if path.suffix.lower() in {".parquet", ".geoparquet"}:
            frame = geopandas.read_parquet(path)
        else:
            frame = geopandas.read_file(path, layer=_layer(path), on_invalid="fix")
    if not isinstance(frame, geopandas.GeoDataFrame) or frame.crs is None:
        raise UserError(
            f"{path} has no CRS, so no place on Earth: name it with ogr2ogr -a_srs EPSG:CODE"
        )
    try:
        Transformer.from_crs("EPSG:4326", frame.crs.to_wkt(), always_xy=True)
    except ProjError as error:
        raise UserError(f"{path}: its CRS has no place on Earth: {error}") from error
    return frame


def _layer(path: Path) -> str | None:
    """The one layer of a file that has shapes; beside it may be tables."""
    from pyogrio import list_layers

    layers = [str(name) for name, kind in list_layers(path) if kind is not None]
    if len(layers) > 1:
        raise UserError(
            f"{path} holds {len(layers)} layers ({', '.join(layers)}): write one of them to a "
            f"file with ogr2ogr regions.gpkg {path.name} {layers[-1]}"
        )
    return layers[0] if layers else None


def _inside(polygon: shapely.Polygon, x: Floats, y: Floats) -> npt.NDArray[np.bool_]:
    return np.asarray(shapely.intersects_xy(polygon, x, y))


def _polygons(geometry: shapely.Geometry | None) -> Sequence[shapely.Polygon]:
    """The polygons of a shape, repaired."""
    if geometry is None or geometry.is_empty:
        return ()
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        return ()
    whole = shapely.make_valid(shapely.force_2d(geometry))
    parts = shapely.get_parts(shapely.get_parts(whole))  # of collections in collections
    return [part for part in parts if part.geom_type == "Polygon" and not part.is_empty]
