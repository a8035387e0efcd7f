"""Masks of the pixels with data, from a nodata value, a mask, an alpha band or NaN."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

_LOOKS = 2048  # rows and columns of which pixels are looked for that have data


def valid_pixels(
    file: DatasetReader,
    bands: Sequence[int],
    values: npt.NDArray[Any],
    window: Window | None = None,
) -> npt.NDArray[np.bool_]:
    """Return which pixels have data: any band has (a red roof may be 255 in red) and none is NaN.

    Args:
        file: an open raster.
        bands: counted from 1.
        values: of these bands as they are stored, `[bands, H, W]`.
        window: that they were read from; none: all of the raster.

    Returns:
        bool `[H, W]`.
    """
    flags = file.mask_flag_enums[bands[0] - 1]
    nodata = [file.nodatavals[band - 1] for band in bands]
    valid = np.ones(values.shape[1:], bool)
    if MaskFlags.nodata in flags and None not in nodata:
        valid = np.any([v != n for v, n in zip(values, nodata, strict=True)], axis=0)
    elif MaskFlags.all_valid not in flags:
        valid = file.read_masks(bands[0], window=window, out_shape=values.shape[1:]) > 0
    if values.dtype.kind == "f":
        valid &= np.isfinite(values).all(axis=0)
    return valid


def look_for_data(file: DatasetReader, bands: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return where there are data, of at most 2,048 rows and columns at equal distances.

    Args:
        file: an open raster.
        bands: counted from 1.
    """
    shape = len(bands), min(file.height, _LOOKS), min(file.width, _LOOKS)
    return valid_pixels(file, bands, file.read(list(bands), out_shape=shape))


@dataclass(frozen=True)
class MaskedRaster:
    """A raster on its own grid or on another, whose pixels are read with which of them have data.

    A pixel of another grid has data where the pixel nearest to its middle has. GDAL by itself
    forgets a mask when it warps, and counts an average as data if any pixel beneath it is.

    Attributes:
        file: gives the values.
        nearest: gives those of the nearest pixels, on the same grid.
        bands: how many the raster has.
    """

    file: DatasetReader
    nearest: DatasetReader
    bands: int

    def read(
        self, bands: Sequence[int], window: Window, resampling: Resampling = Resampling.nearest
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Read a rectangle.

        Args:
            bands: counted from 1.
            window: in pixels of the grid; between pixels, it is resampled.
            resampling: of a window between pixels.

        Returns:
            Values `[bands, H, W]` as they are stored, and which have data, bool `[H, W]`.
        """
        shape = len(bands), round(window.height), round(window.width)
        values = self.file.read(list(bands), window=window, out_shape=shape, resampling=resampling)
        nearest = values
        if self.nearest is not self.file or resampling != Resampling.nearest:
            nearest = self.nearest.read(list(bands), window=window, out_shape=shape)
        valid = valid_pixels(self.nearest, bands, nearest, window)
        if values.dtype.kind == "f":
            valid &= np.isfinite(values).all(axis=0)
        return values, valid


def on_own_grid(file: DatasetReader) -> MaskedRaster:
    """Return a raster as it is."""
    return MaskedRaster(file, file, file.count)


def on_grid(
    file: DatasetReader,
    crs: CRS,
    transform: Affine,
    shape: tuple[int, int],
    resampling: Resampling,
) -> MaskedRaster:
    """Return a raster as it is seen on another grid.

    Args:
        file: an open, georeferenced raster.
        crs: of the grid.
        transform: from the grid's pixels to the map.
        shape: rows and columns of the grid.
        resampling: of values; an average for a coarser grid.
    """
    options: dict[str, Any] = {"crs": crs, "transform": transform}
    options |= {"height": shape[0], "width": shape[1]}
    return _warped(file, resampling, options)


def rectified(
    file: DatasetReader, crs: CRS, options: Mapping[str, str], resampling: Resampling
) -> MaskedRaster:
    """Return a raster as GDAL warps it by its control points or RPCs, onto a grid of GDAL's choice.

    Args:
        file: an open raster without a transform.
        crs: of the grid.
        options: of GDAL's transformer.
        resampling: of values.
    """
    return _warped(file, resampling, {"crs": crs, **options})


def _warped(file: DatasetReader, resampling: Resampling, options: dict[str, Any]) -> MaskedRaster:
    floats = np.dtype(file.dtypes[0]).kind == "f"
    if floats and MaskFlags.all_valid in file.mask_flag_enums[0]:
        options |= {"src_nodata": np.nan, "nodata": np.nan}  # else NaN would spread
    elif file.nodata is None:
        # Without a value for it, a band marks what has no data and what is outside.
        options["add_alpha"] = not has_alpha(file)
    values = WarpedVRT(file, resampling=resampling, **options)
    nearest = WarpedVRT(file, resampling=Resampling.nearest, **options)
    return MaskedRaster(values, nearest, file.count)


def has_alpha(file: DatasetReader) -> bool:
    """Return whether a raster has an alpha band; GDAL refuses to add another when it warps."""
    return ColorInterp.alpha in file.colorinterp
