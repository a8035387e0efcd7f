"""Nodata, mask, alpha and NaN give the same validity, however the ground is read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.windows import Window

from cgeartheye.data.image_io import read_image
from cgeartheye.geo.reader import open_scene
from cgeartheye.geo.validity import on_grid, on_own_grid, valid_pixels
from cgeartheye.geo.warp import PixelGrid, warp_to

KINDS = ("nodata", "mask", "alpha", "nan")
UTM = CRS.from_epsg(32650)
PLACE = Affine(1, 0, 500_000, 0, -1, 4_400_000)
VALUE, RED = 90, 7  # of the ground; of one pixel with data that has the nodata value in one band


def truth(side: int = 48) -> np.ndarray:
    """A hole, a line of one pixel, and single pixels that have no data."""
    valid = np.ones((side, side), bool)
    valid[10:20, 5:30] = False
    valid[30, 8:40] = False
    valid[[40, 42, 44], [3, 20, 41]] = False
    return valid


def write(path: Path, kind: str, valid: np.ndarray, place: Affine = PLACE) -> Path:
    values = np.full((3, *valid.shape), VALUE, np.float32 if kind == "nan" else np.uint8)
    options: dict[str, Any] = {"nodata": RED} if kind == "nodata" else {}
    if kind == "nodata":
        values[:, ~valid] = RED
        values[0, 2, 2] = RED  # in one band alone it is a value like any other
    elif kind == "nan":
        values[:, ~valid] = np.nan
    else:
        values[:, ~valid] = 200  # what nobody may see
    if kind == "alpha":
        values = np.concatenate([values, valid[None] * np.uint8(255)])
        options = {"photometric": "RGB", "alpha": "yes"}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", width=valid.shape[1], height=valid.shape[0],
            count=len(values), dtype=values.dtype, transform=place, crs=UTM, **options,
        ) as file,
    ):  # fmt: skip
        file.write(values)
        if kind == "mask":
            file.write_mask(valid)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_on_the_same_grid(tmp_path: Path, kind: str) -> None:
    valid = truth()
    path = write(tmp_path / "a.tif", kind, valid)
    with rasterio.open(path) as file:
        values, found = on_own_grid(file).read((1, 2, 3), Window(0, 0, 48, 48))
        np.testing.assert_array_equal(found, valid)
        part = Window(4, 9, 20, 13)
        values = file.read([1, 2, 3], window=part)
        np.testing.assert_array_equal(
            valid_pixels(file, (1, 2, 3), values, part), valid[9:22, 4:24]
        )
    pixels, there = open_scene([path], stretch=(0.0, 255.0)).read((0, 48), (0, 48))
    assert there is not None
    np.testing.assert_array_equal(there, valid)
    np.testing.assert_array_equal((pixels > 0).all(axis=0), valid)
    image = read_image(path, stretch=(0.0, 255.0)).numpy()
    np.testing.assert_array_equal((image > 0).all(axis=0), valid)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("step", "resampling"),
    [(2.0, Resampling.average), (1.3, Resampling.bilinear), (0.5, Resampling.bilinear)],
    ids=["decimated", "warped", "enlarged"],
)
def test_on_another_grid_that_reaches_beyond(
    tmp_path: Path, kind: str, step: float, resampling: Resampling
) -> None:
    """A pixel has data where the one nearest to its middle has; no value comes from a hole."""
    valid, count = truth(), round(70 / step)
    place = Affine(step, 0, 500_000 - 10.17, 0, -step, 4_400_000 + 10.23)
    centers = (np.arange(count) + 0.5) * step
    rows, columns = np.floor(centers - 10.23).astype(int), np.floor(centers - 10.17).astype(int)
    inside = ((rows >= 0) & (rows < 48))[:, None] & (columns >= 0) & (columns < 48)
    right = inside & valid[rows.clip(0, 47)][:, columns.clip(0, 47)]
    with rasterio.open(write(tmp_path / "a.tif", kind, valid)) as file:
        seen = on_grid(file, UTM, place, (count, count), resampling)
        values, found = seen.read((1, 2, 3), Window(0, 0, count, count))
        np.testing.assert_array_equal(found, right)
        assert np.abs(values[1:, found].astype(float) - VALUE).max() <= 1
        part = seen.read((1, 2, 3), Window(5, 3, 20, 30))[1]
        np.testing.assert_array_equal(part, right[3:33, 5:25])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1.3, 3.0])
def test_as_a_scene_on_another_grid(tmp_path: Path, kind: str, step: float) -> None:
    """The mapping's own way: averaged over whole pixels first, so holes grow by none of them."""
    valid, count = truth(), round(70 / step)
    scene = open_scene([write(tmp_path / "a.tif", kind, valid)], stretch=(0.0, 255.0))
    place = Affine(step, 0, 500_000 - 10.17, 0, -step, 4_400_000 + 10.23)
    onto = warp_to(scene, PixelGrid(place, UTM), (count / 2, count / 2))
    pixels, found = onto.read((0, count), (0, count))
    centers = (np.arange(count) + 0.5) * step
    rows, columns = centers - 10.23, centers - 10.17
    outside = (rows < 0) | (rows > 48)
    assert not found[outside].any()
    assert not found[:, (columns < 0) | (columns > 48)].any()
    deep = (rows > 12.5) & (rows < 17.5), (columns > 8) & (columns < 27)
    assert deep[0].any()
    assert not found[deep[0]][:, deep[1]].any()
    far = (rows > 21.5) & (rows < 28.5), (columns > 2) & (columns < 46)
    assert found[far[0]][:, far[1]].all()
    assert np.abs(pixels[1:, found].astype(float) - VALUE).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_as_a_mosaic(tmp_path: Path, kind: str) -> None:
    """Where files overlap the last that has data is seen; what no file covers has none."""
    first, second = truth(), truth()[::-1].copy()
    paths = [
        write(tmp_path / "a.tif", kind, first),
        write(tmp_path / "b.tif", kind, second, PLACE @ Affine.translation(30, 20)),
    ]
    scene = open_scene(paths, stretch=(0.0, 255.0))
    assert (scene.height, scene.width) == (68, 78)
    pixels, found = scene.read((0, 68), (0, 78))
    right = np.zeros((68, 78), bool)
    right[:48, :48] |= first
    right[20:, 30:] |= second
    assert found is not None
    np.testing.assert_array_equal(found, right)
    assert (pixels[1:, found] == VALUE).all()


