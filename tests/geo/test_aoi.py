"""Areas of interest as large as the world, against longitude and latitude of each pixel."""

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer

from cgeartheye.geo.aoi import read_aoi
from cgeartheye.geo.pair import open_pair
from cgeartheye.geo.reader import Scene, open_scene

SIDE, PIXEL = 60, 50.0
PLACES = {"china": (32650, 117.0, 39.5), "fiji": (32660, 180.0, -17.0), "polar": (3995, 30.0, 75.0)}
"""CRS, longitude and latitude of the middle."""


def scene_at(folder: Path, name: str) -> Scene:
    crs, lon, lat = PLACES[name]
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    half = PIXEL * SIDE / 2
    place = Affine(PIXEL, 0, x - half, 0, -PIXEL, y + half)
    path = folder / f"{name}.tif"
    with rasterio.open(path, "w", "GTiff", SIDE, SIDE, 3, f"EPSG:{crs}", place, "uint8") as file:
        file.write(np.full((3, SIDE, SIDE), 90, np.uint8))
    return open_scene([path])


def write_aoi(path: Path, *shapes: shapely.Geometry, crs: int = 4326) -> Path:
    geopandas.GeoDataFrame(geometry=list(shapes), crs=4326).to_crs(crs).to_file(path)
    return path


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("crs", [4326, 3857])
@pytest.mark.parametrize("step", [400.0, 1.0], ids=["corners", "dense"])
def test_the_whole_world_is_no_limit(tmp_path: Path, name: str, crs: int, step: float) -> None:
    world = shapely.box(-180, -90, 180, 90) if crs == 4326 else shapely.box(-180, -84, 180, 84)
    path = write_aoi(tmp_path / "world.gpkg", world.segmentize(step), crs=crs)
    assert read_aoi(path, scene_at(tmp_path, name)).mask((0, SIDE), (0, SIDE)).all()


@pytest.mark.parametrize("shape", [
    shapely.box(-180, -90, 180, 39.5),
    shapely.box(-180, -90, 180, 39.5).segmentize(1),
    shapely.box(117, -89, 180, 89),
    shapely.box(-10, 20, 180, 39.5).segmentize(1),  # with vertices that UTM has no place for
    shapely.MultiPolygon([shapely.box(-180, 39.5, 170, 90), shapely.box(175, 10, 180, 20)]),
])  # fmt: skip
def test_the_edge_of_half_the_world_is_a_parallel_or_a_meridian(
    tmp_path: Path, shape: shapely.Geometry
) -> None:
    scene = scene_at(tmp_path, "china")
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    back = Transformer.from_crs(scene.crs, 4326, always_xy=True)
    lon, lat = back.transform(*(scene.transform @ (columns, rows)))
    right = shapely.contains_xy(shape, lon, lat)
    edge = (abs(lat - 39.5) < 1e-6) | (abs(lon - 117) < 1e-6)
    found = read_aoi(write_aoi(tmp_path / "half.gpkg", shape), scene).mask((0, SIDE), (0, SIDE))
    assert ((found == right) | edge).all()
    assert 0.4 < found.mean() < 0.6


def test_the_world_is_no_limit_of_two_dates(tmp_path: Path) -> None:
    scene_at(tmp_path, "china")
    pair = open_pair([tmp_path / "china.tif"], [tmp_path / "china.tif"])
    path = write_aoi(tmp_path / "world.gpkg", shapely.box(-180, -90, 180, 90))
    assert read_aoi(path, pair).mask((0, SIDE), (0, SIDE)).all()


def test_an_ordinary_area_is_not_cut_by_what_is_beside_it(tmp_path: Path) -> None:
    """Its edges are straight on the scene's map, wherever its vertices are."""
    scene = scene_at(tmp_path, "china")
    shape = shapely.Polygon([(116.99, 39.49), (125.0, 41.3), (117.0, 39.51)])
    world = shapely.box(-180, -90, 180, -80)
    masks = [
        read_aoi(write_aoi(tmp_path / f"{name}.gpkg", *shapes), scene).mask((0, SIDE), (0, SIDE))
        for name, shapes in (("alone", [shape]), ("both", [shape, world]))
    ]
    on_map = geopandas.GeoSeries([shape], crs=4326).to_crs(scene.crs)
    inside = on_map.affine_transform((~scene.transform).to_shapely()).iloc[0]
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    right = shapely.contains_xy(inside, columns, rows)
    edge = shapely.distance(inside.exterior, shapely.points(columns, rows)) < 1e-6
    assert right.any()
    for found in masks:
        assert ((found == right) | edge).all()
