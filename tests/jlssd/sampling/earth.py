"""Small rasters of land cover and elevation by code, and what brute force finds in them."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from pyproj import Transformer

from cgeartheye.jlssd.sampling.equal_area_grid import Grid
from cgeartheye.jlssd.sampling.land_cover_classes import WORLDCOVER, read_classes

TABLE = read_classes(WORLDCOVER)
VALUES = np.array(list(TABLE.class_of), np.uint8)


def write(path: Path, values: np.ndarray, transform: Affine, crs: Any, **profile: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=values.shape[1],
        height=values.shape[0],
        count=1,
        dtype=values.dtype,
        transform=transform,
        crs=crs,
        **({"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"} | profile),
    ) as file:
        file.write(values, 1)
    return path


def patches(seed: int, height: int, width: int, side: int = 5) -> np.ndarray:
    """Land cover in squares, of which one class in three is common."""
    random = np.random.default_rng(seed)
    shape = -(-height // side), -(-width // side)
    chosen = np.minimum(random.integers(0, len(VALUES) + 6, shape), len(VALUES) - 1)
    squares = VALUES[chosen].repeat(side, 0).repeat(side, 1)
    return squares[:height, :width]


def ground(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Metres above the sea, smooth, alike on both sides of the antimeridian."""
    x, y = np.radians(lon), np.radians(lat)
    return 900 + 700 * np.sin(40 * x) * np.cos(55 * y) + 200 * np.cos(y)


def centers(shape: tuple[int, int], transform: Affine, crs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of the pixels' middles."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    x, y = transform @ (columns, rows)
    if crs == 4326:
        return x, y
    return Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)


def brute_cover(
    grid: Grid, values: np.ndarray, transform: Affine, crs: Any, nodata: int | None = None
) -> dict[int, np.ndarray]:
    """Pixels of each class by cell, pixel by pixel."""
    lon, lat = centers(values.shape, transform, crs)
    number = grid.number(lon.ravel(), lat.ravel())
    found: dict[int, np.ndarray] = {}
    pairs = Counter(zip(number.tolist(), values.ravel().tolist(), strict=True))
    for (cell, value), count in pairs.items():
        if value in TABLE.class_of and value != nodata:
            counts = found.setdefault(cell, np.zeros(len(TABLE.names), np.int64))
            counts[TABLE.class_of[value]] += count
    return found


def brute_height(
    grid: Grid, values: np.ndarray, valid: np.ndarray, transform: Affine, crs: Any
) -> dict[int, float]:
    """Mean elevation by cell, pixel by pixel."""
    lon, lat = centers(values.shape, transform, crs)
    number = grid.number(lon.ravel(), lat.ravel())
    found: dict[int, list[float]] = {}
    for cell, value, there in zip(
        number.tolist(), values.ravel().tolist(), valid.ravel().tolist(), strict=True
    ):
        if there:
            found.setdefault(cell, []).append(value)
    return {cell: float(np.mean(all_)) for cell, all_ in found.items()}
