"""One file, or many as one mosaic: what GDAL is asked to open."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html import escape
from itertools import product, repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.session import DummySession

from cgeartheye.geo.rectify import fit_points, view_text
from cgeartheye.geo.remote import (
    address_of,
    driver_of,
    gdal_options,
    is_remote,
    list_rasters,
    signature,
)
from cgeartheye.geo.validity import rectified
from cgeartheye.utils.allocation import refuse_blocks
from cgeartheye.utils.errors import UserError

SUFFIXES = frozenset({".tif", ".tiff", ".vrt", ".jp2", ".img", ".png", ".jpg", ".jpeg"})
"""Endings that are searched for in a folder; a named file may have any."""

_AT_ONCE = 16  # files that are looked at: of those at addresses each look waits
_GDAL_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
}


@dataclass(frozen=True)
class _Tile:
    """Properties of one file of a mosaic.

    Attributes:
        path: of the file.
        source: what GDAL opens: the file, or the text of its warped view.
        mask: the same for what has data.
        palette: red, green and blue of the first band's values, if these are numbers of colors.
    """

    path: Path
    source: str
    mask: str
    width: int
    height: int
    types: tuple[str, ...]
    crs: str
    transform: Affine
    nodata: tuple[float | None, ...]
    all_valid: bool
    palette: tuple[tuple[int, ...], ...] | None

    @property
    def masks(self) -> range:
        """Bands of which any has data where the file has.

        All that have a value for none: a red roof may have it in one. Of NaN one is enough, and
        any other mask is the same for all bands.
        """
        of_each = all(value is not None and not math.isnan(value) for value in self.nodata)
        return range(1, len(self.types) + 1 if of_each else 2)


def find_rasters(inputs: Sequence[Path]) -> list[Path]:
    """Return the files that are named, and in a folder's place those directly in it, sorted.

    Of a prefix of a bucket it is all below it; see `remote.as_path`.

    Raises:
        UserError: a path that is not there, or a folder without rasters.
    """
    found: list[Path] = []
    for path in inputs:
        if is_remote(path):
            found += list_rasters(path, SUFFIXES)
        elif path.is_dir():
            inside = [p for p in sorted(path.iterdir()) if p.suffix.lower() in SUFFIXES]
            if not inside:
                raise UserError(f"{path} holds no rasters ({', '.join(sorted(SUFFIXES))})")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"no scene {path}: correct the path")
    return found


def build_mosaic_vrt(paths: Sequence[Path]) -> str:
    """Return what GDAL opens as the scene: the one file, or the text of a virtual mosaic.

    The mosaic has the grid of its first file, whatever its rotation; where files overlap, the
    last that has data is seen. What no file covers has no data. Files that control points alone
    place are warped onto that grid, or, the first, onto one of GDAL's choice.

    Raises:
        UserError: files of other CRSs, pixel sizes, bands, types or palettes than the first.
    """
    if len(paths) == 1:
        return str(paths[0])
    with warnings.catch_warnings(), ThreadPoolExecutor(_AT_ONCE) as pool:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        first = _look_at(paths[0], None)
        others = list(pool.map(_look_at, paths[1:], repeat(first)))
    for tile in others:
        _check_like(first, tile)
    return _virtual([first, *others])


def _look_at(path: Path, first: _Tile | None) -> _Tile:
    """Return what is to be known of a file; `first` is that of the mosaic, if it is another."""
    try:
        # Without an environment of the thread's own, rasterio makes a session of boto3 for each
        # file, if that is installed and a key is in the environment; GDAL reads the key by itself.
        environment = rasterio.Env(session=DummySession(), **gdal_options([path]))
        with environment, rasterio.open(path, driver=driver_of(path)) as file:
            refuse_blocks(path, file)
            if file.crs is None and file.gcps[0] and file.gcps[1] is not None:
                return _warped_tile(path, file, first)
            place = str(path.resolve())
            return _Tile(
                path.resolve(),
                place,
                place,
                file.width,
                file.height,
                tuple(file.dtypes),
                file.crs.to_wkt() if file.crs else "",
                file.transform,
                _nodata(file),
                file.mask_flag_enums[0] == [MaskFlags.all_valid],
                _palette(file),
            )
    except RasterioError as error:
        raise UserError(f"{address_of(path)} cannot be opened as a raster: {error}") from error


def _warped_tile(path: Path, file: DatasetReader, first: _Tile | None) -> _Tile:
    """Return a file that control points alone place, on the grid of the first."""
    points, crs = file.gcps
    spline = {"METHOD": "GCP_TPS"} if fit_points(points).kind == "spline" else {}
    palette = _palette(file)
    # Numbers of colors have no mean.
    resampling = Resampling.bilinear if palette is None else Resampling.nearest
    seen = rectified(file, crs, spline, resampling)
    grid = (seen.file.transform, seen.file.height, seen.file.width)
    if first is not None and CRS.from_wkt(first.crs or crs.to_wkt()) == crs:
        left, bottom, right, top = seen.file.bounds
        to_grid = ~first.transform
        corners = [to_grid @ place for place in product((left, right), (bottom, top))]
        low = np.floor(np.min(corners, axis=0)).astype(int)
        width, height = (np.ceil(np.max(corners, axis=0)).astype(int) - low).tolist()
        grid = first.transform @ Affine.translation(*map(float, low)), height, width
    return _Tile(
        path.resolve(),
        view_text(seen.file, path, grid),
        view_text(seen.nearest, path, grid),
        grid[2],
        grid[1],
        tuple(file.dtypes),  # without the alpha band that warping may add
        crs.to_wkt(),
        grid[0],
        _nodata(seen.file)[: file.count],
        all_valid=False,
        palette=palette,
    )


def _nodata(file: DatasetReader) -> tuple[float | None, ...]:
    """Values without data, by band, where no mask says it: NaN, if nothing else, of fractions."""
    floats = file.dtypes[0].startswith("float") and file.mask_flag_enums[0] == [MaskFlags.all_valid]
    by_value = MaskFlags.nodata in file.mask_flag_enums[0]
    values = (math.nan if floats else value if by_value else None for value in file.nodatavals)
    # One NaN for all: others would not be equal to it.
    return tuple(math.nan if value is not None and math.isnan(value) else value for value in values)


def _palette(file: DatasetReader) -> tuple[tuple[int, ...], ...] | None:
    """Red, green and blue of a raster's values, if these are numbers of colors."""
    if file.colorinterp[0] != ColorInterp.palette or file.dtypes[0] != "uint8":
        return None
    return tuple(color[:3] for _, color in sorted(file.colormap(1).items()))