STRIPE = slice(10, 20)  # rows whose red is 0, of a scene that has 0 where it has no data


def write_stripe(path: Path, **options: Any) -> Path:
    values = np.full((3, 40, 40), VALUE, np.uint8)
    values[0, STRIPE] = 0
    values[:, :, :5] = 0
    with rasterio.open(
        path, "w", driver="GTiff", width=40, height=40, count=3, dtype="uint8", crs=UTM,
        transform=PLACE, nodata=0, **options,
    ) as file:  # fmt: skip
        file.write(values)
    return path


@pytest.mark.parametrize("nodata", [0, 255, None])
def test_in_a_mosaic_a_band_alone_may_have_the_value_for_no_data(
    tmp_path: Path, nodata: int | None
) -> None:
    beside = tmp_path / "b.tif"
    with rasterio.open(
        beside, "w", driver="GTiff", width=40, height=40, count=3, dtype="uint8", crs=UTM,
        transform=PLACE @ Affine.translation(40, 0), nodata=nodata,
    ) as file:  # fmt: skip
        file.write(np.full((3, 40, 40), 200, np.uint8))
    a = write_stripe(tmp_path / "a.tif")
    alone, there = open_scene([a]).read((0, 40), (0, 40))
    pixels, found = open_scene([a, beside]).read((0, 40), (0, 80))
    assert there is not None
    assert found is not None
    assert (there == (np.arange(40) >= 5)).all()
    np.testing.assert_array_equal(found[:, :40], there)
    np.testing.assert_array_equal(pixels[:, :, :40], alone)
    assert found[:, 40:].all()
    assert (pixels[:, :, 40:] == 200).all()


@pytest.mark.parametrize("below", [0, 7, None])
def test_no_pixel_of_a_mosaic_is_of_two_files(tmp_path: Path, below: int | None) -> None:
    """Seen is the last that has data, in all bands; elsewhere what is below it."""
    first = tmp_path / "first.tif"
    with rasterio.open(
        first, "w", driver="GTiff", width=50, height=40, count=3, dtype="uint8", crs=UTM,
        transform=PLACE, nodata=below,
    ) as file:  # fmt: skip
        file.write(np.full((3, 40, 50), 200, np.uint8))
    top = write_stripe(tmp_path / "top.tif")
    scene = open_scene([first, top])
    right = np.full((3, 40, 50), 200, np.uint8)
    right[:, :, 5:40] = VALUE
    right[0, STRIPE, 5:40] = 0
    pixels, found = scene.read((0, 40), (0, 50))
    assert found is None
    np.testing.assert_array_equal(pixels, right)
    np.testing.assert_array_equal(scene.read((8, 22), (3, 11))[0], right[:, 8:22, 3:11])


def test_in_a_mosaic_a_mask_counts_for_more_than_a_value(tmp_path: Path) -> None:
    """As in a file alone."""
    a = write_stripe(tmp_path / "a.tif")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(a, "r+") as file:
        file.write_mask(np.ones((40, 40), bool))
    other = write_stripe(tmp_path / "b.tif")
    with rasterio.open(other, "r+") as file:
        file.transform = PLACE @ Affine.translation(40, 0)
    scene = open_scene([a, other])
    found = scene.read((0, 40), (0, 80))[1]
    assert found is not None
    np.testing.assert_array_equal(np.flatnonzero(~found.all(axis=0)), np.arange(40, 45))
