import math

import pytest
from affine import Affine
from pyproj.aoi import AreaOfInterest
from pyproj.database import query_utm_crs_info
from rasterio.crs import CRS

from cgeartheye.geo.crs import WGS84, meters_per_pixel, transformer, utm_epsg


@pytest.mark.parametrize("place", [(116.4, 39.9), (-0.5, -33.0), (179.9, 1.0), (-179.9, -79.5)])
def test_the_zone_is_the_one_of_projs_database(place: tuple[float, float]) -> None:
    (found,) = query_utm_crs_info("WGS 84", AreaOfInterest(*place, *place), contains=True)
    assert utm_epsg(*place) == int(found.code)


def test_zones_go_around_the_world_and_end_at_the_poles() -> None:
    assert utm_epsg(180, 10) == utm_epsg(-180, 10) == 32601
    assert utm_epsg(366, 10) == utm_epsg(6, 10) == 32632
    assert (utm_epsg(0, 84.1), utm_epsg(0, -80.1)) == (32661, 32761)


@pytest.mark.parametrize("lat", [0.0, 45.0, 70.0])
def test_a_degree_is_as_long_as_on_the_ellipsoid(lat: float) -> None:
    """Radii of curvature in closed form: of the parallel, and of the meridian."""
    across, down = meters_per_pixel(Affine(1e-5, 0, 10, 0, -1e-5, lat), WGS84, 0, 0)
    a, f = 6_378_137.0, 1 / 298.257223563
    squared = f * (2 - f)
    bent = 1 - squared * math.sin(math.radians(lat)) ** 2
    parallel = a / math.sqrt(bent) * math.cos(math.radians(lat))
    meridian = a * (1 - squared) / bent**1.5
    assert across == pytest.approx(math.radians(1e-5) * parallel, rel=1e-6)
    assert down == pytest.approx(math.radians(1e-5) * meridian, rel=1e-6)


def test_utm_shrinks_the_middle_of_a_zone_by_its_scale() -> None:
    """One over 0.9996: what a metre of the map is on the ground."""
    size = meters_per_pixel(Affine(1, 0, 500_000, 0, -1, 0), CRS.from_epsg(32650), 0, 0)
    assert size == pytest.approx((1 / 0.9996, 1 / 0.9996), rel=1e-6)


def test_the_way_between_two_systems_is_looked_up_once() -> None:
    assert transformer(WGS84, CRS.from_epsg(32650)) is transformer(WGS84, CRS.from_epsg(32650))