def _check_like(first: _Tile, other: _Tile) -> None:
    """Refuse a file that does not fit the mosaic of the first."""
    if not first.crs or not other.crs:
        path = other.path if first.crs else first.path
        raise UserError(
            f"{path} has no CRS, so it cannot be part of a mosaic: set one with gdal_edit.py "
            "-a_srs EPSG:CODE"
        )
    if CRS.from_wkt(first.crs) != CRS.from_wkt(other.crs):
        raise UserError(
            f"{other.path} has another CRS than {first.path}: map them one by one, or warp them "
            "to one CRS with gdalwarp -t_srs"
        )
    if first.types != other.types:
        raise UserError(f"{other.path} has other bands or types than {first.path}: map it alone")
    if first.palette != other.palette:
        raise UserError(
            f"{other.path} has another palette than {first.path}: map them one by one, or turn "
            "both into colors with gdal_translate -expand rgb"
        )
    sizes = [
        np.array([t.transform.a, t.transform.b, t.transform.d, t.transform.e])
        for t in (first, other)
    ]
    # A millionth of a pixel's size adds up to a tenth of a pixel over 100,000 of them.
    if np.abs(sizes[0] - sizes[1]).max() > 1e-6 * np.abs(sizes[0]).max():
        raise UserError(
            f"{other.path} has another pixel size or rotation than {first.path}: map them one by "
            "one, or bring them to one grid with gdalwarp -tr"
        )


