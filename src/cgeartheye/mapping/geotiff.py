"""The unfinished map: plain rows of bytes on disk, which a kill cannot spoil; then GeoTIFFs."""

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import rasterio.shutil
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import RasterioError

from cgeartheye.geo.reader import Bytes, Span
from cgeartheye.mapping.blending import NODATA
from cgeartheye.utils.errors import UserError

RGB = tuple[int, int, int]


class RawRaster:
    """Bytes `[bands, height, width]` in a file, written and read by rows."""

    def __init__(self, path: Path, bands: int, height: int, width: int):
        """Open the file, or make it, as large as it will be.

        Raises:
            UserError: the disk has no room for it.
        """
        self.path, self.bands, self.height, self.width = path, bands, height, width
        size = bands * height * width
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            if os.fstat(self._file).st_size != size:
                if shutil.disk_usage(path.parent).free < size:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.ftruncate(self._file, size)
        except OSError as error:
            raise UserError(
                f"cannot write {path} ({size / 1e9:.1f} GB): {error.strerror}"
            ) from error

    def write(self, rows: Span, first: int, values: Bytes) -> None:
        """Write `[bands, rows, columns]`, whose first column is `first`."""
        values = np.ascontiguousarray(values)
        whole = values.shape[2] == self.width
        for band, plane in enumerate(values):
            start = (band * self.height + rows[0]) * self.width + first
            for number, line in enumerate([plane] if whole else plane):
                self._write(line, start + number * self.width)

    def read(self, rows: Span, band: int = 0) -> Bytes:
        """Read whole rows of a band, `[rows, width]`."""
        shape = rows[1] - rows[0], self.width
        start = (band * self.height + rows[0]) * self.width
        data = os.pread(self._file, shape[0] * shape[1], start)
        return np.frombuffer(data, np.uint8).reshape(shape)

    def sync(self) -> None:
        """Wait until all that was written is on the disk."""
        os.fdatasync(self._file)

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
    """What a GeoTIFF of the map says besides its bytes.

    Attributes:
        transform: from pixels to the map.
        crs: none if the scene is on no map.
        classes: names by value.
        colors: by value.
        tags: any others.
    """

    transform: Affine
    crs: CRS | None
    classes: Sequence[str]
    colors: Sequence[RGB]
    tags: Mapping[str, str]


def write_geotiff(plane: RawRaster, path: Path, look: RasterStyle) -> None:
    """Write a plane as a cloud-optimised GeoTIFF with overviews, and `.aux.xml` with the names.

    A plane of one band is a map of classes, of several the percentages of each.

    Raises:
        UserError: it cannot be written.
    """
    virtual = plane.path.with_suffix(".vrt")
    virtual.write_text(_virtual(plane, look), encoding="utf-8")
    unfinished = plane.path.parent / path.name
    try:
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
        _publish(unfinished, path)
        sidecar = Path(f"{unfinished}.aux.xml")
        if sidecar.exists():
            _publish(sidecar, Path(f"{path}.aux.xml"))
    except (RasterioError, OSError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"cannot write {path}: {reason}") from error


def _publish(unfinished: Path, path: Path) -> None:
    """Move a whole file to its place, on the disk before it has its name."""
    with unfinished.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def _virtual(plane: RawRaster, look: RasterStyle) -> str:
    """The plane as the XML of a GDAL virtual raster, which lies beside it."""
    tags = {"CLASSES": ",".join(look.classes), **look.tags}
    metadata = "".join(f'<MDI key="{escape(k)}">{escape(v)}</MDI>' for k, v in tags.items())
    srs = f"<SRS>{escape(look.crs.to_wkt())}</SRS>" if look.crs else ""
    place = ", ".join(repr(float(v)) for v in look.transform.to_gdal())
    if look.transform.is_identity:
        place = ""
    bands = "".join(_virtual_band(plane, look, number) for number in range(plane.bands))
    return (
        f'<VRTDataset rasterXSize="{plane.width}" rasterYSize="{plane.height}">{srs}'
        + (f"<GeoTransform>{place}</GeoTransform>" if place else "")
        + f"<Metadata>{metadata}</Metadata>{bands}</VRTDataset>"
    )


def _virtual_band(plane: RawRaster, look: RasterStyle, number: int) -> str:
    if plane.bands == 1:
        names = "".join(f"<Category>{escape(name)}</Category>" for name in look.classes)
        entries = [(0, 0, 0)] * 256
        entries[: len(look.colors)] = look.colors
        colors = "".join(
            f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="{0 if value == NODATA else 255}"/>'
            for value, (r, g, b) in enumerate(entries)
        )
        meaning = (
            f"<CategoryNames>{names}</CategoryNames>"
            f"<ColorInterp>Palette</ColorInterp><ColorTable>{colors}</ColorTable>"
        )
    else:
        meaning = f"<Description>{escape(look.classes[number])}</Description>"
    return (
        f'<VRTRasterBand dataType="Byte" band="{number + 1}" subClass="VRTRawRasterBand">'
        f"<NoDataValue>{NODATA}</NoDataValue>{meaning}"
        f'<SourceFilename relativeToVRT="1">{plane.path.name}</SourceFilename>'
        f"<ImageOffset>{number * plane.height * plane.width}</ImageOffset>"
        f"<PixelOffset>1</PixelOffset><LineOffset>{plane.width}</LineOffset></VRTRasterBand>"
    )
