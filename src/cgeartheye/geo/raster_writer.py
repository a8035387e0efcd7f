"""Rasters that are written whole, and read back before they have their name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from warnings import catch_warnings

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio._err import CPLE_BaseError  # what GDAL's own errors are: rasterio wraps only some
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from cgeartheye.utils.io import replacing

Reading = Callable[[tuple[int, int]], npt.NDArray[Any]]
"""Returns the right values of some rows, `[bands, rows, columns]`."""

GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""Exceptions that rasterio raises where GDAL cannot write."""

_PIXELS = 2**24  # that are read at a time


@contextmanager
def replacing_raster(
    path: Path, folder: Path | None = None, right: Reading | None = None
) -> Iterator[Path]:
    """Yield a temporary path for a raster; check it, then rename it: see `utils.io.replacing`.

    GDAL returns without an error from many a write that failed, so every block of the raster and
    of its overviews is read.

    Args:
        path: of the raster.
        folder: for the unfinished file, on the same disk; none: that of `path`.
        right: the values that it must have; none: any that can be read.

    Raises:
        UserError: it cannot be written, or not be read back.
    """
    with replacing(path, folder, GDAL_ERRORS) as unfinished:
        try:
            yield unfinished
        except SystemError:  # what rasterio makes of an error of GDAL without a number
            raise OSError("GDAL gives no reason") from None
        with catch_warnings(action="ignore"):  # an image may not be georeferenced
            _check(unfinished, right)


def _check(path: Path, right: Reading | None) -> None:
    """Read all blocks.

    Raises:
        OSError: one is missing, or has other values.
        RasterioError: one cannot be read.
    """
    with rasterio.open(path) as file:
        _check_level(file, right)
        levels = len(file.overviews(1))
    for level in range(levels):
        with rasterio.open(path, overview_level=level) as file:
            _check_level(file, None)


def _check_level(file: DatasetReader, right: Reading | None) -> None:
    height, width = file.block_shapes[0]
    if file.driver == "GTiff":  # a block that was not written would be read as nodata
        blocks = -(-file.height // height), -(-file.width // width)
        for y, x in np.ndindex(*blocks):
            if file.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=file.count) is None:
                raise OSError(f"the block at row {y * height}, column {x * width} is not there")
    step = max(1, _PIXELS // (file.width * file.count * height)) * height
    for top in range(0, file.height, step):
        rows = top, min(top + step, file.height)
        values = file.read(window=Window(0, top, file.width, rows[1] - top))
        if right is not None and not np.array_equal(values, right(rows)):
            raise OSError(f"rows {rows[0]}-{rows[1] - 1} are not what was written")
