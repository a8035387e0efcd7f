import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Geod
from rasterio.features import rasterize, sieve
from scipy.ndimage import gaussian_filter, label
from toy_map import Toy, picture, run_toy, write_scene

from cgeartheye.mapping.geotiff import RawRaster
from cgeartheye.mapping.polygonize import polygonize


def random_map(height: int, width: int, seed: int, smooth: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(size=(height, width)), smooth) for _ in range(4)]
    classes = np.argmax(layers, 0).astype(np.uint8)
    classes[classes == 3] = 255
    return classes


def planes(
    folder: Path, classes: np.ndarray, confidence: np.ndarray
) -> tuple[RawRaster, RawRaster]:
    made = []
    for name, values in (("classes", classes), ("confidence", confidence)):
        plane = RawRaster(folder / name, 1, *classes.shape)
        plane.write((0, len(classes)), 0, values[None])
        made.append(plane)
    return made[0], made[1]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(0, 9999),
    st.sampled_from([0.0, 1.0, 3.0]),
    st.integers(1, 20),
)
def test_polygons_are_the_connected_areas(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    seed: int,
    smooth: float,
    rows: int,
) -> None:
    """Whatever the strips: not simplified, they are exactly the map's areas."""
    folder = tmp_path_factory.mktemp("planes")
    classes = random_map(height, width, seed, smooth)
    confidence = np.random.default_rng(seed).integers(0, 101, classes.shape, np.uint8)
    made = planes(folder, classes, confidence)
    found = polygonize(*made, strip=rows * width, tolerance=0)
    assert len(found.polygons) == sum(label(classes == value)[1] for value in range(3))
    assert shapely.coverage_is_valid(found.polygons)
    np.testing.assert_allclose(shapely.area(found.polygons), found.pixels)
    if len(found.polygons):
        shapes = zip(found.polygons, range(1, len(found.polygons) + 1), strict=True)
        numbers = rasterize(shapes, classes.shape, dtype="int32")
        assert ((numbers == 0) == (classes == 255)).all()
        inside = numbers > 0
        assert (found.classes[numbers[inside] - 1] == classes[inside]).all()
        sums = np.bincount(numbers[inside] - 1, weights=confidence[inside])
        np.testing.assert_allclose(sums, found.confidence)
    simple = polygonize(*made, strip=rows * width)
    assert len(simple.polygons) == len(found.polygons)
    assert shapely.is_valid(simple.polygons).all()
    assert shapely.coverage_is_valid(simple.polygons)
    for plane in made:
        plane.close()


def test_simplified_polygons_have_fewer_vertices_and_no_gaps(tmp_path: Path) -> None:
    classes = random_map(200, 220, 1, 5.0)
    classes[classes == 255] = 0
    made = planes(tmp_path, classes, np.full_like(classes, 80))
    simple = polygonize(*made, strip=50 * 220)
    exact = polygonize(*made, strip=50 * 220, tolerance=0)
    count = [shapely.get_num_coordinates(found.polygons).sum() for found in (simple, exact)]
    assert count[0] < 0.6 * count[1]
    assert shapely.coverage_is_valid(simple.polygons)
    whole = shapely.union_all(simple.polygons)
    assert whole.equals(shapely.box(0, 0, 220, 200))  # no gap; and no overlap:
    np.testing.assert_allclose(shapely.area(simple.polygons).sum(), 220 * 200)


