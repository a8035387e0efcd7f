"""Values of the cells by their pixels: land cover by majority, elevation by mean.

A pixel belongs to the cell that holds its middle. The pixels of one row of a raster are in one row
of cells, so they are first counted by column, many at a time, and the columns then by cell. All
sums are exact, whatever the order: classes are counted, and elevations are whole parts of a metre.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cgeartheye.jlssd.sampling.equal_area_grid import Block, Bounds, Floats, Grid, Ints
from cgeartheye.jlssd.sampling.land_cover_classes import ClassTable
from cgeartheye.jlssd.sampling.rasters import Piece, Raster

LOWEST, HIGHEST = -12_000, 9_000
"""Metres; values beyond are those of no place on Earth."""

_PARTS = 1024  # of a metre that elevations are rounded to: their sums are exact in float64
_AT_ONCE = 64  # rows counted at a time, to stay in the cache and below 256


class Cover(NamedTuple):
    """Land cover of the cells of a block.

    Attributes:
        pixels: of each class in each cell, `[cells, classes]`.
        missing: pixels in each cell without land cover, `[cells]`.
        unknown: pixels by value that the table does not name; they are among the missing.
    """

    pixels: Ints
    missing: Ints
    unknown: Counter[int]


class Heights(NamedTuple):
    """Elevation of the cells of a block.

    Attributes:
        mean: metres, of the pixels with data, `[cells]`; NaN where there is none.
        there: pixels in each cell with data, `[cells]`.
        missing: pixels in each cell without data, `[cells]`.
        absurd: pixels beyond `LOWEST` and `HIGHEST`; they are among the missing.
    """

    mean: Floats
    there: Ints
    missing: Ints
    absurd: int


class _Part(NamedTuple):
    """Pixels of one row of cells.

    Attributes:
        values: `[h, w]`.
        valid: `[h, w]`; none: everywhere.
        starts: of the columns of each cell, `[n]`.
        cells: indices of those cells in the block, `[n]`.
    """

    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None
    starts: Ints
    cells: slice


def count_cover(
    raster: Raster, table: ClassTable, grid: Grid, block: Block, around: Bounds | None = None
) -> Cover:
    """Count the pixels of each class in each cell of a block.

    Args:
        raster: land cover.
        table: of its classes.
        grid: of the cells.
        block: of the grid.
        around: of cells that are asked for, by their west and east; others may lack pixels. None:
            all.

    Raises:
        UserError: the raster cannot be read.
    """
    number = _count(grid, block)
    pixels = np.zeros((len(table.names), number), np.int64)
    missing = np.zeros(number, np.int64)
    unknown: Counter[int] = Counter()
    for part in _parts(raster, grid, block, around):
        columns = np.zeros((len(table.names), part.values.shape[1]), np.int64)
        for top in range(0, len(part.values), _AT_ONCE):
            values = part.values[top : top + _AT_ONCE]
            valid = None if part.valid is None else part.valid[top : top + _AT_ONCE]
            for value, index in table.class_of.items():
                if value == raster.nodata:
                    continue
                found = values == value if valid is None else (values == value) & valid
                if found.any():
                    columns[index] += found.sum(0, dtype=np.uint8)
        lacking = len(part.values) - columns.sum(0)
        if part.valid is not None or (lacking > _marked(part, raster.nodata)).any():
            unknown += _unknown(part, table, raster.nodata)
        pixels[:, part.cells] += np.add.reduceat(columns, part.starts, axis=1)
        missing[part.cells] += np.add.reduceat(lacking, part.starts)
    return Cover(pixels.T, missing, unknown)


def mean_height(raster: Raster, grid: Grid, block: Block, around: Bounds | None = None) -> Heights:
    """Average the elevation in each cell of a block.

    Args:
        raster: elevation.
        grid: of the cells.
        block: of the grid.
        around: see `count_cover`.

    Raises:
        UserError: the raster cannot be read.
    """
    number = _count(grid, block)
    sums, counts = np.zeros(number), np.zeros(number, np.int64)
    missing, absurd = np.zeros(number, np.int64), 0
    for part in _parts(raster, grid, block, around):
        values = part.values
        valid = np.isfinite(values) if part.valid is None else part.valid & np.isfinite(values)
        if raster.nodata is not None:
            valid &= values != raster.nodata
        beyond = valid & ((values < LOWEST) | (values > HIGHEST))
        if beyond.any():
            absurd += int(beyond.sum())
            valid &= ~beyond
        known = np.where(valid, values, 0)
        if values.dtype.kind == "f":
            known = np.rint(known.astype(np.float64) * _PARTS) / _PARTS
        columns = known.sum(0, dtype=np.float64)
        there = valid.sum(0, dtype=np.int64)
        sums[part.cells] += np.add.reduceat(columns, part.starts)
        counts[part.cells] += np.add.reduceat(there, part.starts)
        missing[part.cells] += np.add.reduceat(len(values) - there, part.starts)
    mean = np.divide(sums, counts, out=np.full(number, np.nan), where=counts > 0)
    return Heights(mean, counts, missing, absurd)


def _count(grid: Grid, block: Block) -> int:
    first, end = grid.spans(block)
    return int((end - first).sum())


def _parts(raster: Raster, grid: Grid, block: Block, around: Bounds | None) -> Iterator[_Part]:
    """Divide what is read of a raster among the rows of a block's cells."""
    firsts, ends = grid.spans(block)
    before = np.concatenate([[0], np.cumsum(ends - firsts)])
    for piece in raster.pieces(grid, block, around or grid.around(block)):
        rows = grid.row_of(piece.lat)
        edges = np.flatnonzero(np.diff(rows)) + 1
        for top, end in zip([0, *edges], [*edges, len(rows)], strict=True):
            at = int(rows[top]) - block.first
            if 0 <= at < block.end - block.first and firsts[at] < ends[at]:
                columns = grid.column_of(piece.lon, int(rows[top]))
                left, right = np.searchsorted(columns, (firsts[at], ends[at]))
                if left < right:
                    part = _of_row(piece, slice(top, end), slice(left, right), columns)
                    yield part._replace(cells=_moved(part.cells, int(before[at] - firsts[at])))


def _of_row(piece: Piece, rows: slice, across: slice, columns: Ints) -> _Part:
    within = columns[across]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(within)) + 1])
    first, last = int(within[0]), int(within[-1])
    # Every cell from the first to the last has columns: pixels are divided until it does.
    assert len(starts) == last - first + 1, (len(starts), first, last)
    valid = None if piece.valid is None else piece.valid[rows, across]
    return _Part(piece.values[rows, across], valid, starts, slice(first, last + 1))


def _moved(cells: slice, by: int) -> slice:
    return slice(cells.start + by, cells.stop + by)


def _marked(part: _Part, nodata: float | None) -> Ints:
    """Pixels of each column that are marked as having no data."""
    if nodata is None:
        return np.zeros(part.values.shape[1], np.int64)
    return np.asarray((part.values == nodata).sum(0, dtype=np.int64))


def _unknown(part: _Part, table: ClassTable, nodata: float | None) -> Counter[int]:
    """Count by value the pixels that are neither of a class nor marked as having no data."""
    values = part.values if part.valid is None else part.values[part.valid]
    counts = np.bincount(values.ravel())
    return Counter(
        {
            int(value): int(counts[value])
            for value in np.flatnonzero(counts)
            if value not in table.class_of and value != nodata
        }
    )
