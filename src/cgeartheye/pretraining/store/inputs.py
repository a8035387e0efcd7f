"""Finding and encoding what is packed: image files, tables of them, and rasters cut into chips."""

import hashlib
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from PIL import Image, UnidentifiedImageError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.warp import aligned_target, calculate_default_transform
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from cgeartheye.data import images_below
from cgeartheye.data.image_io import (
    SUFFIXES,
    one_sentence,
    quiet,
    read_header,
    read_image,
    resolve_palette,
)
from cgeartheye.geo.crs import meters_per_pixel, utm_epsg
from cgeartheye.geo.rectify import fit_points, rectification_of
from cgeartheye.geo.stretch import (
    Span,
    percentile_limits,
    sample_squares,
    squares_with_data,
    to_8_bits,
)
from cgeartheye.geo.validity import MaskedRaster, look_for_data, on_grid, on_own_grid, rectified
from cgeartheye.pretraining.store.items import Chip, Encoded, Item, Row, Settings, TableItems
from cgeartheye.utils.allocation import refuse_blocks
from cgeartheye.utils.errors import UserError

# CRS, resolution and side of chips; corner; row and column.
_PLACE = re.compile(r"(.+/[^/]+/\d+)/([^/_]+)_([^/_]+)/-?\d+_-?\d+")
LEAST_VALID = 0.95  # of a chip's pixels; others are left out


Corner = tuple[float, float]
"""Left and top of a grid of chips, in the units of a CRS."""


def find_items(
    source: Path, settings: Settings, grids: Mapping[str, Corner] | None = None
) -> list[Item] | TableItems:
    """List what is to be packed.

    Args:
        source: an image; a folder of images, each a place of its own; or a table (CSV, Parquet)
            with columns path, place and season, relative paths from the table's folder.
        settings: with `chip`, images larger than it are cut.
        grids: along which chips were cut before; see `grid_of`.

    Raises:
        UserError: no such source, no images in it, a table without its columns, or with a column
            that the store calls its own.
    """
    if settings.gsd and not settings.chip_size:
        raise UserError("--gsd needs chips: set their size with --chip-size")
    if settings.dem and not settings.chip_size:
        raise UserError("--dem needs chips: set their size with --chip-size")
    if not source.exists():
        raise UserError(f"no image, folder or table {source}")
    if source.suffix.lower() in {".csv", ".parquet"}:
        table = TableItems(source, settings.season)
        if len(table) and not settings.chip_size:
            return table
        items = list(table)
    else:
        root = source.resolve() if source.is_dir() else source.resolve().parent
        items = []
        for path in images_below(root) if source.is_dir() else [source.resolve()]:
            name = path.relative_to(root.parent).as_posix()
            row = {"place": _alone(path), "season": settings.season or ""}
            items.append(Item(path, name, row))
    if settings.chip_size:
        items = list(_cut(items, settings, grids or {}))
    if not items:
        size = f" in which a chip of {settings.chip_size} pixels fits" if settings.chip_size else ""
        raise UserError(f"{source} holds no images{size} ({', '.join(sorted(SUFFIXES))})")
    return items


def encode(item: Item, settings: Settings) -> Encoded:
    """Read an image, check it by decoding it, and encode it for the store."""
    try:
        with one_sentence(item.path):
            if item.chip is None:
                return _encode_file(item, settings)
            return _encode_chip(item, item.chip, settings)
    except UserError as error:
        return Encoded(item, problem=str(error))


def _encode_file(item: Item, settings: Settings) -> Encoded:
    pixels = read_image(item.path, settings.bands).permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    too_long = settings.max_side is not None and max(height, width) > settings.max_side
    if not too_long and settings.jpeg_quality is None and _is_plain(item.path):
        return Encoded(item, item.path.read_bytes(), height, width, item.row)
    return _encoded(item, pixels, settings, item.row)


def _is_plain(path: Path) -> bool:
    """Return whether a file is a JPEG or PNG of three bands with 8 bits."""
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            plain = image.mode == "RGB" and not image.has_transparency_data
            return plain and read_header(path).bits == 8
    except UnidentifiedImageError:
        return False


