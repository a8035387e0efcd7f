"""The area of interest: what is outside has no data in the map."""

from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import shapely
from affine import Affine
from rasterio.features import rasterize

from cgeartheye.geo.pair import AnyScene
from cgeartheye.geo.reader import Bools, Span
from cgeartheye.geo.vector_reader import reading_vectors
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
    on_map = frame.geometry.to_crs(scene.crs.to_wkt())
    polygons = on_map[on_map.geom_type.isin(["Polygon", "MultiPolygon"])]
    to_pixels = (~scene.transform).to_shapely()
    parts = shapely.get_parts(polygons.affine_transform(to_pixels).to_numpy())
    aoi = Aoi(shapely.STRtree(parts))
    if not aoi.touches((0, scene.height), (0, scene.width)):
        raise UserError(f"{path} has no polygon that touches {scene.name}")
    return aoi
