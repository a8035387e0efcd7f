"""What is packed: image files, tables of them, and rasters that are cut into chips."""

import hashlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import rasterio
from affine import Affine
from PIL import Image, UnidentifiedImageError
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.warp import aligned_target, calculate_default_transform
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from cgeartheye.data import images_below
from cgeartheye.data.image_io import SUFFIXES, one_sentence, quiet, read_header, read_image
from cgeartheye.utils.console import log_info
from cgeartheye.utils.errors import UserError

METERS_PER_DEGREE = 111_320.0
LEAST_VALID = 0.95  # of a chip's pixels; others are left out
SAMPLE = 1024  # pixels a side on which a scene's stretch is measured

BATCH = 1024  # rows of a table that are Python objects at a time

NEEDED = ("path", "place", "season")
RESERVED = {"source", "digest", "shard", "key", "place_first", "place_count"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Chip:
    """A cell of the grid over a raster.

    Attributes:
        row: of the cell, from the origin of the reference system northwards or downwards.
        column: likewise.
        window: column, row, width and height in pixels of the raster, fractions allowed.
    """

    row: int
    column: int
    window: tuple[float, float, float, float]


@dataclass(frozen=True)
class Item:
    """An image that is to be packed.

    Attributes:
        path: of the file.
        name: how the store calls it.
        row: further columns: place, season and whatever a table says.
        chip: the part of a raster; none: the whole image.
    """

    path: Path
    name: str
    row: Row
    chip: Chip | None = None

    @property
    def source(self) -> str:
        """Tells it from every other image on this machine."""
        part = f"#{self.row['place']}" if self.chip else ""
        return f"{self.path.resolve()}{part}"


@dataclass(frozen=True)
class Settings:
    """How images are read and written.

    Attributes:
        chip: pixels a side of the chips that rasters are cut into; none: images stay whole.
        gsd: metres a pixel of the chips; none, or a raster without a reference system: its own.
        bands: which are red, green and blue.
        season: of all images; none: the table's, or a raster's file name.
        max_side: longer images are made smaller.
        quality: all images become JPEGs of this quality; none: 8-bit JPEG and PNG files stay as
            they are, the rest becomes JPEG of quality 95.
    """

    chip_size: int | None = None
    gsd: float | None = None
    bands: tuple[int, int, int] = (1, 2, 3)
    season: str | None = None
    max_side: int | None = None
    jpeg_quality: int | None = None


@dataclass(frozen=True)
class Encoded:
    """An image as the store keeps it, with its columns; or why there is none."""

    item: Item
    data: bytes = b""
    height: int = 0
    width: int = 0
    row: Row = field(default_factory=dict)
    problem: str | None = None
    empty: bool = False


class TableItems:
    """Items of a table, each made when its turn comes: a Parquet table is never read as a whole.

    Of the tables of `jlssd`, which have columns `status` and `reason`, only rows that are ok count.
    """

    def __init__(self, source: Path, season: str | None = None):
        """Look for what each row must have.

        Args:
            source: CSV or Parquet.
            season: in place of the table's own.

        Raises:
            UserError: it cannot be read, lacks a column or a value, or has a column that the store
                calls its own.
        """
        self._source, self._season = source, season
        self._csv: pa.Table | None = None
        try:
            if source.suffix.lower() == ".csv":
                self._csv = pa.csv.read_csv(str(source))
            schema = pa.parquet.read_schema(source) if self._csv is None else self._csv.schema
            names = schema.names
            for name in sorted(RESERVED.intersection(names)):
                raise UserError(
                    f"{source}: the store has a column {name} of its own, call it otherwise"
                )
            self._marked = {"status", "reason"} <= set(names)
            looked_at = (*NEEDED, "status") if self._marked else NEEDED
            self._count, rows = 0, 0
            for batch in self._batches([name for name in looked_at if name in names]):
                self._check(batch, rows)
                rows += len(batch)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{source} cannot be read as a table: {reason}") from error
        if self._count < rows:
            log_info(f"note: {rows - self._count:,} rows of {source} are not ok and are left out")

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        for batch in self._batches():
            for row in filter(self._is_kept, batch.to_pylist()):
                path = str(row.pop("path"))
                season = str(row["season"]) if self._season is None else self._season
                row |= {"place": str(row["place"]), "season": season}
                yield Item(self._source.parent / path, path, row)

    def _batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        if self._csv is not None:
            yield from self._csv.select(columns or self._csv.column_names).to_batches(BATCH)
            return
        # What is read ahead is held until the end.
        with pa.parquet.ParquetFile(self._source, pre_buffer=False) as file:
            yield from file.iter_batches(BATCH, columns=columns)

    def _is_kept(self, row: dict[str, Any]) -> bool:
        return not self._marked or row["status"] == "ok"

    def _check(self, batch: pa.RecordBatch, before: int) -> None:
        for number, row in enumerate(batch.to_pylist(), start=before + 1):
            if not self._is_kept(row):
                continue
            self._count += 1
            missing = [name for name in NEEDED if row.get(name) in (None, "")]
            if missing:
                raise UserError(f"{self._source}, row {number}: {', '.join(missing)} missing")


def find_items(source: Path, settings: Settings) -> list[Item] | TableItems:
    """List what is to be packed.

    Args:
        source: an image; a folder of images, each a place of its own; or a table (CSV, Parquet)
            with columns path, place and season, relative paths from the table's folder.
        settings: with `chip`, images larger than it are cut.

    Raises:
        UserError: no such source, no images in it, a table without its columns, or with a column
            that the store calls its own.
    """
    if settings.gsd and not settings.chip_size:
        raise UserError("--gsd is of chips: name their size with --chip-size")
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
        items = list(_cut(items, settings))
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
    """Whether a file is a JPEG or PNG of three bands with 8 bits."""
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


def _cut(items: list[Item], settings: Settings) -> Iterator[Item]:
    """Yield the chips of rasters; smaller images, and what cannot be read, whole.

    The rasters of one reference system and resolution are cut along one grid, which begins at the
    corner of all rasters of the system together, so that the same ground on several dates makes
    chips of one place.
    """
    assert settings.chip_size
    corners: dict[str, tuple[float, float]] = {}
    readable = []
    for item in items:
        try:
            raster = _opened(item.path, settings.gsd)
        except UserError:  # told when it is encoded, like every other damaged image
            yield item
            continue
        readable.append(item)
        if _is_north_up(raster):
            crs, bounds = raster.crs.to_string(), raster.bounds
            left, top = corners.get(crs, (math.inf, -math.inf))
            # South-up rasters name their lower edge first.
            corners[crs] = min(left, bounds.left), max(top, bounds.top, bounds.bottom)
    for item in readable:
        raster = _opened(item.path, settings.gsd)
        sides = sorted((raster.width, raster.height))
        if sides[0] < settings.chip_size or sides[1] == settings.chip_size:
            yield item
            continue
        season = settings.season or item.row["season"] or item.path.stem
        where = raster.crs.to_string() if _is_north_up(raster) else _alone(item.path)
        for chip in _cells(raster, settings.chip_size, corners.get(where)):
            left, top = corners.get(where, (0.0, 0.0))
            grid = f"{where}/{raster.res[0]:.6g}/{settings.chip_size}/{left:.10g}_{top:.10g}"
            place = f"{grid}/{chip.row}_{chip.column}"
            name = f"{item.name}#{chip.row}_{chip.column}"
            yield Item(item.path, name, item.row | {"place": place, "season": season}, chip)


def _is_north_up(raster: DatasetReader) -> bool:
    """Whether a raster lies on Earth, its rows along the axis of its reference system."""
    return raster.crs is not None and not raster.transform.b and not raster.transform.d


def _cells(raster: DatasetReader, side: int, corner: tuple[float, float] | None) -> Iterator[Chip]:
    """Yield the cells that lie in a raster, but for half a pixel."""
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
    raster, side = _opened(item.path, settings.gsd), settings.chip_size
    count = raster.src_dataset.count if isinstance(raster, WarpedVRT) else raster.count
    bands = settings.bands if count >= 3 else (1, 1, 1)
    if max(bands) > count:
        raise UserError(f"{item.path} has {count} bands, not band {max(bands)}: name others")
    window, shape = Window(*chip.window), (len(bands), side, side)
    resampling = Resampling.nearest if _whole(chip.window) else Resampling.bilinear
    pixels = raster.read(list(bands), window=window, out_shape=shape, resampling=resampling)
    # Valid where any band is: with nodata 0, deep water has 0 in its red band.
    valid = raster.read_masks(list(bands), window=window, out_shape=shape).any(0)
    valid &= np.isfinite(pixels).all(0)
    if valid.mean() < LEAST_VALID:
        return Encoded(item, empty=True)
    if pixels.dtype != np.uint8:
        low, high = _stretch(item.path, settings.gsd, bands)
        scaled = (np.nan_to_num(pixels.astype(np.float64)) - low) / (high - low)
        pixels = (255 * scaled).clip(0, 255).round().astype(np.uint8)
    pixels[:, ~valid] = 0
    row = item.row | _location(raster, chip)
    return _encoded(item, np.ascontiguousarray(pixels.transpose(1, 2, 0)), settings, row)


def _whole(window: tuple[float, float, float, float]) -> bool:
    return all(abs(value - round(value)) < 1e-3 for value in window)


@lru_cache(maxsize=16)
def _stretch(path: Path, gsd: float | None, bands: tuple[int, ...]) -> tuple[float, float]:
    """Return the 1st and 99th percentile of a raster: one stretch for all of its chips."""
    raster = _opened(path, gsd)
    shape = len(bands), min(SAMPLE, raster.height), min(SAMPLE, raster.width)
    pixels = raster.read(list(bands), out_shape=shape, masked=True).astype(np.float64)
    values = pixels.compressed()
    values = values[np.isfinite(values)]
    if not len(values):
        raise UserError(f"{path} holds no valid pixel")
    low, high = np.percentile(values, (1, 99))
    return float(low), max(float(high), float(low) + 1e-9)


@lru_cache(maxsize=8)
def _opened(path: Path, gsd: float | None) -> DatasetReader:
    """Open a raster, on a grid of `gsd` metres where one is asked for."""
    try:
        with quiet():
            raster = rasterio.open(path)
    except RasterioError as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if gsd is None or raster.crs is None:
        return raster
    crs = raster.crs if raster.crs.is_projected else _utm(raster)
    own = calculate_default_transform(raster.crs, crs, raster.width, raster.height, *raster.bounds)
    transform, width, height = aligned_target(*own, gsd)
    return WarpedVRT(
        raster,
        crs=crs,
        transform=transform,
        width=width,
        height=height,
        resampling=Resampling.average if gsd > own[0].a else Resampling.bilinear,
        # Otherwise what lies outside of the raster would be black ground.
        add_alpha=ColorInterp.alpha not in raster.colorinterp,
    )


def _alone(path: Path) -> str:
    """Name a place that only one file shows."""
    return hashlib.blake2b(str(path.resolve()).encode(), digest_size=8).hexdigest()


def _utm(raster: DatasetReader) -> str:
    lon, lat = _lon_lat(raster, raster.width / 2, raster.height / 2)
    return f"EPSG:{32600 + (100 if lat < 0 else 0) + min(60, int((lon + 180) // 6) + 1)}"


def _lon_lat(raster: DatasetReader, column: float, row: float) -> tuple[float, float]:
    x, y = rasterio.transform.xy(raster.transform, row, column, offset="ul")
    (lon,), (lat,) = transform_points(raster.crs, "EPSG:4326", [x], [y])
    return lon, lat


def _location(raster: DatasetReader, chip: Chip) -> Row:
    if raster.crs is None:
        return {}
    column, row, width, height = chip.window
    lon, lat = _lon_lat(raster, column + width / 2, row + height / 2)
    step = math.hypot(raster.transform.a, raster.transform.d)
    gsd = (
        step if raster.crs.is_projected else step * METERS_PER_DEGREE * math.cos(math.radians(lat))
    )
    return {"lon": lon, "lat": lat, "gsd": gsd}
