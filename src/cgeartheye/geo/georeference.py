"""Where a scene lies and how large its pixels are on the ground."""

import math
import warnings
from pathlib import Path
from typing import NamedTuple

import rasterio
from affine import Affine
from pyproj import Geod, Transformer
from pyproj.exceptions import ProjError
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.io import DatasetReader
from rasterio.transform import from_gcps

from cgeartheye.utils.errors import UserError

_WGS84 = Geod(ellps="WGS84")
_STEP = 50.0  # pixels to each side of the middle over which the ground is measured


class Place(NamedTuple):
    """Where a scene lies.

    Attributes:
        transform: from pixels (column, row of their upper left corners) to the map.
        crs: its reference system; none if the scene is not on a map.
        ground: metres on the ground from one column, and from one row, to the next.
    """

    transform: Affine
    crs: CRS | None
    ground: tuple[float, float]


def locate(
    file: DatasetReader, name: str, crs: str | None = None, ground: float | None = None
) -> Place:
    """Find a scene's place from its transform, or from its ground control points.

    Args:
        file: an open raster.
        name: of the scene, for messages.
        crs: the reference system of a scene that does not name its own.
        ground: metres a pixel, of a scene that is not on a map; measured from the map otherwise.

    Raises:
        UserError: the scene has no reference system and none is given, nor the size of its pixels.
    """
    own, transform = file.crs, file.transform
    points, points_crs = file.gcps
    if own is None and points:
        own, transform = points_crs, from_gcps(points)
    if own is None and crs is not None:
        try:
            own = CRS.from_user_input(crs)
        except CRSError as error:
            raise UserError(f"{crs} is no reference system: write it as EPSG:32650") from error
    if own is None or transform.is_identity:
        if ground is None:
            lacks = "no reference system" if own is None else "no place on its map"
            way = "name it with --crs EPSG:CODE, or " if own is None else ""
            raise UserError(
                f"{name} has {lacks}: {way}give the size of its pixels in metres with "
                "--input-gsd (the map is then on no map either)"
            )
        return Place(transform, None if transform.is_identity else own, (ground, ground))
    if ground is not None:
        return Place(transform, own, (ground, ground))
    return Place(transform, own, _measure(transform, own, file.width, file.height, name))


def pixel_size(path: Path) -> float | None:
    """Return metres a pixel of an image file, the mean of its sides; none if it is on no map."""
    place = place_of(path)
    return place and sum(place.ground) / 2


def place_of(path: Path) -> Place | None:
    """Return where an image file lies; none if it is on no map."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with rasterio.open(path) as file:
                return locate(file, str(path))
        except (UserError, RasterioError):
            return None


def _measure(
    transform: Affine, crs: CRS, width: int, height: int, name: str
) -> tuple[float, float]:
    """Metres along a row and along a column of pixels in the middle of the scene (geodesic)."""
    x, y = width / 2, height / 2
    pixels = [(x - _STEP, y), (x + _STEP, y), (x, y - _STEP), (x, y + _STEP)]
    eastings, northings = zip(*(transform @ pixel for pixel in pixels), strict=True)
    try:
        to_globe = Transformer.from_crs(crs.to_wkt(), "EPSG:4326", always_xy=True)
    except ProjError as error:
        raise UserError(f"{name}: its reference system has no place on Earth: {error}") from error
    lon, lat = to_globe.transform(eastings, northings)
    ground = [0.0, 0.0]
    if all(math.isfinite(value) for value in (*lon, *lat)):
        distances = (_WGS84.inv(lon[i], lat[i], lon[i + 1], lat[i + 1])[2] for i in (0, 2))
        ground = [distance / (2 * _STEP) for distance in distances]
    if not all(math.isfinite(size) and size > 0 for size in ground):
        raise UserError(f"{name} lies beyond the bounds of its reference system {crs.to_string()}")
    return ground[0], ground[1]
