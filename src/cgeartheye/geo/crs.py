"""Reference systems: UTM zones, longitude and latitude, and metres on the ground."""

import functools
import math

from affine import Affine
from pyproj import Geod, Transformer
from rasterio.crs import CRS

WGS84 = CRS.from_epsg(4326)
GEOD = Geod(ellps="WGS84")

METERS_PER_DEGREE = 111_195.0
"""Length of a degree of a meridian, on a sphere of the Earth's mean radius: for rough sizes. What
must be right is measured, by `meters_per_pixel`."""

_UTM_NORTH, _UTM_SOUTH = 84.0, -80.0  # degrees; beyond, the polar stereographic systems
_NORTH_POLE, _SOUTH_POLE = 32661, 32761
_STEP = 50.0  # pixels to each side over which the ground is measured


def utm_epsg(lon: float, lat: float) -> int:
    """Return the EPSG code of the UTM zone of a place (WGS 84) or, near the poles, of UPS.

    PROJ's database answers the same in 0.3 s, which is too long for each of a million places.

    Args:
        lon: degrees, on any turn around the world.
        lat: degrees.
    """
    if not _UTM_SOUTH <= lat <= _UTM_NORTH:
        return _NORTH_POLE if lat > 0 else _SOUTH_POLE
    return 32600 + 100 * (lat < 0) + min(60, int((lon + 180) % 360 // 6) + 1)


@functools.lru_cache(maxsize=16)
def transformer(source: CRS, target: CRS) -> Transformer:
    """Return the way from one CRS to another, x (or longitude) first.

    Raises:
        pyproj.exceptions.ProjError: there is none.
    """
    return Transformer.from_crs(source.to_wkt(), target.to_wkt(), always_xy=True)


def meters_per_pixel(transform: Affine, crs: CRS, x: float, y: float) -> tuple[float, float]:
    """Measure pixels on the ground, along geodesics over a hundred of them around a place.

    Args:
        transform: from pixels to the map.
        crs: of the map.
        x: column of the place, fractions too.
        y: its row.

    Returns:
        Metres from one column, and from one row, to the next; 0 where the place is not on Earth.

    Raises:
        pyproj.exceptions.ProjError: the CRS has no place on Earth.
    """
    pixels = [(x - _STEP, y), (x + _STEP, y), (x, y - _STEP), (x, y + _STEP)]
    eastings, northings = zip(*(transform @ pixel for pixel in pixels), strict=True)
    lon, lat = transformer(crs, WGS84).transform(eastings, northings)
    if not all(math.isfinite(value) for value in (*lon, *lat)):
        return 0.0, 0.0
    across, down = (GEOD.inv(lon[i], lat[i], lon[i + 1], lat[i + 1])[2] for i in (0, 2))
    return across / (2 * _STEP), down / (2 * _STEP)
