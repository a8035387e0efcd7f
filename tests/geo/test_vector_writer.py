import json
from pathlib import Path

import geopandas
import pytest
import shapely
from pyproj import Transformer
from rasterio.warp import transform_geom

from cgeartheye.geo.vector_writer import write_vectors


def written(path: Path, *frames: geopandas.GeoDataFrame) -> list[shapely.Geometry]:
    write_vectors(frames, path)
    return [shapely.geometry.shape(f["geometry"]) for f in json.loads(path.read_text())["features"]]


def squares(*centers: tuple[float, float]) -> geopandas.GeoDataFrame:
    to_map = Transformer.from_crs(4326, 32660, always_xy=True).transform
    shapes = [shapely.Point(to_map(*center)).buffer(500, cap_style="square") for center in centers]
    return geopandas.GeoDataFrame({"class": ["x"] * len(shapes)}, geometry=shapes, crs=32660)


def test_polygons_are_cut_at_the_antimeridian(tmp_path: Path) -> None:
    """GDAL cuts as well, one geometry at a time."""
    near, across = squares((179.5, -16.0)), squares((179.999, -16.0), (178.0, -17.0))
    found = written(tmp_path / "map.geojson", near, across)
    assert [shape.geom_type for shape in found] == ["Polygon", "MultiPolygon", "Polygon"]
    for shape, square in zip(found, [*near.geometry, *across.geometry], strict=True):
        cut = transform_geom("EPSG:32660", "EPSG:4326", shapely.geometry.mapping(square))
        expected = shapely.geometry.shape(cut)
        assert shape.symmetric_difference(expected).area < 1e-3 * expected.area
        assert all(ring.is_ccw for ring in (p.exterior for p in shapely.get_parts(shape)))


def test_longitudes_beyond_180_are_those_of_the_other_side(tmp_path: Path) -> None:
    boxes = [shapely.box(179.9, 1, 180.1, 2), shapely.box(180.2, 1, 180.3, 2), None]
    frame = geopandas.GeoDataFrame({"class": ["a", "b", "c"]}, geometry=boxes, crs=4326)
    path = tmp_path / "map.geojson"
    write_vectors([frame], path)
    first, second, third = (f["geometry"] for f in json.loads(path.read_text())["features"])
    assert third is None
    halves = shapely.geometry.shape(first)
    assert halves.bounds[0] == pytest.approx(-180)
    assert halves.area == pytest.approx(0.2)
    assert shapely.geometry.shape(second).bounds == pytest.approx((-179.8, 1, -179.7, 2))


def test_what_goes_around_the_world_is_left_alone(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame(
        {"class": ["sea"]}, geometry=[shapely.box(-180, -60, 180, 60)], crs=4326
    )
    for crs in (4326, 3857):
        (shape,) = written(tmp_path / "map.geojson", frame.to_crs(crs))
        assert shape.bounds == pytest.approx((-180, -60, 180, 60))
