"""Tiles of a map that would be too large for one file.

They are cut at multiples of their size in the CRS of the scene, between pixels of the scene's own
grid: nothing is resampled, and tiles of scenes side by side fit together.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rasterio.windows import Window

from cgeartheye.geo.reader import Span
from cgeartheye.mapping.blending import NODATA
from cgeartheye.mapping.geotiff import RawRaster
from cgeartheye.mapping.job import MapJob
from cgeartheye.utils.errors import UserError

_FEWEST = 16  # pixels a side
_PIXELS = 2**24  # that are looked at at a time


@dataclass(frozen=True)
class Tile:
    """A part of a map.

    Attributes:
        name: easting and northing of its lower left corner, in tiles: `500_4400`.
        rows: of the map.
        columns: of the map.
    """

    name: str
    rows: Span
    columns: Span

    @property
    def window(self) -> Window:
        """As rasterio has it."""
        return Window.from_slices(self.rows, self.columns)


def check_tiles(job: MapJob) -> None:
    """Refuse tiles of a map that cannot be cut.

    Raises:
        UserError: the scene has no projected CRS or is rotated, or tiles are too small.
    """
    crs, transform = job.scene.crs, job.transform
    if crs is None or not crs.is_projected or transform.b or transform.d:
        raise UserError(
            f"{job.scene.name} cannot be mapped in --tiles, which are cut along the axes of a "
            "projected CRS: warp it to one, north up, with gdalwarp -t_srs EPSG:CODE"
        )
    least = _FEWEST * max(abs(transform.a), abs(transform.e)) * crs.linear_units_factor[1]
    size = job.options.tiles
    if size is not None and size < least:
        raise UserError(
            f"--tiles {size:g} is out of range: give at least {math.ceil(least)} m, {_FEWEST} "
            "pixels of the map"
        )


def tiles_of(job: MapJob) -> Iterator[Tile]:
    """Yield the tiles of a map, from its first row on."""
    assert job.options.tiles is not None
    assert job.scene.crs is not None
    size = job.options.tiles / job.scene.crs.linear_units_factor[1]
    (height, width), place = job.grid.shape, job.transform
    across = _cut(place.c, place.a, width, size)
    for north, rows in _cut(place.f, place.e, height, size):
        for east, columns in across:
            yield Tile(f"{east}_{north}", rows, columns)


def has_data(plane: RawRaster, tile: Tile) -> bool:
    """Return whether any pixel of a tile of a map of classes has data."""
    step = max(1, _PIXELS // (tile.columns[1] - tile.columns[0]))
    return any(
        bool(np.any(plane.read((top, min(top + step, tile.rows[1])), 0, tile.columns) != NODATA))
        for top in range(*tile.rows, step)
    )


def _cut(origin: float, step: float, count: int, size: float) -> list[tuple[int, Span]]:
    """Cut pixels along an axis at multiples of a size; return number and span of each part.

    Args:
        origin: coordinate of the first pixel's outer edge.
        step: from a pixel to the next, negative where coordinates fall.
        count: pixels.
        size: of a tile, in the same unit.
    """
    ends = sorted((origin, origin + step * count))
    parts = []
    for number in range(math.floor(ends[0] / size), math.ceil(ends[1] / size)):
        edges = (round(((number + side) * size - origin) / step) for side in (0, 1))
        first, last = sorted(min(max(edge, 0), count) for edge in edges)
        if first < last:
            parts.append((number, (first, last)))
    return sorted(parts, key=lambda part: part[1])
