"""Scenes that control points or RPCs place, against the ground in closed form."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
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


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif", rpcs=rpcs())
    with pytest.raises(UserError, match="RPCs alone: name the heights with --dem FILE"):
        open_scene([path])
    with pytest.raises(UserError, match=r"--dem nowhere\.tif is neither a raster nor a height"):
        open_scene([path], dem="nowhere.tif")
    plain = write(tmp_path / "plain.tif", crs="EPSG:32650")
    with pytest.raises(UserError, match="has no RPCs: leave out --dem"):
        open_scene([plain], dem="3")
