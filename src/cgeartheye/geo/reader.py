"""A scene of any size, read piece by piece as 8-bit red, green and blue."""

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from cgeartheye.geo.georeference import locate
from cgeartheye.geo.rectify import Rectification, rectification_of
from cgeartheye.geo.remote import address_of, driver_of
from cgeartheye.geo.stretch import percentile_limits, sample_squares, squares_with_data, to_8_bits
from cgeartheye.geo.validity import MaskedRaster, look_for_data, valid_pixels
from cgeartheye.geo.vrt import build_mosaic_vrt, file_signature, find_rasters
from cgeartheye.utils.allocation import refuse_blocks
from cgeartheye.utils.console import log_info, warn
from cgeartheye.utils.errors import UserError

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Span = tuple[int, int]
"""First row or column, and the one after the last."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A raster that GDAL opens; every thread reads through a handle of its own.

    Attributes:
        channels: of what is read.
        dates: none: it is of one.
        name: the file, or the first of a mosaic, for messages.
        files: that it consists of.
        width: pixels.
        height: pixels.
        transform: from pixels to the map.
        crs: none if the scene is not georeferenced.
        ground: metres from one column, and from one row, to the next.
        bands: that are red, green and blue.
        all_valid: whether every pixel has data by its header and its type.
        block: rows and columns of the blocks it is stored in.
        stretch: values that become 0 and 255; none for 8-bit bands, which stay as they are.
        rectification: how it is warped, if control points or RPCs place it that no affine fits.
    """

    channels: ClassVar[int] = 3
    dates: ClassVar[tuple[str, ...]] = ()

    name: str
    files: tuple[Path, ...]
    width: int
    height: int
    transform: Affine
    crs: CRS | None
    ground: tuple[float, float]
    bands: tuple[int, int, int]
    all_valid: bool
    block: tuple[int, int]
    stretch: tuple[float, float] | None
    _source: str
    _palette: Bytes | None
    _overviews: tuple[int, ...]
    _level: int | None = None
    rectification: Rectification | None = None
    _handles: threading.local = field(default_factory=threading.local)

    @property
    def title(self) -> str:
        """Its name without the folder."""
        return Path(self.name).name

    @property
    def identity(self) -> dict[str, Any]:
        """Return values that distinguish its pixels from others', for JSON."""
        return {"scenes": file_signature(self.files)}

    @property
    def facts(self) -> dict[str, Any]:
        """Return the facts besides its position, for JSON."""
        facts: dict[str, Any] = {"bands": self.bands, "stretch": self.stretch}
        if self.rectification is not None:
            facts["rectification"] = self.rectification.facts
        return facts

    def read(self, rows: Span, columns: Span) -> tuple[Bytes, Bools | None]:
        """Read a rectangle.

        Returns:
            uint8 `[3, rows, columns]`, 0 where there is no data; and where there is data, bool
            `[rows, columns]`, or none if everywhere.

        Raises:
            UserError: it cannot be read; the sentence names the rectangle.
        """
        values, valid = self._load(rows, columns)
        return self._to_8_bits(values, valid), None if valid is None or valid.all() else valid

    def coarser(self, rows: int, columns: int) -> "Scene":
        """Return the smallest overview that has that many rows and columns, or the scene itself.

        Where pixels may lack data it is the scene itself: overviews lose single pixels.
        """
        if not self.all_valid or self._palette is not None:
            return self
        best = self
        for level, factor in enumerate(self._overviews):
            width, height = -(-self.width // factor), -(-self.height // factor)
            if height >= rows and width >= columns:
                best = replace(
                    self, width=width, height=height, _level=level, _handles=threading.local()
                )
        return best

    @property
    def _chosen(self) -> list[int]:
        return sorted(set(self.bands))

    def _load(self, rows: Span, columns: Span) -> tuple[npt.NDArray[Any], Bools | None]:
        """The chosen bands as they are stored, and where they have data."""
        window = Window(columns[0], rows[0], columns[1] - columns[0], rows[1] - rows[0])
        try:
            file = self._open()
            if isinstance(file, MaskedRaster):
                return file.read(self._chosen, window)
            values = file.read(self._chosen, window=window)
            return values, None if self.all_valid else valid_pixels(
                file, self._chosen, values, window
            )
        except (RasterioError, OSError) as error:
            raise UserError(
                f"{self.name} cannot be read in rows {rows[0]}-{rows[1] - 1}, columns "
                f"{columns[0]}-{columns[1] - 1} ({_reason(error)}): restore the file, then go on "
                "with --resume"
            ) from error

    def _open(self) -> DatasetReader | MaskedRaster:
        if not hasattr(self._handles, "file"):
            with _quiet():
                opened = rasterio.open(
                    self._source, **({} if self._level is None else {"overview_level": self._level})
                )
                how = self.rectification
                self._handles.file = (
                    opened if how is None else _rectified(opened, how, self._palette is not None)
                )
        file: DatasetReader | MaskedRaster = self._handles.file
        return file

    def _to_8_bits(self, values: npt.NDArray[Any], valid: Bools | None) -> Bytes:
        """Stored values as red, green and blue, 0 where there is no data."""
        if self._palette is not None:
            values = self._palette[values[0]].transpose(2, 0, 1)
        elif self.stretch is not None:
            values = to_8_bits(values, self.stretch, valid)
        if valid is not None:
            values = values * valid
        if self._palette is None and self._chosen != list(self.bands):
            values = values[[self._chosen.index(band) for band in self.bands]]
        return np.asarray(values, np.uint8)

    def sample(self) -> npt.NDArray[Any]:
        """Return values with data of the three bands together, from squares spread over the scene.

        At most 256 squares of 256 pixels, evenly spaced: all of a scene below 4,096 pixels a side.
        If all data lie between them, as in a mosaic of files far apart, others that have data.

        Raises:
            UserError: it cannot be read, or no pixel with data is found.
        """
        found = [self._values(*square) for square in sample_squares(self.height, self.width)]
        if not any(map(len, found)):
            file = self._open()
            file = file.nearest if isinstance(file, MaskedRaster) else file
            valid = look_for_data(file, self._chosen)
            squares = squares_with_data(valid, self.height, self.width)
            found += [self._values(*square) for square in squares]
        values = np.concatenate(found)
        if not values.size:
            raise UserError(
                f"no pixel with data was found in {self.name} to stretch its values by: give two "
                "of them with --stretch LOW HIGH, or leave it out"
            )
        return values

    def _values(self, rows: Span, columns: Span) -> npt.NDArray[Any]:
        """Values with data in a rectangle, `[N]`."""
        values, valid = self._load(rows, columns)
        return values.ravel() if valid is None else values[:, valid].ravel()


def open_scene(
    inputs: Sequence[Path],
    bands: tuple[int, int, int] = (1, 2, 3),
    stretch: tuple[float, float] | None = None,
    crs: str | None = None,
    ground: float | None = None,
    dem: str | None = None,
) -> Scene:
    """Open a scene: a raster, or several and folders of them as one mosaic.

    Args:
        inputs: files and folders.
        bands: counted from 1, that are red, green and blue; with one or two bands the first is
            grey.
        stretch: values that become 0 and 255 where a band has more than 8 bits. None: the 1st and
            99th percentile of the scene, over the chosen bands together.
        crs: of a scene that names none, `EPSG:32650`.
        ground: m/px, of a scene that is not georeferenced.
        dem: of a scene with RPCs: a raster of heights, or one height in metres above the ellipsoid.

    Raises:
        UserError: files that are missing, damaged or do not go together, a band that is not
            there, complex values, no CRS, or nothing to stretch by.
    """
    paths = find_rasters(inputs)
    source, name = build_mosaic_vrt(paths), address_of(paths[0])
    if len(paths) > 1:
        name += f" and {len(paths) - 1} more"
    try:
        driver = driver_of(paths[0]) if len(paths) == 1 else None
        with _quiet(), rasterio.open(source, driver=driver) as file:
            refuse_blocks(str(source), file)
            how = rectification_of(file, name, dem)
            if how is None:
                place = locate(file, name, crs, ground)
            else:
                warped = _rectified(file, how, palette=False).file
                place = locate(warped, name)
            scene = _describe(file, name, paths, bands, place.transform, place.crs, place.ground)
            if how is not None:
                log_info(how.sentence)
                scene = replace(
                    scene,
                    height=warped.height,
                    width=warped.width,
                    all_valid=False,
                    rectification=how,
                    _overviews=(),
                )
        scene = replace(scene, _source=source)
        if file.dtypes[0] != "uint8":
            scene = replace(scene, stretch=stretch or percentile_limits(scene.sample()))
    except (RasterioError, OSError) as error:
        raise UserError(f"{name} cannot be opened as a raster: {_reason(error)}") from error
    return scene


def _rectified(file: DatasetReader, how: Rectification, palette: bool) -> MaskedRaster:
    """Return a raster on the grid of GDAL's choice; numbers of colors have no mean."""
    resampling = Resampling.nearest if palette else Resampling.bilinear
    return how.open(file, resampling)


def _describe(
    file: DatasetReader,
    name: str,
    paths: Sequence[Path],
    bands: tuple[int, int, int],
    transform: Affine,
    crs: CRS | None,
    ground: tuple[float, float],
) -> Scene:
    palette = None
    if file.count <= 2:
        bands = (1, 1, 1)
        if file.dtypes[0].startswith("float"):
            warn(
                f"{name} has one band of {file.dtypes[0]} values, which is taken for a grey image: "
                "heights and indices are none"
            )
    if max(bands) > file.count or min(bands) < 1:
        wrong = max(bands) if max(bands) > file.count else min(bands)
        raise UserError(f"{name} has {file.count} bands, so no band {wrong}: change --bands")
    if file.dtypes[0].startswith("complex"):
        raise UserError(f"{name} holds complex values: convert it to amplitudes")
    if file.colorinterp[0] == ColorInterp.palette and file.dtypes[0] == "uint8":
        palette = np.zeros((256, 3), np.uint8)
        for index, color in file.colormap(1).items():
            palette[index] = color[:3]
        bands = (1, 1, 1)
    flags = file.mask_flag_enums[bands[0] - 1]
    floats = file.dtypes[0].startswith("float")
    return Scene(
        name=name,
        files=tuple(paths),
        width=file.width,
        height=file.height,
        transform=transform,
        crs=crs,
        ground=ground,
        bands=bands,
        all_valid=flags == [MaskFlags.all_valid] and not floats,
        block=file.block_shapes[0],
        stretch=None,
        _source="",
        _palette=palette,
        _overviews=tuple(file.overviews(bands[0])),
    )


def _quiet() -> "warnings.catch_warnings[None]":
    """Suppress rasterio's warning of a missing georeference: we print one of our own."""
    return warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning)


def _reason(error: Exception) -> str:
    return " ".join(str(error.__cause__ or error).split())
