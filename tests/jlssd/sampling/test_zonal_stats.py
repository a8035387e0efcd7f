from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from earth import TABLE, brute_cover, brute_height, centers, ground, patches, write

from cgeartheye.jlssd.sampling import rasters
from cgeartheye.jlssd.sampling.equal_area_grid import Block, Grid
from cgeartheye.jlssd.sampling.rasters import find_source, open_raster
from cgeartheye.jlssd.sampling.zonal_stats import count_cover, mean_height
from cgeartheye.utils.errors import UserError

KILOMETER = Grid(1000)


def grid(west: float, north: float, step_x: float, step_y: float) -> Affine:
    return Affine(step_x, 0, west, 0, -step_y, north)


def blocks_around(
    grid: Grid, lon: np.ndarray, lat: np.ndarray, rows: int = 64, columns: int = 256
) -> list[Block]:
    """All blocks that hold a cell with one of the points."""
    row, column = grid.place(np.unique(grid.number(lon.ravel(), lat.ravel())))
    found = set()
    for band in np.unique(row // rows).tolist():
        first, end = band * rows, min(band * rows + rows, grid.rows)
        sectors = -(-int(grid.width(np.arange(first, end)).max()) // columns)
        own = row // rows == band
        of_cells = column[own] * sectors // grid.width(row[own])
        found |= {Block(first, end, int(sector), sectors) for sector in of_cells}
    return sorted(found)


def found_cover(path: Path, grid: Grid, blocks: list[Block]) -> dict[int, np.ndarray]:
    raster = open_raster(find_source([str(path)]))
    found = {}
    for block in blocks:
        pixels = count_cover(raster, TABLE, grid, block).pixels
        cells = grid.cells(block)
        found |= {int(c): p for c, p in zip(cells, pixels, strict=True) if p.any()}
    return found


OWN_PIXELS = {
    "ordinary": ((300, 420), grid(12.34, 47.9, 0.0021, 0.0017)),
    "across the equator and Greenwich": ((260, 260), grid(-0.26, 0.26, 0.002, 0.002)),
    "across the antimeridian": ((200, 300), grid(179.7, -16.5, 0.002, 0.002)),
    "counted from Greenwich": ((60, 90), grid(359.9, 51.3, 0.002, 0.002)),
    "upside down": ((200, 150), Affine(0.002, 0, 30, 0, 0.002, 60)),
    "the north pole": ((120, 1800), grid(-180, 90, 0.2, 0.002)),
    "the south pole": ((120, 1800), grid(-180, -89.76, 0.2, 0.002)),
}


@pytest.mark.parametrize("name", OWN_PIXELS)
def test_every_pixel_is_counted_once_in_its_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shape, transform = OWN_PIXELS[name]
    monkeypatch.setattr(rasters, "_PIXELS", 50_000)  # so that they come in several pieces
    values = patches(3, *shape)
    values[40:60, 20:90] = 0
    path = write(tmp_path / "cover.tif", values, transform, 4326, nodata=0)
    blocks = blocks_around(KILOMETER, *centers(shape, transform, 4326))
    found = found_cover(path, KILOMETER, blocks)
    expected = brute_cover(KILOMETER, values, transform, 4326, nodata=0)
    assert found.keys() == expected.keys()
    for cell, counts in expected.items():
        np.testing.assert_array_equal(found[cell], counts)


@pytest.mark.parametrize(("rows", "columns"), [(8, 5), (16, 40), (256, 1000)])
def test_no_cell_depends_on_its_block(tmp_path: Path, rows: int, columns: int) -> None:
    shape, transform = (150, 150), grid(12.34, 47.9, 0.002, 0.002)
    path = write(tmp_path / "cover.tif", patches(5, *shape), transform, 4326)
    heights = np.random.default_rng(1).normal(500, 90, shape).astype(np.float32)
    height = write(tmp_path / "height.tif", heights, transform, 4326)
    raster = open_raster(find_source([str(height)]))
    points = centers(shape, transform, 4326)

    def find(rows: int, columns: int) -> tuple[dict[int, Any], dict[int, float]]:
        blocks = blocks_around(KILOMETER, *points, rows, columns)
        means = {}
        for block in blocks:
            mean = mean_height(raster, KILOMETER, block).mean
            cells = KILOMETER.cells(block).tolist()
            means |= {c: m for c, m in zip(cells, mean.tolist(), strict=True) if m == m}
        return found_cover(path, KILOMETER, blocks), means

    (cover, means), (cover_64, means_64) = find(rows, columns), find(64, 256)
    assert means == means_64
    assert cover.keys() == cover_64.keys()
    assert all((cover[cell] == cover_64[cell]).all() for cell in cover)


WARPED = {
    "UTM": (32633, (260, 260), grid(400_000, 5_300_000, 100, 100)),
    "UTM across the antimeridian": (32601, (260, 260), grid(180_000, 5_300_000, 100, 100)),
    "the north pole": (3995, (300, 300), grid(-15_000, 15_000, 100, 100)),
    "the south pole": (3031, (300, 300), grid(-15_000, 15_000, 100, 100)),
    "turned": (32633, (260, 260), Affine(83.87, 54.46, 4e5, 54.46, -83.87, 5.3e6)),
}


@pytest.mark.parametrize("name", WARPED)
def test_other_reference_systems(tmp_path: Path, name: str) -> None:
    crs, shape, transform = WARPED[name]
    values = patches(3, *shape, side=12)
    path = write(tmp_path / "cover.tif", values, transform, crs)
    points = centers(shape, transform, crs)
    blocks = blocks_around(KILOMETER, *points)
    found = found_cover(path, KILOMETER, blocks)
    # Every pixel in 9 parts, each of which is in the cell that holds its middle.
    fine = values.repeat(3, 0).repeat(3, 1)
    expected = brute_cover(KILOMETER, fine, transform @ Affine.scale(1 / 3), crs)
    # Cells at the raster's border have few pixels, which either way may take or leave. In the two
    # rows at a pole the lattice is denser at the pole itself.
    full = [
        cell
        for cell, counts in expected.items()
        if counts.sum() > 9 * 90
        and 2 <= KILOMETER.row_of(KILOMETER.center(np.array([cell]))[1])[0] < KILOMETER.rows - 2
    ]
    assert len(full) > 500
    shares = [found[c] / found[c].sum() - expected[c] / expected[c].sum() for c in full]
    assert np.abs(shares).max() < 0.08
    assert np.abs(np.mean(shares, axis=0)).max() < 1e-3
    same = [found[c].argmax() == expected[c].argmax() for c in full]
    assert np.mean(same) > 0.98


@pytest.mark.parametrize("crs", [4326, 32633, 3995])
def test_coarse_pixels_reach_every_cell(tmp_path: Path, crs: int) -> None:
    """Pixels of 5 km: every cell gets the elevation of its place."""
    shape = 20, 20
    transform = {
        4326: grid(12, 48, 0.05, 0.05),
        32633: grid(4e5, 5.3e6, 5e3, 5e3),
        3995: grid(-5e4, 5e4, 5e3, 5e3),
    }[crs]
    heights = np.arange(400, dtype=np.int16).reshape(shape)
    path = write(tmp_path / "height.tif", heights, transform, crs)
    raster = open_raster(find_source([str(path)]))
    lon, lat = centers((100, 100), transform @ Affine.scale(0.2), crs)
    for block in blocks_around(KILOMETER, lon, lat):
        cells = KILOMETER.cells(block)
        means = mean_height(raster, KILOMETER, block).mean
        inside = np.isin(cells, KILOMETER.number(lon.ravel(), lat.ravel()))
        assert np.isfinite(means[inside]).mean() > 0.9 if inside.sum() > 50 else True
    # In the middle of a pixel the mean is the pixel's own.
    lon, lat = centers(shape, transform, crs)
    number = KILOMETER.number(lon.ravel(), lat.ravel())
    own = {}
    for block in blocks_around(KILOMETER, lon, lat):
        means = mean_height(raster, KILOMETER, block).mean
        own |= dict(zip(KILOMETER.cells(block).tolist(), means.tolist(), strict=True))
    np.testing.assert_allclose([own[n] for n in number.tolist()], heights.ravel())


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_mean_elevation_beside_nodata(tmp_path: Path, dtype: str) -> None:
    shape, transform = (150, 200), grid(8, 46, 0.0023, 0.0019)
    lon, lat = centers(shape, transform, 4326)
    heights = ground(lon, lat).astype(dtype)
    valid = np.ones(shape, bool)
    valid[30:70, 40:120] = False
    heights[~valid] = -9999
    heights[100, 100], heights[100, 101], valid[100, 100:102] = -32000, 9500, False
    if dtype == "float32":
        heights[5, 5:9], valid[5, 5:9] = np.nan, False
    path = write(tmp_path / "height.tif", heights, transform, 4326, nodata=-9999)
    raster = open_raster(find_source([str(path)]))
    expected = brute_height(KILOMETER, heights.astype(np.float64), valid, transform, 4326)
    found, absurd, missing = {}, 0, 0
    for block in blocks_around(KILOMETER, lon, lat):
        heights_of = mean_height(raster, KILOMETER, block)
        absurd += heights_of.absurd
        missing += heights_of.missing.sum()
        cells = KILOMETER.cells(block).tolist()
        found |= {c: m for c, m in zip(cells, heights_of.mean.tolist(), strict=True) if m == m}
    assert absurd == 2
    assert missing == (~valid).sum()
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(
        [found[c] for c in expected], list(expected.values()), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("crs", [4326, 32633])
@pytest.mark.parametrize("masked", ["", "mask", "alpha"])
def test_values_without_a_class_are_counted(tmp_path: Path, crs: int, masked: str) -> None:
    shape = 60, 60
    transform = grid(12, 48, 0.002, 0.002) if crs == 4326 else grid(4e5, 5.3e6, 200, 200)
    values = np.full(shape, 10, np.uint8)
    values[10:14, 10:20], values[30, 30] = 77, 3
    path = write(tmp_path / "cover.tif", values, transform, crs)
    mask = np.full(shape, 255, np.uint8)
    mask[30, 30] = 0
    if masked == "mask":
        with rasterio.open(path, "r+") as file:
            file.write_mask(mask)
    if masked == "alpha":
        with rasterio.open(
            path, "w", "GTiff", 60, 60, 2, crs, transform, "uint8", photometric="minisblack",
            alpha="yes",
        ) as file:  # fmt: skip
            file.write(np.stack([values, mask]))
    raster = open_raster(find_source([str(path)]))
    lon, lat = centers(shape, transform, crs)
    unknown: Counter[int] = Counter()
    for block in blocks_around(KILOMETER, lon, lat):
        unknown += count_cover(raster, TABLE, KILOMETER, block).unknown
    assert set(unknown) == ({77} if masked else {3, 77})
    if crs == 4326:
        assert unknown[77] == 40


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "cover.tif", patches(0, 400, 400), grid(8, 46, 0.002, 0.002), 4326)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    path.write_bytes(data)
    raster = open_raster(find_source([str(path)]))
    lon, lat = np.array([8.4]), np.array([45.6])
    (block,) = blocks_around(KILOMETER, lon, lat)
    with pytest.raises(UserError, match=r"cover\.tif cannot be read near .* E, .* N"):
        count_cover(raster, TABLE, KILOMETER, block)


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    values = patches(0, 50, 50)
    lost = write(tmp_path / "lost.tif", values, grid(8, 46, 0.002, 0.002), None)
    with pytest.raises(UserError, match=r"lost\.tif has no CRS"):
        open_raster(find_source([str(lost)]))
    # Degrees in a system of metres: a lattice as fine as its pixels would have no end.
    wrong = write(tmp_path / "wrong.tif", values, grid(8, 46, 0.002, 0.002), 32633)
    with pytest.raises(UserError, match=r"wrong\.tif has pixels of 0\.0\d+ m, as if its degrees"):
        open_raster(find_source([str(wrong)]))
    text = tmp_path / "text.tif"
    text.write_text("no raster")
    with pytest.raises(UserError, match=r"text\.tif cannot be opened as a raster"):
        open_raster(find_source([str(text)]))
    with pytest.raises(UserError, match=r"absent\.tif"):
        find_source([str(tmp_path / "absent.tif")])
    with pytest.raises(UserError, match="cannot be opened as a raster"):
        open_raster(find_source(["/vsizip/absent.zip/cover.tif"]))