@pytest.mark.parametrize("ending", ["gpkg", "parquet", "geojson", "fgb"])
def test_every_format_opens_in_a_gis_library(tmp_path: Path, ending: str) -> None:
    rotated = Affine(0.6, 0.45, 5e5, 0.45, -0.6, 44e5)
    pixels = picture(80, 90)
    pixels[:, 30:44, 20:50] = 0
    scene = write_scene(tmp_path / "scene.tif", pixels, rotated, nodata=0)
    facts = run_toy(scene, tmp_path / "map", Toy(), vector_format=(ending,))
    path = tmp_path / f"map/map.{ending}"
    frame = geopandas.read_parquet(path) if ending == "parquet" else geopandas.read_file(path)
    assert frame.crs.to_epsg() == (4326 if ending == "geojson" else 32650)
    assert set(frame["class"]) <= {"red", "green", "blue"}
    assert frame.confidence.between(1 / 3, 1).all()
    on_map = frame.to_crs(32650)
    mapped = facts["mapped_pixels"]
    assert mapped == 80 * 90 - 14 * 30
    np.testing.assert_allclose(on_map.area.sum(), mapped * 0.5625, rtol=0.005)
    # UTM shrinks by 0.9996 in its middle, where the scene is.
    np.testing.assert_allclose(frame.area_m2, on_map.area / 0.9996**2, rtol=2e-4, atol=1e-2)
    if ending != "geojson":  # which is rounded
        assert shapely.coverage_is_valid(frame.geometry.to_numpy(), 1e-9)
    with rasterio.open(tmp_path / "map/map.tif") as file:
        classes = file.read(1)
        shapes = zip(on_map.geometry, frame.value + 1, strict=True)
        drawn = rasterize(shapes, classes.shape, transform=file.transform, dtype="uint8")
    agree = (drawn.astype(int) - 1 == np.where(classes == 255, -1, classes.astype(int))).mean()
    assert agree > 0.97  # simplified by less than a pixel


def test_the_area_of_a_hole_is_not_counted(tmp_path: Path) -> None:
    pixels = np.full((3, 40, 40), 40, np.uint8)
    pixels[0] = 200
    pixels[:, 10:30, 10:30] = np.array([40, 200, 40])[:, None, None]
    crs, place = 4326, Affine(1e-5, 0, 10, 0, -1e-5, 60)
    scene = write_scene(tmp_path / "scene.tif", pixels, place, crs)
    run_toy(scene, tmp_path / "map", Toy(radius=0), vector_format=("gpkg",))
    frame = geopandas.read_file(tmp_path / "map/map.gpkg").set_index("class")
    geod = Geod(ellps="WGS84")
    box = [
        abs(geod.geometry_area_perimeter(shapely.box(*b))[0])
        for b in ((10, 60 - 4e-4, 10 + 4e-4, 60), (10 + 1e-4, 60 - 3e-4, 10 + 3e-4, 60 - 1e-4))
    ]
    np.testing.assert_allclose(frame.area_m2["green"], box[1], rtol=0.02)
    np.testing.assert_allclose(frame.area_m2.sum(), box[0], rtol=1e-4)


@pytest.mark.parametrize(("crs", "down"), [(32650, -1), (32650, 1), (5513, -1), (5513, 1)])
def test_rings_of_geojson_run_counter_clockwise(tmp_path: Path, crs: int, down: int) -> None:
    """RFC 7946, 3.1.6, whichever way rows run; 5513 has its axes to the south and west."""
    transform = Affine(0.75, 0, 1e6, 0, 0.75 * down, 7e5)
    scene = write_scene(tmp_path / "scene.tif", picture(60, 80), transform, crs)
    run_toy(scene, tmp_path / "map", vector_format=("geojson",))
    content = json.loads((tmp_path / "map/map.geojson").read_text())
    rings = [feature["geometry"]["coordinates"] for feature in content["features"]]
    assert len(rings) > 3
    assert all(shapely.LinearRing(outer).is_ccw for outer, *_ in rings)
    assert not any(shapely.LinearRing(hole).is_ccw for _, *holes in rings for hole in holes)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.integers(2, 30),
    st.integers(2, 30),
    st.integers(0, 9999),
    st.sampled_from([0.0, 0.7, 1.5]),
    st.integers(1, 20),
    st.integers(2, 40),
)
def test_small_areas_go_to_their_largest_neighbors(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    seed: int,
    smooth: float,
    rows: int,
    least: int,
) -> None:
    """Against GDAL's sieve, where that leaves nothing small; equally large neighbors may differ."""
    classes = random_map(height, width, seed, smooth)
    made = planes(tmp_path_factory.mktemp("planes"), classes, np.full_like(classes, 50))
    found = polygonize(*made, strip=rows * width, tolerance=0, least=least)
    assert (found.pixels >= least).all()
    np.testing.assert_allclose(shapely.area(found.polygons), found.pixels)
    assert shapely.is_valid(found.polygons).all()
    assert shapely.coverage_is_valid(found.polygons)
    ours = np.full_like(classes, 255)
    if len(found.polygons):
        ours = rasterize(zip(found.polygons, found.classes, strict=True), out=ours)
    # Areas that are alone between nodata and too small are left out, no others.
    alone, count = label(classes != 255)
    sizes = np.bincount(alone.ravel(), minlength=count + 1)
    np.testing.assert_array_equal(ours != 255, (alone > 0) & (sizes[alone] >= least))
    theirs = sieve(classes, min(least, classes.size), mask=classes != 255)
    left = [label(theirs == value)[0] for value in range(3)]
    whole = [np.bincount(areas.ravel())[areas] >= least for areas in left]
    sure = np.any([w & (a > 0) for w, a in zip(whole, left, strict=True)], axis=0)
    same = (ours == theirs)[sure & (ours != 255)]
    assert same.mean() > 0.85 if same.size > 200 else True
    for plane in made:
        plane.close()


