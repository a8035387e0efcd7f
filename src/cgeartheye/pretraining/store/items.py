"""Items to pack, one by one: image files, the rows of a table, the chips of a raster."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from cgeartheye.utils.console import warn
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.tables import read_csv

BATCH = 1024  # rows of a table that are Python objects at a time

NEEDED = ("path", "place", "season")
RESERVED = {"source", "digest", "shard", "key", "place_first", "place_count"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Chip:
    """A cell of the grid over a raster.

    Attributes:
        row: of the cell, from the origin of the CRS northwards or downwards.
        column: of the cell, from the origin of the CRS eastwards.
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
        row: further columns: place, season and whatever a table contains.
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
    """Settings of reading and writing images.

    Attributes:
        chip_size: pixels a side of the chips that rasters are cut into; none: images stay whole.
        gsd: m/px of the chips; none, or a raster without a CRS: its own.
        bands: which are red, green and blue.
        season: of all images; none: the table's, or a raster's file name.
        max_side: longer images are made smaller.
        jpeg_quality: all images become JPEGs of this quality; none: 8-bit JPEG and PNG files
            stay as they are, the rest becomes JPEG of quality 95.
        dem: heights for chips of rasters with RPCs alone: a raster, or one height in metres.
    """

    chip_size: int | None = None
    gsd: float | None = None
    bands: tuple[int, int, int] = (1, 2, 3)
    season: str | None = None
    max_side: int | None = None
    jpeg_quality: int | None = None
    dem: str | None = None


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
                self._csv = read_csv(source, set(NEEDED))
            schema = pa.parquet.read_schema(source) if self._csv is None else self._csv.schema
            names = schema.names
            for name in sorted(RESERVED.intersection(names)):
                raise UserError(f"{source}: the store has its own column {name}: rename yours")
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
            warn(f"{rows - self._count:,} rows of {source} are skipped: their status is not ok")

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
