"""Position of a scene, and the size of its pixels on the ground."""

import math
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from affine import Affine
from pyproj.exceptions import ProjError
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.io import DatasetReader
from rasterio.transform import from_gcps

from cgeartheye.geo.crs import WGS84, meters_per_pixel
from cgeartheye.geo.rectify import PointFit, Reals, RpcFit, fit_points, fit_rpcs
from cgeartheye.utils.errors import UserError


class Place(NamedTuple):
    """Position of a scene.

    Attributes:
        transform: from pixels (column, row of their upper left corners) to the map.
        crs: its CRS; none if the scene is not georeferenced.
        ground: metres on the ground from one column, and from one row, to the next.
        fit: its ground control points or RPCs, if they place it; `transform` is then the nearest
            affine.
    """

    transform: Affine
    crs: CRS | None
    ground: tuple[float, float]
    fit: PointFit | RpcFit | None = None

    def to_map(self, x: Reals, y: Reals) -> tuple[Reals, Reals]:
        """Return places on the map of columns and rows, by control points if those place it."""
        if self.fit is not None:
            return self.fit.to_map(x, y)
        a, b, c, d, e, f = self.transform[:6]
        return a * x + b * y + c, d * x + e * y + f


def georeference_of(file: DatasetReader) -> tuple[Affine, CRS | None]:
    """Return a raster's transform and CRS, or those of its ground control points.

    Args:
        file: an open raster.

    Returns:
        From pixels to the map, the identity if nothing is known; and the CRS, if any.
    """
    points, crs = file.gcps
    if file.crs is None and points:
        return from_gcps(points), crs
    return file.transform, file.crs


def placement_of(file: DatasetReader) -> dict[str, Any] | None:
    """Return a raster's georeference as rasterio's options for a file with the same one.

    Args:
        file: an open raster.

    Returns:
        Its CRS, and its transform or its ground control points as they are; none if
        it is not georeferenced.
    """
    points, crs = file.gcps
    if file.crs and not file.transform.is_identity:
        return {"crs": file.crs, "transform": file.transform}
    return {"crs": crs, "gcps": points} if points else None


def locate(
    file: DatasetReader, name: str, crs: str | None = None, ground: float | None = None
) -> Place:
    """Find a scene's place from its transform, or from its ground control points.

    Args:
        file: an open raster.
        name: of the scene, for messages.
        crs: the CRS of a scene that does not name its own.
        ground: m/px, of a scene that is not georeferenced; measured from the map otherwise.

    Raises:
        UserError: the scene has no CRS and none is given, nor the size of its pixels.
    """
    transform, own = georeference_of(file)
    if own is None and crs is not None:
        try:
            own = CRS.from_user_input(crs)
        except CRSError as error:
            raise UserError(f"{crs} is no CRS: write it as EPSG:32650") from error
    if own is None or transform.is_identity:
        if ground is None:
            lacks = "no CRS" if own is None else "no place on its map"
            way = "name it with --crs EPSG:CODE, or " if own is None else ""
            if file.rpcs is not None:
                lacks, way = "RPCs alone", "name the heights with --dem FILE or --dem METRES, or "
            raise UserError(
                f"{name} has {lacks}: {way}give the size of its pixels in metres with --input-gsd "
                "(the map is then not georeferenced either)"
            )
        return Place(transform, None if transform.is_identity else own, (ground, ground))
    fit = fit_points(file.gcps[0]) if file.crs is None and file.gcps[0] else None
    if ground is not None:
        return Place(transform, own, (ground, ground), fit)
    return Place(transform, own, _measure(transform, own, file.width, file.height, name), fit)


def pixel_size(path: Path) -> float | None:
    """Return the GSD of an image file in m/px, the mean of its sides, if it is georeferenced."""
    place = place_of(path)
    return place and sum(place.ground) / 2


def place_of(path: Path, dem: str | None = None) -> Place | None:
    """Return the place of an image file; none if it is not georeferenced.

    Args:
        path: of the file.
        dem: of one with RPCs alone, a raster of heights, or one height in metres.

    Raises:
        UserError: a `dem` that is neither file nor number.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with rasterio.open(path) as file:
                fit = fit_rpcs(file, dem)
                if fit is not None:
                    return _place_by(fit, file, str(path))
        except RasterioError:
            return None
        try:
            with rasterio.open(path) as file:
                return locate(file, str(path))
        except (UserError, RasterioError):
            return None


def _place_by(fit: RpcFit, file: DatasetReader, name: str) -> Place:
    """Return the place of a scene that RPCs place."""
    columns = np.array([0.0, file.width, file.width, 0.0])
    rows = np.array([0.0, 0.0, file.height, file.height])
    corners = zip(rows, columns, *fit.to_map(columns, rows), strict=True)
    transform = from_gcps([GroundControlPoint(*map(float, corner)) for corner in corners])
    ground = _measure(transform, WGS84, file.width, file.height, name)
    return Place(transform, WGS84, ground, fit)


def _measure(
    transform: Affine, crs: CRS, width: int, height: int, name: str
) -> tuple[float, float]:
    """Metres along a row and along a column of pixels in the middle of the scene (geodesic)."""
    try:
        ground = meters_per_pixel(transform, crs, width / 2, height / 2)
    except ProjError as error:
        raise UserError(f"{name}: its CRS has no place on Earth: {error}") from error
    if not all(math.isfinite(size) and size > 0 for size in ground):
        raise UserError(f"{name} is beyond the bounds of its CRS {crs.to_string()}")
    return ground
