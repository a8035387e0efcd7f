"""Rasters of the Earth in any CRS, read as pixels along meridians and parallels.

A raster in longitude and latitude is read as it is, its own pixels. Any other is seen through
GDAL's warper, the nearest pixel (to an eighth of one) at each point of a lattice as fine as the
raster. Where pixels are too large to fall into every cell, they are divided. All pixels of a cell
count alike, though those towards the pole are narrower: it matters in the two rows at a pole only.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from cgeartheye.geo.crs import METERS_PER_DEGREE, WGS84
from cgeartheye.geo.georeference import locate
from cgeartheye.geo.validity import has_alpha
from cgeartheye.geo.vrt import build_mosaic_vrt, file_signature, find_rasters
from cgeartheye.jlssd.sampling.equal_area_grid import Block, Bounds, Floats, Grid
from cgeartheye.utils.allocation import refuse_blocks
from cgeartheye.utils.errors import UserError

_LEAST = 4  # of a raster's own pixels along a side of a cell, whole ones or parts
_FINEST = 0.01  # m/px; finer are only degrees that are taken for metres
_LEAST_WARPED = 32  # points of a lattice along it: with fewer, which pixels they meet is chance
_STRIP = 8  # rows of cells that one warped lattice covers
_PIXELS = 24 * 2**20  # that are held at a time


@dataclass(frozen=True)
class Source:
    """Source that GDAL is asked to open.

    Attributes:
        name: for messages.
        path: of a file, any path of GDAL, or the text of a virtual mosaic.
        identity: JSON values that identify its content.
    """

    name: str
    path: str
    identity: list[Any]


class Piece(NamedTuple):
    """Pixels with their middles.

    Attributes:
        values: `[H, W]`.
        valid: where there is data, `[H, W]`; none: everywhere, but for `nodata`.
        lat: degrees, `[H]`, in order.
        lon: degrees from -180 to 180, `[W]`, ascending.
    """

    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None
    lat: Floats
    lon: Floats


def find_source(inputs: Sequence[str]) -> Source:
    """Name a raster: a file, a folder or several of them as one mosaic, or any path of GDAL.

    Raises:
        UserError: files that are missing or do not go together.
    """
    if len(inputs) == 1 and is_of_gdal(inputs[0]):
        return Source(inputs[0], inputs[0], identity_of(inputs))
    for path in inputs:
        if is_of_gdal(path):
            raise UserError(f"{path} is no local file: make one mosaic of all with gdalbuildvrt")
    paths = find_rasters([Path(path) for path in inputs])
    name = str(paths[0]) + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    try:
        return Source(name, build_mosaic_vrt(paths), identity_of(inputs))
    except UserError as error:
        # How a map goes on is no advice here.
        problem = str(error).partition(": map ")[0]
        raise UserError(
            f"{problem}: make one mosaic of all with gdalbuildvrt, or with gdalwarp if their "
            "CRSs differ"
        ) from error


def identity_of(inputs: Sequence[str]) -> list[Any]:
    """Return JSON values that identify the content of rasters: size and time of files.

    Raises:
        UserError: files that are missing.
    """
    found: list[Any] = []
    for path in inputs:
        if is_of_gdal(path):
            found.append(path)
        else:
            found += [list(one) for one in file_signature(find_rasters([Path(path)]))]
    return found


def is_of_gdal(path: str) -> bool:
    """Return whether only GDAL can open a path: `/vsicurl/...`, `s3://...`, `WMS:...`."""
    return not Path(path).exists() and (path.startswith("/vsi") or ":" in path or "<" in path)


@dataclass(frozen=True)
class Raster:
    """One band over the Earth.

    Attributes:
        source: that it is read from.
        nodata: the value that means that there is none.
        dtype: of its values.
    """

    source: Source
    nodata: float | None
    dtype: str
    _transform: Affine
    _size: tuple[int, int]
    _in_degrees: bool
    _masked: bool
    _pixel: tuple[float, float]

    def pieces(self, grid: Grid, block: Block, around: Bounds) -> Iterator[Piece]:
        """Read the pixels in a block and between two meridians, piece by piece.

        Every pixel of the lattice with its middle there is in one piece; others may be.

        Args:
            grid: of the cells.
            block: of the grid.
            around: the part of it that is wanted, its west and east.

        Raises:
            UserError: it cannot be read.
        """
        try:
            read = self._own_pixels if self._in_degrees else self._warped
            yield from read(grid, block, float(around.west), float(around.east))
        except (RasterioError, OSError) as error:
            reason = " ".join(str(error.__cause__ or error).split())
            raise UserError(
                f"{self.source.name} cannot be read near {float(around.west):.2f} E, "
                f"{float(around.south):.2f} N ({reason}): restore the file, then give the same "
                "command again; what is finished is kept"
            ) from error

    def _own_pixels(self, grid: Grid, block: Block, west: float, east: float) -> Iterator[Piece]:
        a, _, left, _, e, top = self._transform[:6]
        width, height = self._size
        north, south = grid.latitudes[block.first], grid.latitudes[block.end]
        limits = sorted(((north - top) / e, (south - top) / e))
        first, end = _within(limits[0], limits[1], height)
        fy = _parts(abs(e) * METERS_PER_DEGREE, grid.side)
        fx = _parts(a * METERS_PER_DEGREE * _shrinking(north, south), grid.side)
        for turn in (-360, 0, 360):
            start, stop = _within((west - turn - left) / a, (east - turn - left) / a, width)
            if stop <= start or end <= first:
                continue
            lon = left + turn + a * (start + (np.arange((stop - start) * fx) + 0.5) / fx)
            # What a raster shows beyond 180 degrees is the neighbour of what it begins with.
            a_turn = slice(*np.searchsorted(lon, (-180, 180)))
            step = max(1, _PIXELS // ((stop - start) * fx * fy))
            for row in range(first, end, step):
                rows = min(step, end - row)
                values, valid = self._read(
                    self._file, Window(start, row, stop - start, rows), self._masked
                )
                lat = top + e * (row + (np.arange(rows * fy) + 0.5) / fy)
                yield Piece(
                    _divided(values, fy, fx)[:, a_turn],
                    None if valid is None else _divided(valid, fy, fx)[:, a_turn],
                    lat,
                    lon[a_turn],
                )

    def _warped(self, grid: Grid, block: Block, west: float, east: float) -> Iterator[Piece]:
        step = min(*self._pixel, grid.side / _LEAST_WARPED) / METERS_PER_DEGREE
        for first in range(block.first - block.first % _STRIP, block.end, _STRIP):
            # The lattice is the same whatever the block.
            edges = grid.latitudes[first], grid.latitudes[min(first + _STRIP, grid.rows)]
            turn = math.ceil(360 * _shrinking(*edges) / step)
            across = 360 / turn
            top, bottom = (math.floor((90 - edge) / step) for edge in edges)
            start = math.floor((west + 180) / across)
            stop = min(math.ceil((east + 180) / across), turn)
            lon = -180 + across * (np.arange(start, stop, dtype=np.float64) + 0.5)
            rows = max(1, _PIXELS // (stop - start))
            for row in range(top, bottom + 1, rows):
                end = min(row + rows, bottom + 1)
                place = Affine(across, 0, -180 + across * start, 0, -step, 90 - step * row)
                values, valid = self._through_warper(place, stop - start, end - row)
                yield Piece(values, valid, 90 - step * (np.arange(row, end) + 0.5), lon)

    def _through_warper(
        self, place: Affine, width: int, height: int
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
        # Without a value for it, a mask marks that there is no data beyond the raster.
        unmarked = self.nodata is None or self._masked
        with WarpedVRT(
            self._file,
            crs=WGS84,
            transform=place,
            width=width,
            height=height,
            resampling=Resampling.nearest,
            add_alpha=unmarked and not has_alpha(self._file),
        ) as seen:
            return self._read(seen, Window(0, 0, width, height), unmarked)

    @staticmethod
    def _read(
        file: DatasetReader, window: Window, masked: bool
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
        values = file.read(1, window=window)
        return values, file.read_masks(1, window=window) > 0 if masked else None

    @cached_property
    def _file(self) -> DatasetReader:
        return rasterio.open(self.source.path)


def open_raster(source: Source) -> Raster:
    """Look at a raster that is to be read.

    Raises:
        UserError: it cannot be opened, has no CRS or no place in it, more than one
            band, pixels too fine for its CRS, or values that are complex or not those
            that are meant.
    """
    try:
        with (
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
            rasterio.open(source.path) as file,
        ):
            refuse_blocks(source.path, file)
            return _describe(file, source)
    except (RasterioError, OSError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"{source.name} cannot be opened as a raster: {reason}") from error


def _describe(file: DatasetReader, source: Source) -> Raster:
    if file.crs is None:
        raise UserError(
            f"{source.name} has no CRS, so no place on Earth: name it with "
            "gdal_edit.py -a_srs EPSG:CODE"
        )
    if file.count != 1 and file.mask_flag_enums[0] != [MaskFlags.per_dataset, MaskFlags.alpha]:
        raise UserError(f"{source.name} has {file.count} bands: extract one with gdal_translate -b")
    if (file.scales[0], file.offsets[0]) != (1, 0):
        raise UserError(
            f"{source.name} stores scaled values (scale {file.scales[0]:g}, offset "
            f"{file.offsets[0]:g}): unscale them with gdal_translate -unscale -ot Float32"
        )
    if file.dtypes[0].startswith("complex"):
        raise UserError(f"{source.name} holds complex values, which are neither class nor height")
    pixel = locate(file, source.name).ground
    if min(pixel) < _FINEST:
        raise UserError(
            f"{source.name} has pixels of {min(pixel):g} m, as if its degrees were metres: name "
            "its CRS with gdal_edit.py -a_srs EPSG:CODE"
        )
    turned = file.transform.b or file.transform.d or file.transform.a < 0
    return Raster(
        source=source,
        nodata=file.nodatavals[0],
        dtype=file.dtypes[0],
        _transform=file.transform,
        _size=(file.width, file.height),
        _in_degrees=file.crs == WGS84 and not turned and not file.transform.is_identity,
        _masked=not {MaskFlags.all_valid, MaskFlags.nodata} & set(file.mask_flag_enums[0]),
        _pixel=pixel,
    )


def _within(low: float, high: float, length: int) -> tuple[int, int]:
    """The pixels between two places of a row, and one more on each side."""
    first = min(max(math.floor(low) - 1, 0), length)
    return first, max(first, min(math.ceil(high) + 1, length))


def _shrinking(north: float, south: float) -> float:
    """Return the longest degree along a parallel, as a share of one at the equator."""
    return math.cos(math.radians(min(abs(north), abs(south)))) if north * south > 0 else 1.0


def _parts(pixel: float, side: float) -> int:
    """Into how many parts pixels are divided, so that enough of them fall into a cell."""
    return max(1, math.ceil(_LEAST * pixel / side))


def _divided(values: npt.NDArray[Any], fy: int, fx: int) -> npt.NDArray[Any]:
    return values if fy == fx == 1 else np.repeat(np.repeat(values, fy, 0), fx, 1)