def _encoded(item: Item, pixels: np.ndarray, settings: Settings, row: Row) -> Encoded:
    image = Image.fromarray(pixels)
    if settings.max_side:
        image.thumbnail((settings.max_side, settings.max_side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=settings.jpeg_quality or 95)
    return Encoded(item, stream.getvalue(), image.height, image.width, row)


def grid_of(place: str) -> tuple[str, Corner] | None:
    """Return the grid of a chip's place, and the corner where it begins; none: it is no chip's."""
    found = _PLACE.fullmatch(place)
    return (found[1], (float(found[2]), float(found[3]))) if found else None


def _cut(items: list[Item], settings: Settings, grids: Mapping[str, Corner]) -> Iterator[Item]:
    """Yield the chips of rasters; smaller images, and what cannot be read, whole.

    The rasters of one CRS and resolution are cut along one grid, which begins at the
    corner of all rasters of the system together, so that the same ground on several dates makes
    chips of one place. A date that comes later is cut along the grid of those before.
    """
    assert settings.chip_size
    corners: dict[str, Corner] = {}
    readable = []
    for item in items:
        try:
            raster = _opened(item.path, settings.gsd, settings.dem).file
        except UserError:  # reported when it is encoded, like every other damaged image
            yield item
            continue
        readable.append(item)
        if _is_north_up(raster):
            crs, bounds = raster.crs.to_string(), raster.bounds
            left, top = corners.get(crs, (math.inf, -math.inf))
            # South-up rasters name their lower edge first.
            corners[crs] = min(left, bounds.left), max(top, bounds.top, bounds.bottom)
    for item in readable:
        raster = _opened(item.path, settings.gsd, settings.dem).file
        sides = sorted((raster.width, raster.height))
        if sides[0] < settings.chip_size or sides[1] == settings.chip_size:
            yield item
            continue
        season = settings.season or item.row["season"] or item.path.stem
        placed = _is_north_up(raster)
        where = raster.crs.to_string() if placed else _alone(item.path)
        grid = f"{where}/{raster.res[0]:.6g}/{settings.chip_size}"
        corner = grids.get(grid, corners.get(where)) if placed else None
        left, top = corner or (0.0, 0.0)
        for chip in _cells(raster, settings.chip_size, corner):
            place = f"{grid}/{left:.10g}_{top:.10g}/{chip.row}_{chip.column}"
            name = f"{item.name}#{chip.row}_{chip.column}"
            yield Item(item.path, name, item.row | {"place": place, "season": season}, chip)


def _is_north_up(raster: DatasetReader) -> bool:
    """Return whether a raster is georeferenced, with rows along the axis of its CRS."""
    return raster.crs is not None and not raster.transform.b and not raster.transform.d


def _cells(raster: DatasetReader, side: int, corner: tuple[float, float] | None) -> Iterator[Chip]:
    """Yield the cells that a raster contains, up to half a pixel."""
    transform = raster.transform if corner else Affine.identity()
    left, top = corner or (0.0, 0.0)
    # Rows of cells count downwards from the corner, whichever way the raster's run.
    step_x, step_y = transform.a, transform.e
    start_x = (transform.c - left) / abs(step_x)
    start_y = (top - transform.f if corner else 0.0) / abs(step_y)
    flipped = corner is not None and step_y > 0
    first_y = start_y - raster.height if flipped else start_y
    for row in _range(first_y, raster.height, side):
        for column in _range(start_x, raster.width, side):
            y = start_y - (row + 1) * side if flipped else row * side - start_y
            yield Chip(row, column, (column * side - start_x, y, side, side))


def _range(start: float, length: int, side: int) -> range:
    """Indices of the cells within `length` pixels from `start`."""
    return range(math.ceil((start - 0.5) / side), math.floor((start + length + 0.5) / side))


def _encode_chip(item: Item, chip: Chip, settings: Settings) -> Encoded:
    raster = _opened(item.path, settings.gsd, settings.dem)
    coding = _coding(item.path, settings.gsd, settings.dem)
    palette = coding == "palette"
    bands = settings.bands if raster.bands >= 3 and not palette else (1, 1, 1)
    if max(bands) > raster.bands:
        raise UserError(f"{item.path} has {raster.bands} bands, not band {max(bands)}: name others")
    whole = palette or _whole(chip.window)  # between two indices there is no color
    resampling = Resampling.nearest if whole else Resampling.bilinear
    pixels, valid = raster.read(bands, Window(*chip.window), resampling)
    if valid.mean() < LEAST_VALID:
        return Encoded(item, empty=True)
    if palette:
        pixels = resolve_palette(pixels[0], raster.file.colormap(1))
    elif coding == "bits":
        pixels = pixels * np.uint8(255)
    if pixels.dtype != np.uint8:
        pixels = to_8_bits(pixels, _stretch(item.path, settings.gsd, settings.dem, bands), valid)
    pixels[:, ~valid] = 0
    row = item.row | _location(raster.file, chip)
    return _encoded(item, np.ascontiguousarray(pixels.transpose(1, 2, 0)), settings, row)


def _whole(window: tuple[float, float, float, float]) -> bool:
    # A corner that the name of a place keeps has ten digits.
    return all(abs(value - round(value)) < 1e-2 for value in window)


@lru_cache(maxsize=16)
def _coding(path: Path, gsd: float | None, dem: str | None) -> str:
    """Return palette or bits where the values of a raster are no brightness; else nothing.

    It is asked before anything is read: GDAL's error of one read is raised by the next question.
    """
    file = _opened(path, gsd, dem).file
    if file.colorinterp[0] == ColorInterp.palette:
        return "palette"
    return "bits" if file.tags(1, "IMAGE_STRUCTURE").get("NBITS") == "1" else ""


@lru_cache(maxsize=16)
def _stretch(
    path: Path, gsd: float | None, dem: str | None, bands: tuple[int, ...]
) -> tuple[float, float]:
    """Return the 1st and 99th percentile of a raster: one stretch for all of its chips."""
    raster = _opened(path, gsd, dem)
    size = raster.file.height, raster.file.width
    values = _values(raster, bands, sample_squares(*size))
    if not values.size:  # all data lie between the squares
        valid = look_for_data(raster.nearest, bands)
        values = _values(raster, bands, squares_with_data(valid, *size))
    if not values.size:
        raise UserError(f"{path} holds no valid pixel")
    return percentile_limits(values)


def _values(
    raster: MaskedRaster, bands: tuple[int, ...], squares: Iterable[tuple[Span, Span]]
) -> npt.NDArray[Any]:
    """Values with data in rectangles, `[N]`."""
    found = [np.zeros(0, raster.file.dtypes[0])]
    for rows, columns in squares:
        window = Window(columns[0], rows[0], columns[1] - columns[0], rows[1] - rows[0])
        pixels, valid = raster.read(bands, window)
        found.append(pixels[:, valid].ravel())
    return np.concatenate(found)


@lru_cache(maxsize=8)
def _opened(path: Path, gsd: float | None, dem: str | None = None) -> MaskedRaster:
    """Open a raster, on a grid of `gsd` metres where one is asked for."""
    try:
        with quiet():
            raster = rasterio.open(path)
    except RasterioError as error:
        raise UserError(f"cannot read {path}: {error}") from error
    refuse_blocks(path, raster)
    bands = raster.count
    points, crs = raster.gcps
    placed = None
    if raster.crs is None and points and crs:
        # Control points place it: by a fit that is right to half a pixel, or a spline.
        spline = {"METHOD": "GCP_TPS"} if fit_points(points).kind == "spline" else {}
        placed = rectified(raster, crs, spline, Resampling.bilinear)
    elif dem is not None and raster.rpcs is not None:
        way = rectification_of(raster, str(path), dem)
        placed = way.open(raster, Resampling.bilinear) if way else None
    if placed is not None:
        if gsd is None:
            return placed
        raster, bands = placed.file, placed.bands
    if gsd is None or raster.crs is None:
        return on_own_grid(raster)
    crs = raster.crs if raster.crs.is_projected else _utm(raster)
    own = calculate_default_transform(raster.crs, crs, raster.width, raster.height, *raster.bounds)
    transform, width, height = aligned_target(*own, gsd)
    resampling = Resampling.average if gsd > own[0].a else Resampling.bilinear
    seen = on_grid(raster, CRS.from_user_input(crs), transform, (height, width), resampling)
    return replace(seen, bands=bands)  # without the alpha band that the first warp may add


def _alone(path: Path) -> str:
    """Name a place that only one file shows."""
    return hashlib.blake2b(str(path.resolve()).encode(), digest_size=8).hexdigest()


def _utm(raster: DatasetReader) -> str:
    return f"EPSG:{utm_epsg(*_lon_lat(raster, raster.width / 2, raster.height / 2))}"


def _lon_lat(raster: DatasetReader, column: float, row: float) -> tuple[float, float]:
    x, y = rasterio.transform.xy(raster.transform, row, column, offset="ul")
    (lon,), (lat,) = transform_points(raster.crs, "EPSG:4326", [x], [y])
    return lon, lat


def _location(raster: DatasetReader, chip: Chip) -> Row:
    if raster.crs is None:
        return {}
    column, row, width, height = chip.window
    lon, lat = _lon_lat(raster, column + width / 2, row + height / 2)
    gsd = math.hypot(raster.transform.a, raster.transform.d)
    if not raster.crs.is_projected:
        middle = column + width / 2, row + height / 2
        gsd, _ = meters_per_pixel(raster.transform, raster.crs, *middle)
    return {"lon": lon, "lat": lat, "gsd": gsd}
