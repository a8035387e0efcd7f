"""Scenes that control points or RPCs place, against the ground in closed form."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.warp import transform as transform_points

from cgeartheye.data.image_io import read_georeference
from cgeartheye.geo.georeference import place_of
from cgeartheye.geo.reader import Scene, open_scene
from cgeartheye.geo.rectify import fit_points
from cgeartheye.pretraining.store import inputs
from cgeartheye.utils.errors import UserError

H, W = 160, 220
WAVE = 6.0  # metres by which the wavy ground bends


def affine(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return 5e5 + 0.7 * x + 0.1 * y, 44e5 - 0.7 * y + 0.05 * x


def projective(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture taken aslant of flat ground."""
    depth = 1 + 6e-4 * x - 3e-4 * y
    return 5e5 + (0.7 * x + 0.1 * y) / depth, 44e5 - (0.7 * y - 0.05 * x) / depth


def wavy(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    east, north = affine(x, y)
    return east + WAVE * np.sin(x / 30), north + WAVE * np.sin(y / 25)


def controls(ground, step: int = 10) -> list[GroundControlPoint]:  # type: ignore[no-untyped-def]
    places = [(row, col) for row in range(0, H + 1, step) for col in range(0, W + 1, step)]
    found = []
    for row, col in places:
        x, y = ground(np.array(float(col)), np.array(float(row)))
        found.append(GroundControlPoint(row, col, float(x), float(y), 0.0))
    return found


def write(path: Path, **place: object) -> Path:
    """A scene whose red and green are the column and row of each pixel."""
    rows, columns = np.mgrid[:H, :W].astype(np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", width=W, height=H, count=3, dtype="uint8", **place
    ) as file:
        file.write(np.stack([columns, rows, np.full_like(rows, 200)]))
    return path


def missed(scene: Scene, ground) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Metres between pixels of a scene and the ground that they show."""
    pixels, valid = scene.read((0, scene.height), (0, scene.width))
    assert valid is not None
    row, column = np.nonzero(valid)
    t = scene.transform
    east, north = t.c + t.a * (column + 0.5), t.f + t.e * (row + 0.5)
    x, y = (pixels[band][valid].astype(float) + 0.5 for band in (0, 1))
    truth = ground(x, y)
    # Whole numbers of columns and rows are right to half a pixel; at the edges the mean is not.
    inner = (x > 4) & (x < W - 4) & (y > 4) & (y < H - 4)
    assert inner.sum() > 0.7 * H * W
    return np.hypot(truth[0] - east, truth[1] - north)[inner]


@pytest.mark.parametrize(
    ("ground", "kind"), [(affine, "affine"), (projective, "polynomial"), (wavy, "spline")]
)
def test_the_simplest_way_that_fits(ground, kind: str) -> None:  # type: ignore[no-untyped-def]
    fit = fit_points(controls(ground))
    assert fit.kind == kind or (kind == "polynomial" and fit.kind == "spline")
    assert fit.off < 0.5
    assert (fit.affine_off > 0.5) == (kind != "affine")
    x, y = np.meshgrid(np.linspace(5, W - 5, 9), np.linspace(5, H - 5, 9))
    found, truth = fit.to_map(x.ravel(), y.ravel()), ground(x.ravel(), y.ravel())
    assert np.hypot(found[0] - truth[0], found[1] - truth[1]).max() < 0.35  # half a pixel


@pytest.mark.parametrize("ground", [projective, wavy])
def test_a_scene_is_warped_where_no_affine_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ground
) -> None:  # type: ignore[no-untyped-def]
    path = write(tmp_path / "scene.tif", gcps=controls(ground), crs="EPSG:32650")
    scene = open_scene([path])
    assert "control points of" in capsys.readouterr().out
    assert scene.crs == rasterio.CRS.from_epsg(32650)
    assert scene.facts["rectification"]["affine_off_pixels"] > 0.5
    off = missed(scene, ground)
    assert off.mean() < 0.5
    assert off.max() < 2 * 0.7
    # Read in pieces it is the same.
    whole, _ = scene.read((0, scene.height), (0, scene.width))
    np.testing.assert_array_equal(scene.read((31, 77), (40, 99))[0], whole[:, 31:77, 40:99])


def test_points_that_an_affine_fits_leave_the_pixels_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif", gcps=controls(affine), crs="EPSG:32650")
    scene = open_scene([path])
    assert (scene.width, scene.height, scene.rectification) == (W, H, None)
    np.testing.assert_array_equal(scene.read((0, H), (0, W))[0][0], np.mgrid[:H, :W][1])


@pytest.mark.parametrize("ground", [affine, projective, wavy])
def test_predictions_lie_where_the_ground_is(tmp_path: Path, ground) -> None:  # type: ignore[no-untyped-def]
    path = write(tmp_path / "scene.tif", gcps=controls(ground), crs="EPSG:32650")
    place = place_of(path)
    assert place is not None
    corners = np.array([20.0, 60.0, 60.0, 20.0]), np.array([30.0, 30.0, 90.0, 90.0])
    found, truth = place.to_map(*corners), ground(*corners)
    assert np.hypot(found[0] - truth[0], found[1] - truth[1]).max() < 0.35
    georeference = read_georeference(path)
    assert georeference is not None
    (ring,) = georeference.geometry["coordinates"]
    east, north = (
        np.array(v) for v in transform_points("EPSG:4326", "EPSG:32650", *zip(*ring, strict=True))
    )
    side = np.linspace(0, W, 200)
    border = np.stack(ground(side, np.zeros_like(side)), 1)  # the upper one
    near = np.hypot(border[:, None, 0] - east, border[:, None, 1] - north).min(axis=0)
    assert (near < 0.35).sum() >= (2 if ground is affine else 15)


@pytest.mark.parametrize("gsd", [None, 1.4])
def test_pack_sees_the_ground_too(tmp_path: Path, gsd: float | None) -> None:
    path = write(tmp_path / "scene.tif", gcps=controls(projective), crs="EPSG:32650")
    raster = inputs._opened(path, gsd)
    assert raster.bands == 3
    assert raster.file.crs.to_epsg() == 32650
    window = rasterio.windows.Window(0, 0, raster.file.width, raster.file.height)
    pixels, valid = raster.read((1, 2, 3), window)
    row, column = np.nonzero(valid)
    east, north = raster.file.transform @ (column + 0.5, row + 0.5)
    x, y = (pixels[band][valid] + 0.5 for band in (0, 1))
    truth = projective(x, y)
    off = np.hypot(truth[0] - east, truth[1] - north)
    inner = (x > 6) & (x < W - 6) & (y > 6) & (y < H - 6)
    assert off[inner].mean() < 0.7
    assert inner.sum() > 0.6 * H * W * (0.7 / (gsd or 0.7)) ** 2


@pytest.mark.parametrize("ground", [affine, projective, wavy])
def test_a_mosaic_of_scenes_that_control_points_place(tmp_path: Path, ground) -> None:  # type: ignore[no-untyped-def]
    step = W - 30

    def further(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        east, north = affine(x, y)
        return east + 0.7 * step, north + 11

    one = write(tmp_path / "a.tif", gcps=controls(ground), crs="EPSG:32650")
    two = write(tmp_path / "b.tif", gcps=controls(further), crs="EPSG:32650")
    scene = open_scene([one, two])
    assert scene.crs == rasterio.CRS.from_epsg(32650)
    assert len(scene.bands) == 3
    pixels, valid = scene.read((0, scene.height), (0, scene.width))
    assert valid is not None
    row, column = np.nonzero(valid)
    east, north = scene.transform @ (column + 0.5, row + 0.5)
    x, y = (pixels[band][valid] + 0.5 for band in (0, 1))
    off = np.minimum(
        *(np.hypot(way(x, y)[0] - east, way(x, y)[1] - north) for way in (ground, further))
    )
    inner = (x > 6) & (x < W - 6) & (y > 6) & (y < H - 6)
    assert np.median(off[inner]) < 0.5
    assert np.quantile(off[inner], 0.98) < 1.2
    # Both are seen: the ground of two scenes less their overlap.
    area = valid.sum() * abs(scene.transform.determinant)
    assert area == pytest.approx((1 + step / W) * H * W * 0.49, rel=0.08)


def test_a_mosaic_of_palettes_that_control_points_place_has_their_colors_alone(
    tmp_path: Path,
) -> None:
    colors = {0: (250, 10, 10), 1: (10, 250, 10), 2: (10, 10, 250)}
    paths = [tmp_path / "a.tif", tmp_path / "b.tif"]
    for path in paths:
        with rasterio.open(
            path, "w", driver="GTiff", width=W, height=H, count=1, dtype="uint8",
            gcps=controls(affine), crs="EPSG:32650",
        ) as file:  # fmt: skip
            file.write((np.arange(H * W).reshape(1, H, W) // 7 % 3).astype(np.uint8))
            file.write_colormap(1, colors)
    scene = open_scene(paths)
    pixels, valid = scene.read((0, scene.height), (0, scene.width))
    assert valid is not None
    seen = np.unique(pixels[:, valid], axis=1).T.tolist()
    assert sorted(map(tuple, seen)) == sorted(colors.values())


def test_a_mosaic_of_other_systems_is_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "a.tif", gcps=controls(affine), crs="EPSG:32650")
    two = write(tmp_path / "b.tif", gcps=controls(affine), crs="EPSG:32651")
    with pytest.raises(UserError, match=r"b.tif has another CRS than .*a.tif"):
        open_scene([one, two])


def rpcs() -> RPC:
    """Columns go with longitude and fall by 1 for each 5 m of height, rows with latitude."""

    def terms(**found: float) -> list[float]:
        return [found.get(f"t{n}", 0.0) for n in range(20)]

    return RPC(
        height_off=0.0,
        height_scale=500.0,
        lat_off=39.0,
        lat_scale=1e-3,
        long_off=117.0,
        long_scale=1e-3,
        line_off=H / 2,
        line_scale=H / 2,
        samp_off=W / 2,
        samp_scale=W / 2,
        line_num_coeff=terms(t2=-1.0),
        line_den_coeff=terms(t0=1.0),
        samp_num_coeff=terms(t1=1.0, t3=-100 / (W / 2)),
        samp_den_coeff=terms(t0=1.0),
    )


@pytest.mark.parametrize("height", [0.0, 250.0])
@pytest.mark.parametrize("of_file", [False, True])
def test_a_scene_with_rpcs_is_placed_by_the_heights(
    tmp_path: Path, height: float, of_file: bool
) -> None:
    path = write(tmp_path / "scene.tif", rpcs=rpcs())
    dem = str(height)
    if of_file:
        dem = str(tmp_path / "dem.tif")
        place = rasterio.transform.from_origin(116.9, 39.1, 1e-3, 1e-3)
        with rasterio.open(
            dem,
            "w",
            driver="GTiff",
            width=200,
            height=200,
            count=1,
            dtype="float32",
            crs="EPSG:4326",
            transform=place,
        ) as file:
            file.write(np.full((1, 200, 200), height, np.float32))
    scene = open_scene([path], dem=dem)
    assert scene.crs == rasterio.CRS.from_epsg(32650)
    pixels, valid = scene.read((0, scene.height), (0, scene.width))
    valid = np.ones(pixels.shape[1:], bool) if valid is None else valid
    row, column = np.nonzero(valid)
    east, north = scene.transform @ (column + 0.5, row + 0.5)
    lon, lat = (np.array(v) for v in transform_points(scene.crs, "EPSG:4326", east, north))
    x = W / 2 + (lon - 117) / 1e-3 * (W / 2) - height / 5
    y = H / 2 - (lat - 39) / 1e-3 * (H / 2)
    inner = (x > 4) & (x < W - 4) & (y > 4) & (y < H - 4)
    assert inner.sum() > 0.5 * H * W
    # The standard has the middle of the first pixel at 0; what GDAL makes of it is half a pixel.
    assert np.abs(pixels[0][valid] - x)[inner].max() < 1.6
    assert np.abs(pixels[1][valid] - y)[inner].max() < 1.6


def write_heights(path: Path, slope: float, height: float) -> str:
    """Write heights that rise by `slope` metres a degree eastwards, `height` at 117 degrees."""
    side = 400
    place = rasterio.transform.from_origin(116.998, 39.002, 1e-5, 1e-5)
    lon = 116.998 + (np.arange(side) + 0.5) * 1e-5
    values = np.broadcast_to(height + slope * (lon - 117), (1, side, side))
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=side,
        height=side,
        count=1,
        dtype="float32",
        crs="EPSG:4326",
        transform=place,
    ) as file:
        file.write(values.astype(np.float32))
    return str(path)


@pytest.mark.parametrize("slope", [0.0, 20_000.0])
def test_predictions_of_a_scene_of_rpcs_lie_by_the_heights(tmp_path: Path, slope: float) -> None:
    path = write(tmp_path / "scene.tif", rpcs=rpcs())
    dem = write_heights(tmp_path / "dem.tif", slope, 100.0)
    place = place_of(path, dem)
    assert place is not None
    x, y = np.array([10.0, 30.0, 50.0]), np.array([5.0, 20.0, 33.0])
    lon, lat = place.to_map(x, y)
    # x = W/2 + (lon - 117) / 1e-3 * W/2 - (100 + slope * (lon - 117)) / 5, but for half a pixel
    truth = (x - W / 2 + 20) / (W / 2 / 1e-3 - slope / 5)
    pixel = 1e-3 / (W / 2)
    assert np.abs(lon - 117 - truth).max() < 0.8 * pixel
    assert np.abs(y - (H / 2 - (lat - 39) / 1e-3 * (H / 2))).max() < 0.8
    assert np.ptp(lon - 117 - truth) < 0.15 * pixel  # the half pixel, and the steps of the heights
    found = read_georeference(path, dem)
    assert found is not None
    outline = shapely.geometry.shape(found.geometry)
    assert outline.exterior.is_ccw
    assert outline.contains(shapely.Point(lon[1], lat[1]))
    assert place_of(path) is None
    assert read_georeference(path) is None
    with pytest.raises(UserError, match="neither a raster nor a height"):
        place_of(path, "nowhere.tif")
    # What has a transform keeps it.
    plain = write(tmp_path / "plain.tif", crs="EPSG:32650")
    assert place_of(plain, dem) == place_of(plain)


@pytest.mark.parametrize("gsd", [None, 3.0])
def test_pack_sees_a_scene_of_rpcs_by_the_heights(tmp_path: Path, gsd: float | None) -> None:
    path = write(tmp_path / "scene.tif", rpcs=rpcs())
    raster = inputs._opened(path, gsd, "250")
    scene = open_scene([path], dem="250")
    assert raster.file.crs == scene.crs
    assert raster.bands == 3
    bounds = rasterio.transform.array_bounds(scene.height, scene.width, scene.transform)
    np.testing.assert_allclose(raster.file.bounds, bounds, atol=2 * (gsd or 0.01))
    assert inputs.find_items(path, inputs.Settings(chip_size=14, dem="250"))
    with pytest.raises(UserError, match="--dem needs chips"):
        inputs.find_items(path, inputs.Settings(dem="3"))


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif", rpcs=rpcs())
    with pytest.raises(UserError, match="RPCs alone: name the heights with --dem FILE"):
        open_scene([path])
    with pytest.raises(UserError, match=r"--dem nowhere\.tif is neither a raster nor a height"):
        open_scene([path], dem="nowhere.tif")
    plain = write(tmp_path / "plain.tif", crs="EPSG:32650")
    with pytest.raises(UserError, match="has no RPCs: leave out --dem"):
        open_scene([plain], dem="3")
