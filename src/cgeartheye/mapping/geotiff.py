"""The unfinished map: plain rows of bytes on disk, which a kill cannot spoil; then GeoTIFFs."""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from html import escape
from pathlib import Path
from xml.etree.ElementTree import fromstring

import numpy as np
import rasterio.shutil
from affine import Affine
from rasterio.crs import CRS

from cgeartheye.geo.raster_writer import replacing_raster
from cgeartheye.geo.reader import Bytes, Span
from cgeartheye.geo.vrt import vrt_dataset
from cgeartheye.mapping.blending import NODATA
from cgeartheye.utils.colors import RGB
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_text

_needs_room: ContextVar[bool] = ContextVar("needs_room", default=True)


@contextmanager
def nearly_empty() -> Iterator[None]:
    """Have files made of which little will be written.

    There need be no room for all of them, and what is written is recorded.
    """
    token = _needs_room.set(False)
    try:
        yield
    finally:
        _needs_room.reset(token)


class RawRaster:
    """Bytes `[bands, height, width]` in a file, written and read by rows.

    Attributes:
        is_new: whether the file was made, and is all 0.
        written: rows and columns that were written, piece by piece; recorded in `nearly_empty`.
    """

    def __init__(self, path: Path, bands: int, height: int, width: int):
        """Open the file, or make it, as large as it will be.

        Raises:
            UserError: the disk has no room for it.
        """
        self.path, self.bands, self.height, self.width = path, bands, height, width
        size = bands * height * width
        self.written: list[tuple[Span, Span]] | None = None if _needs_room.get() else []
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            self.is_new = os.fstat(self._file).st_size != size
            if self.is_new:
                if _needs_room.get() and shutil.disk_usage(path.parent).free < size:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.ftruncate(self._file, size)
        except OSError as error:
            raise UserError(
                f"cannot write {path} ({size / 1e9:.1f} GB): {error.strerror}"
            ) from error

    def write(self, rows: Span, first: int, values: Bytes) -> None:
        """Write a block of pixels.

        Args:
            rows: first and last + 1 in the raster.
            first: column of the first value.
            values: uint8 `[bands, rows, columns]`.
        """
        values = np.ascontiguousarray(values)
        if self.written is not None:
            self.written.append((rows, (first, first + values.shape[2])))
        whole = values.shape[2] == self.width
        for band, plane in enumerate(values):
            start = (band * self.height + rows[0]) * self.width + first
            for number, line in enumerate([plane] if whole else plane):
                self._write(line, start + number * self.width)

    def read(self, rows: Span, band: int = 0, columns: Span | None = None) -> Bytes:
        """Read rows of a band, `[rows, columns]`.

        Args:
            rows: first and last + 1.
            band: from 0.
            columns: first and last + 1; none: all.
        """
        first, end = columns or (0, self.width)
        count = rows[1] - rows[0]
        start = (band * self.height + rows[0]) * self.width + first
        if end - first == self.width:
            data = os.pread(self._file, count * self.width, start)
        else:
            lines = range(start, start + count * self.width, self.width)
            data = b"".join(os.pread(self._file, end - first, line) for line in lines)
        return np.frombuffer(data, np.uint8).reshape(count, end - first)

    def read_bands(self, rows: Span, columns: Span | None = None) -> Bytes:
        """Read rows of all bands, `[bands, rows, columns]`; see `read`."""
        return np.stack([self.read(rows, band, columns) for band in range(self.bands)])

    def sync(self) -> None:
        """Wait until all that was written is on the disk.

        Raises:
            UserError: it is not.
        """
        try:
            os.fdatasync(self._file)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _write(self, line: Bytes, start: int) -> None:
        view = memoryview(line.tobytes())
        try:
            while view:  # a call writes 2 GB at most
                written = os.pwrite(self._file, view, start)
                view, start = view[written:], start + written
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error


@dataclass(frozen=True)
class RasterStyle:
    """Metadata of a GeoTIFF of the map.

    Attributes:
        transform: from pixels to the map.
        crs: none if the scene is not georeferenced.
        classes: names by value.
        colors: by value.
        tags: any others.
    """

    transform: Affine
    crs: CRS | None
    classes: Sequence[str]
    colors: Sequence[RGB]
    tags: Mapping[str, str]


