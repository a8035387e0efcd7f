"""The area of interest: what is outside has no data in the map."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize
from shapely.affinity import translate

from cgeartheye.geo.pair import AnyScene, PairScene
from cgeartheye.geo.reader import Bools, Span
from cgeartheye.geo.vector_reader import reading_vectors
from cgeartheye.geo.warp import PixelGrid, footprint, turn_of, turns
from cgeartheye.utils.errors import UserError


@dataclass(frozen=True)
class Aoi:
    """Polygons in a scene's pixels (x to the right, y down)."""

    tree: shapely.STRtree

    def mask(self, rows: Span, columns: Span) -> Bools:
        """Return which pixels have their middle inside, bool `[rows, columns]`."""
        shape = rows[1] - rows[0], columns[1] - columns[0]
        near = self._near(rows, columns)
        if not len(near):
            return np.zeros(shape, bool)
        place = Affine.translation(columns[0], rows[0])
        shapes = self.tree.geometries.take(near)
        return np.asarray(rasterize(shapes, shape, transform=place, dtype="uint8"), bool)

    def touches(self, rows: Span, columns: Span) -> bool:
        """Return whether any of it may be in a rectangle of pixels."""
        return len(self._near(rows, columns)) > 0

    def _near(self, rows: Span, columns: Span) -> np.ndarray:
        found: np.ndarray = self.tree.query(shapely.box(columns[0], rows[0], columns[1], rows[1]))
        return np.sort(found)


def read_aoi(path: Path, scene: AnyScene) -> Aoi:
    """Read the polygons of a vector file (GeoPackage, Shapefile, GeoJSON, ...).

    Raises:
        UserError: a file that is missing, unreadable, has no CRS or no polygon that
            touches the scene; or a scene that is not georeferenced.
    """
    if scene.crs is None:
        raise UserError(
            f"{scene.name} is not georeferenced, so {path} cannot be applied to it: name its CRS "
            "with --crs EPSG:CODE"
        )
    with reading_vectors(path, "vectors"):
        frame = geopandas.read_file(path)
    if not isinstance(frame, geopandas.GeoDataFrame) or frame.crs is None:
        raise UserError(
            f"{path} has no CRS, so it cannot be applied to a scene: set one with ogr2ogr -a_srs "
            "EPSG:CODE"
        )
    polygons = _polygons(frame.geometry)
    on_map = polygons.to_crs(scene.crs.to_wkt())
    # The scene's map has no place for vertices far away, or one that folds their polygon.
    far = _wide(polygons) | ~np.isfinite(on_map.bounds.to_numpy()).all(axis=1)
    if far.any():
        near = polygons[far].make_valid().intersection(_surroundings(scene, frame.crs))
        on_map = pandas.concat([on_map[~far], _polygons(near).to_crs(on_map.crs)])
    to_pixels = (~scene.transform).to_shapely()
    aoi = Aoi(shapely.STRtree(on_map.affine_transform(to_pixels).to_numpy()))
    if not aoi.touches((0, scene.height), (0, scene.width)):
        raise UserError(f"{path} has no polygon that touches {scene.name}")
    return aoi


def _polygons(shapes: geopandas.GeoSeries) -> geopandas.GeoSeries:
    """All polygons one by one."""
    parts = shapes.explode(ignore_index=True)
    return parts[parts.geom_type == "Polygon"]


def _wide(polygons: geopandas.GeoSeries) -> Bools:
    """Which are larger than about a sixth of the way around the world."""
    west, south, east, north = polygons.bounds.to_numpy().T
    size = np.maximum(east - west, north - south)
    return np.asarray(size > (60 if polygons.crs.is_geographic else 6e6))


def _surroundings(scene: AnyScene, crs: Any) -> shapely.Geometry:
    """Return the ground of a scene and a little more, in a CRS, on all turns around the world."""
    grid = PixelGrid(Affine.identity(), CRS.from_wkt(crs.to_wkt()))
    ground = footprint(scene.before if isinstance(scene, PairScene) else scene, grid)
    west, south, east, north = ground.bounds
    ground = ground.buffer(0.1 * max(east - west, north - south))
    return shapely.union_all([translate(ground, shift) for shift in turns(turn_of(grid))])