def test_sieve_by_hand(tmp_path: Path) -> None:
    """A speck in a field, a speck beside a patch, and one alone in nodata."""
    classes = np.zeros((12, 20), np.uint8)
    classes[2, 2] = 1
    classes[5:7, 5:8], classes[5, 8] = 1, 2
    classes[:, 14:] = 255
    classes[3, 16:18] = 1
    made = planes(tmp_path, classes, np.full_like(classes, 50))
    found = polygonize(*made, strip=60, tolerance=0, least=7)
    assert found.polygons[0].equals(shapely.box(0, 0, 14, 12))
    assert found.pixels.tolist() == [168]
    kept = polygonize(*made, strip=60, tolerance=0, least=6)
    areas = sorted(zip(kept.classes.tolist(), kept.pixels.tolist(), strict=True))
    assert areas == [(0, 162), (1, 6)]  # the field is the larger of the two beside the speck


@pytest.mark.parametrize(("seed", "blur"), [(0, 0.0), (1, 1.0), (2, 4.0), (3, 8.0)])
def test_smooth_polygons_keep_their_places_and_leave_no_gaps(
    tmp_path: Path, seed: int, blur: float
) -> None:
    classes = random_map(70, 80, seed, blur)
    classes[classes == 255] = 0
    made = planes(tmp_path, classes, np.full_like(classes, 80))
    rough = polygonize(*made, strip=20 * 80)
    smooth = polygonize(*made, strip=20 * 80, smooth=True)
    assert smooth.classes.tolist() == rough.classes.tolist()
    assert shapely.is_valid(smooth.polygons).all()
    assert shapely.coverage_is_valid(smooth.polygons)
    assert shapely.union_all(smooth.polygons).equals(shapely.box(0, 0, 80, 70))
    np.testing.assert_allclose(shapely.area(smooth.polygons).sum(), 70 * 80)
    far = shapely.hausdorff_distance(smooth.polygons, rough.polygons)
    side = [np.hypot(*np.diff(shapely.get_coordinates(p), axis=0).T).max() for p in rough.polygons]
    assert (far <= np.array(side) / 2).all()
    if blur > 1:
        turns = [sharpest_turn(polygons) for polygons in (rough.polygons, smooth.polygons)]
        assert turns[1] < 0.6 * turns[0]


def sharpest_turn(polygons: np.ndarray) -> float:
    """Mean of the degrees by which outlines turn at their vertices, those on straights left out."""
    found = []
    for ring in shapely.get_rings(polygons):
        step = np.diff(shapely.get_coordinates(ring), axis=0)
        angle = np.diff(np.degrees(np.arctan2(*step.T)))
        found.append(np.abs((angle + 180) % 360 - 180))
    turns = np.concatenate(found)
    return float(turns[turns > 1].mean())


def test_a_circle_becomes_rounder(tmp_path: Path) -> None:
    y, x = np.mgrid[:60, :60] + 0.5
    classes = (np.hypot(y - 30, x - 30) < 20).astype(np.uint8)
    made = planes(tmp_path, classes, np.full_like(classes, 80))
    off = []
    for smooth in (False, True):
        found = polygonize(*made, left_out=(0, 255), smooth=smooth)
        (circle,) = found.polygons
        radius = np.hypot(*(shapely.get_coordinates(circle.segmentize(0.1)) - 30).T)
        off.append(np.abs(radius - 20).mean())
    assert off[1] < off[0]