def write_geotiff(
    plane: RawRaster, path: Path, style: RasterStyle, part: tuple[Span, Span] | None = None
) -> None:
    """Write a plane as a cloud-optimised GeoTIFF with overviews, and `.aux.xml` with the names.

    A plane of one band is a map of classes, of several the percentages of each.

    Args:
        plane: the pixels.
        path: of the GeoTIFF.
        style: CRS, transform, colors and names of the plane.
        part: rows and columns that are written; none: all of the plane.

    Raises:
        UserError: it cannot be written.
    """
    virtual = plane.path.with_suffix(".vrt")
    rows, columns = part or ((0, plane.height), (0, plane.width))

    def right(lines: Span) -> Bytes:
        return plane.read_bands((rows[0] + lines[0], rows[0] + lines[1]), columns)

    with replacing_raster(path, plane.path.parent, right) as unfinished:
        virtual.write_text(_virtual(plane, style, rows, columns), encoding="utf-8")
        rasterio.shutil.copy(
            virtual,
            unfinished,
            driver="COG",
            compress="DEFLATE",
            blocksize=512,
            bigtiff="IF_SAFER",
            # The class that most of the pixels beneath have; nearest would keep single pixels.
            overview_resampling="MODE" if plane.bands == 1 else "AVERAGE",
            num_threads="ALL_CPUS",
        )
        sidecar = Path(f"{unfinished}.aux.xml")
        if plane.bands == 1:
            text = sidecar.read_text(encoding="utf-8")
            if [name.text or "" for name in fromstring(text).iter("Category")] != list(
                style.classes
            ):
                raise OSError("the names of the classes cannot be read back")
            write_text(Path(f"{path}.aux.xml"), text)
        sidecar.unlink(missing_ok=True)


def styled_vrt(
    shape: tuple[int, int], bands: Sequence[tuple[str, str]], transform: Affine, style: RasterStyle
) -> str:
    """Return the XML of a GDAL virtual raster with the names and colors of a map.

    Args:
        shape: rows and columns.
        bands: of each the attributes of its element, and the XML of where its pixels are.
        transform: from its pixels to the map.
        style: CRS, colors and names.
    """
    tags = {"CLASSES": ",".join(style.classes), **style.tags}
    text = "".join(
        f'<VRTRasterBand dataType="Byte" band="{number + 1}"{attributes}>'
        f"<NoDataValue>{NODATA}</NoDataValue>{_meaning(style, number, len(bands))}{pixels}"
        "</VRTRasterBand>"
        for number, (attributes, pixels) in enumerate(bands)
    )
    crs = style.crs.to_wkt() if style.crs else None
    return vrt_dataset(shape[1], shape[0], text, transform, crs, tags)


def _virtual(plane: RawRaster, style: RasterStyle, rows: Span, columns: Span) -> str:
    """Return the XML of a GDAL virtual raster of a part of the plane, in the same folder."""
    bands = [
        (
            ' subClass="VRTRawRasterBand"',
            f'<SourceFilename relativeToVRT="1">{plane.path.name}</SourceFilename>'
            f"<ImageOffset>{(number * plane.height + rows[0]) * plane.width + columns[0]}"
            "</ImageOffset>"
            f"<PixelOffset>1</PixelOffset><LineOffset>{plane.width}</LineOffset>",
        )
        for number in range(plane.bands)
    ]
    place = style.transform @ Affine.translation(float(columns[0]), float(rows[0]))
    return styled_vrt((rows[1] - rows[0], columns[1] - columns[0]), bands, place, style)


def _meaning(style: RasterStyle, number: int, count: int) -> str:
    """Return the XML of what a band of so many means: classes, or the share of one of them."""
    if count > 1:
        return f"<Description>{escape(style.classes[number])}</Description>"
    names = "".join(f"<Category>{escape(name)}</Category>" for name in style.classes)
    entries = [(0, 0, 0)] * 256
    entries[: len(style.colors)] = style.colors
    colors = "".join(
        f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="{0 if value == NODATA else 255}"/>'
        for value, (r, g, b) in enumerate(entries)
    )
    return (
        f"<CategoryNames>{names}</CategoryNames>"
        f"<ColorInterp>Palette</ColorInterp><ColorTable>{colors}</ColorTable>"
    )
