"""The world in cells of equal area, whose rows follow the parallels.

A cylindrical equal-area grid (EPSG:6933) has cells of one area too, but beyond 60 degrees they are
strips four times as long as wide, and it ends before the poles. Here each row of cells has as many
of them as make them about square, and its height is chosen so that this whole number fills it: all
cells of the world have one area to the last digit. No cell reaches across the antimeridian, where
every row begins, and a pole is the corner of the three cells of the last row.

The area north of a latitude comes in closed form from the authalic latitude of the WGS 84 ellipsoid
(Snyder, Map Projections, a Working Manual, 1987, equations 3-12 and 3-16).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cgeartheye.utils.errors import UserError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

EQUATOR = 6_378_137.0
"""Radius of the WGS 84 ellipsoid at the equator, metres."""
FLATTENING = 1 / 298.257223563
QUADRANT = 10_001_965.7
"""Metres from the equator to a pole."""

_E = math.sqrt(FLATTENING * (2 - FLATTENING))
_LEAST, _MOST = 10, 1_000_000  # metres a side


class Bounds(NamedTuple):
    """Edges of cells in degrees."""

    west: Floats
    south: Floats
    east: Floats
    north: Floats


class Block(NamedTuple):
    """Neighbouring cells that are worked on together.

    Attributes:
        first: row of cells, counted from the north.
        end: the row after the last.
        sector: which part of each row, counted from 180 degrees west.
        sectors: parts that the rows are divided into.
    """

    first: int
    end: int
    sector: int
    sectors: int


@dataclass(frozen=True)
class Grid:
    """The cells of the world, numbered from the north pole along the rows.

    Attributes:
        side: metres; a cell has `side * side` square metres but for the part of one cell by which
            the surface of the Earth is no multiple of it.
    """

    side: int

    def __post_init__(self) -> None:
        if not _LEAST <= self.side <= _MOST:
            raise UserError(
                f"cells of {self.side} m: give --cell-size from {_LEAST} to {_MOST} metres"
            )

    @property
    def rows(self) -> int:
        """Rows of cells, an even number."""
        return 2 * max(1, round(QUADRANT / self.side))

    @cached_property
    def count(self) -> int:
        """Cells in the world, an even number."""
        return 2 * round(_surface() / self.side**2 / 2)

    @property
    def area(self) -> float:
        """Square metres of every cell."""
        return _surface() / self.count

    @cached_property
    def starts(self) -> Ints:
        """The number of the first cell of each row, and of the world after the last: `[rows + 1]`.

        As many cells as would be north of a row of even height, to the nearest whole number.
        """
        edges = np.linspace(90, -90, self.rows + 1)
        starts = np.rint(self._north_of(edges)).astype(np.int64)
        assert np.diff(starts).min() > 0
        return starts

    def number(self, lon: Floats, lat: Floats) -> Ints:
        """Return the number of the cell that holds each point; longitudes of any turn."""
        row = self.row_of(lat)
        return self.starts[row] + self.column_of(lon, row)

    def row_of(self, lat: Floats) -> Ints:
        """Return the row that holds each latitude; a cell owns its northern edge."""
        found = np.searchsorted(self.starts, self._north_of(lat), side="right") - 1
        return np.clip(found, 0, self.rows - 1).astype(np.int64)

    def column_of(self, lon: Floats, row: Ints | int) -> Ints:
        """Return the place in its row of each longitude; a cell owns its western edge."""
        width = self.width(row)
        column = np.floor((np.asarray(lon) + 180) % 360 * (width / 360)).astype(np.int64)
        return np.minimum(column, width - 1)

    def width(self, row: Ints | int) -> Ints:
        """Return how many cells a row has."""
        row = np.asarray(row)
        return np.asarray(self.starts[row + 1] - self.starts[row])

    def place(self, number: Ints) -> tuple[Ints, Ints]:
        """Return row and column of cells."""
        row = np.searchsorted(self.starts, number, side="right") - 1
        return row.astype(np.int64), number - self.starts[row]

    def center(self, number: Ints) -> tuple[Floats, Floats]:
        """Return longitude and latitude of the point that halves a cell's area both ways."""
        row, column = self.place(number)
        width = self.width(row)
        return 360 * (column + 0.5) / width - 180, self._latitude(self.starts[row] + width / 2)

    def bounds(self, number: Ints) -> Bounds:
        """Return the edges of cells."""
        row, column = self.place(number)
        width = self.width(row)
        return Bounds(
            360 * column / width - 180,
            self.latitudes[row + 1],
            360 * (column + 1) / width - 180,
            self.latitudes[row],
        )

    @cached_property
    def latitudes(self) -> Floats:
        """The northern edge of each row, and the south pole: `[rows + 1]`."""
        return self._latitude(self.starts.astype(np.float64))

    def names(self, number: Ints) -> list[str]:
        """Return names of cells that never change: side, row and column."""
        row, column = self.place(number)
        digits = len(str(self.rows)), len(str(int(self.width(self.rows // 2))))
        return [
            f"{self.side}-{r:0{digits[0]}}-{c:0{digits[1]}}"
            for r, c in zip(row.tolist(), column.tolist(), strict=True)
        ]

    def spans(self, block: Block) -> tuple[Ints, Ints]:
        """Return for each row of a block its first column in it, and the one after the last.

        A cell is in the sector that contains its western edge.
        """
        width = self.width(np.arange(block.first, block.end))
        first, end = block.sector * width, (block.sector + 1) * width
        return -(-first // block.sectors), -(-end // block.sectors)

    def cells(self, block: Block) -> Ints:
        """Return the numbers of a block's cells, ascending."""
        first, end = self.spans(block)
        starts = self.starts[block.first : block.end]
        spans = zip(starts + first, starts + end, strict=True)
        return np.concatenate([np.arange(a, b, dtype=np.int64) for a, b in spans])

    def around(self, block: Block) -> Bounds:
        """Return the rectangle of degrees around a block."""
        first, end = self.spans(block)
        width = self.width(np.arange(block.first, block.end))
        full = end > first
        if not full.any():
            nothing = np.array(np.nan)
            return Bounds(nothing, nothing, nothing, nothing)
        return Bounds(
            np.asarray(np.min(360 * first[full] / width[full] - 180)),
            self.latitudes[block.end],
            np.asarray(np.max(360 * end[full] / width[full] - 180)),
            self.latitudes[block.first],
        )

    def blocks(self, rows: int, columns: int, first: int = 0) -> list[Block]:
        """Divide rows of cells into blocks of about that many columns.

        Args:
            rows: of a block; fewer at the south pole.
            columns: at most.
            first: row.
        """
        end = min(first + rows, self.rows)
        widest = int(self.width(np.arange(first, end)).max())
        sectors = -(-widest // columns)
        return [Block(first, end, sector, sectors) for sector in range(sectors)]

    def _north_of(self, lat: Floats) -> Floats:
        """Return the number of cells north of latitudes, fractions too."""
        return np.asarray(self.count / 2 * (1 - _authalic_sine(np.sin(np.radians(lat)))))

    def _latitude(self, north_of: Floats) -> Floats:
        """Return the latitude with so many cells north of it."""
        wanted = 1 - 2 * np.asarray(north_of) / self.count
        sine = wanted.copy()
        for _ in range(6):  # Newton, from 0.3 % off: squared in each step
            slope = 2 * (1 - _E**2) / (1 - (_E * sine) ** 2) ** 2 / _Q_POLE
            sine = np.clip(sine - (_authalic_sine(sine) - wanted) / slope, -1, 1)
        return np.degrees(np.arcsin(sine))


def _q(sine: Floats) -> Floats:
    """Snyder's q (3-12) of the sine of a latitude."""
    part = _E * sine
    return (1 - _E**2) * (sine / (1 - part**2) + np.arctanh(part) / _E)


_Q_POLE = float(_q(np.array(1.0)))


def _authalic_sine(sine: Floats) -> Floats:
    return np.asarray(_q(sine) / _Q_POLE)


def _surface() -> float:
    """Square metres of the ellipsoid."""
    return 2 * math.pi * EQUATOR**2 * _Q_POLE