def _virtual(tiles: Sequence[_Tile]) -> str:
    """The mosaic as the XML of a GDAL virtual raster."""
    first = tiles[0]
    to_grid = ~first.transform
    corners = np.array([to_grid @ (t.transform.c, t.transform.f) for t in tiles])
    places = np.round(corners).astype(int)  # to the nearest pixel: nothing is resampled
    origin = places.min(0)
    places -= origin
    ends = places + [(tile.width, tile.height) for tile in tiles]
    transform = first.transform @ Affine.translation(*map(float, origin))
    width, height = ends.max(0)
    # One nodata value for all files is the mosaic's own; masks of other kinds become its mask.
    by_value = None not in first.nodata and all(
        tile.nodata == first.nodata and len(tile.masks) == 1 for tile in tiles
    )
    hiding = _hiding(places, ends)
    rectangles = [
        '<SourceFilename relativeToVRT="0">%s</SourceFilename><SourceBand>%s</SourceBand>'
        f'<SrcRect xOff="0" yOff="0" xSize="{tile.width}" ySize="{tile.height}"/>'
        f'<DstRect xOff="{x}" yOff="{y}" xSize="{tile.width}" ySize="{tile.height}"/>%s'
        for tile, (x, y) in zip(tiles, places, strict=True)
    ]
    bands = ""
    for band, (kind, value) in enumerate(zip(first.types, first.nodata, strict=True), start=1):
        bands += f'<VRTRasterBand dataType="{_gdal_type(kind)}" band="{band}">'
        bands += f"<NoDataValue>{value}</NoDataValue>" if by_value else ""
        bands += _color_table(first.palette) if first.palette and band == 1 else ""
        for number, (tile, rectangle) in enumerate(zip(tiles, rectangles, strict=True)):
            source, own = tile.source, f"<NODATA>{value}</NODATA>" if by_value else ""
            if not by_value and not tile.all_valid and number in hiding:
                source = _under_one_mask(tile) if len(tile.masks) > 1 else source
                own = "<UseMaskBand>true</UseMaskBand>"
            name = "ComplexSource" if own else "SimpleSource"  # which takes a third of the time
            bands += f"<{name}>{rectangle % (escape(source), band, own)}</{name}>"
        bands += "</VRTRasterBand>"
    if not by_value:
        bands += _mask_band(
            rectangle % (escape(tile.mask), f"mask,{band}", "")
            for tile, rectangle in zip(tiles, rectangles, strict=True)
            for band in tile.masks
        )
    return vrt_dataset(width, height, bands, transform, first.crs)


def _hiding(places: npt.NDArray[np.int_], ends: npt.NDArray[np.int_]) -> set[int]:
    """Numbers of the files that lie over earlier ones.

    Through pixels without data of these alone others are seen; a mask takes time at each read.
    """
    middles = shapely.box(*(places + 0.5).T, *(ends - 0.5).T)  # files side by side do not meet
    above, below = shapely.STRtree(middles).query(middles)
    return set(above[below < above].tolist())


def _under_one_mask(tile: _Tile) -> str:
    """A file as the XML of a virtual raster with one mask for all bands."""
    source = f"<SourceFilename>{escape(tile.source)}</SourceFilename>"
    bands = "".join(
        f'<VRTRasterBand dataType="{_gdal_type(kind)}" band="{band}"><SimpleSource>{source}'
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band, kind in enumerate(tile.types, start=1)
    )
    mask = f"<SourceFilename>{escape(tile.mask)}</SourceFilename>"
    bands += _mask_band(f"{mask}<SourceBand>mask,{band}</SourceBand>" for band in tile.masks)
    return vrt_dataset(tile.width, tile.height, bands, Affine.identity(), None)


def _mask_band(sources: Iterable[str]) -> str:
    """A mask that has data where any of its sources has."""
    text = "".join(
        f"<ComplexSource>{source}<NODATA>0</NODATA></ComplexSource>" for source in sources
    )
    return f'<MaskBand><VRTRasterBand dataType="Byte">{text}</VRTRasterBand></MaskBand>'


def _gdal_type(kind: str) -> str:
    return _GDAL_TYPES.get(kind, "Float32")


def _color_table(palette: Sequence[Sequence[int]]) -> str:
    entries = "".join(f'<Entry c1="{r}" c2="{g}" c3="{b}"/>' for r, g, b in palette)
    return f"<ColorInterp>Palette</ColorInterp><ColorTable>{entries}</ColorTable>"


def vrt_dataset(
    width: int,
    height: int,
    bands: str,
    transform: Affine,
    crs: str | None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Return the XML of a GDAL virtual raster around its bands.

    Args:
        width: pixels.
        height: pixels.
        bands: their XML.
        transform: from pixels to the map; the identity: none.
        crs: as WKT; none if it is not georeferenced.
        tags: metadata.
    """
    head = f"<SRS>{escape(crs)}</SRS>" if crs else ""
    if not transform.is_identity:
        numbers = ", ".join(repr(float(v)) for v in transform.to_gdal())
        head += f"<GeoTransform>{numbers}</GeoTransform>"
    if tags:
        items = (f'<MDI key="{escape(k)}">{escape(v)}</MDI>' for k, v in tags.items())
        head += f"<Metadata>{''.join(items)}</Metadata>"
    return f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{head}{bands}</VRTDataset>'


def file_signature(paths: Sequence[Path]) -> list[tuple[str, int, int | str]]:
    """Return what distinguishes these files from others, and from earlier versions."""
    return [signature(path) if is_remote(path) else _state(path) for path in paths]


def _state(path: Path) -> tuple[str, int, int]:
    state = path.stat()
    return str(path.resolve()), state.st_size, state.st_mtime_ns
