"""A scene as it is seen on the grid of another, whatever its own grid and CRS."""

import functools
import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.crs import CRS

from cgeartheye.geo.crs import WGS84, transformer
from cgeartheye.geo.reader import Bools, Bytes, Scene, Span
from cgeartheye.geo.resample import Places, average, between

Ints = npt.NDArray[np.int64]

_STEP = 32  # pixels of the grid from one whose place is computed to the next
_TILE = 512  # pixels a side of the grid that are read at a time
_BORDER = 65  # points of a side of a footprint


class PixelGrid(NamedTuple):
    """Pixels on a map.

    Attributes:
        transform: from pixels to the map.
        crs: of the map; none if both scenes are not georeferenced.
    """

    transform: Affine
    crs: CRS | None

    def to(self, other: "PixelGrid", x: Places, y: Places) -> tuple[Places, Places]:
        """Return positions in another grid; not finite where there is none.

        Args:
            other: grid whose pixels are returned.
            x: columns in this grid, fractions too.
            y: rows in this grid, of the same shape.
        """
        x, y = _apply(self.transform, x, y)
        if self.crs != other.crs:
            assert self.crs is not None
            assert other.crs is not None
            x, y = transformer(self.crs, other.crs).transform(x, y)
        with np.errstate(invalid="ignore"):
            return _apply(~other.transform, x, y)


def _apply(transform: Affine, x: Places, y: Places) -> tuple[Places, Places]:
    a, b, c, d, e, f = transform[:6]
    return a * x + b * y + c, d * x + e * y + f


@functools.lru_cache(maxsize=8)
def _around_the_world(crs: CRS | None) -> float:
    """Return the growth of x around the world along any parallel; 0: not such a map."""
    if crs is None:
        return 0.0
    lon, lat = np.array([[10.0, 11.0, 100.0, 101.0] * 2, [0.0] * 4 + [50.0] * 4])
    x = np.reshape(transformer(WGS84, crs).transform(lon, lat)[0], (4, 2))
    if not np.isfinite(x).all():
        return 0.0
    steps = abs(x[:, 1] - x[:, 0])
    return 360 * float(steps[0]) if np.ptp(steps) <= 1e-9 * steps[0] else 0.0


@dataclass(frozen=True)
class WarpedScene:
    """A scene on another grid: averaged over whole pixels down to about its, then interpolated.

    What is read of a pixel does not depend on the piece that it is read in. The scene's place is
    computed exactly at fixed pixels of the grid, 32 apart, and is linear between them: projections
    bend against each other by less than a thousandth of a pixel of 10 m on such a way. Averages
    are over fixed blocks of the scene. On a map of the whole world a grid may be on both sides of
    the map's edge.

    Attributes:
        scene: the scene.
        grid: that it is seen on.
        factor: rows and columns of the scene that are averaged.
        turn: columns of the scene around the world; 0: its map does not go around it.
        middle: column of the scene at the middle of the grid.
    """

    scene: Scene
    grid: PixelGrid
    factor: tuple[int, int]
    turn: float
    middle: float

    def read(self, rows: Span, columns: Span) -> tuple[Bytes, Bools]:
        """Read a rectangle of the grid.

        Returns:
            uint8 `[3, rows, columns]`, 0 where the scene has no data; and where it has, bool
            `[rows, columns]`.

        Raises:
            UserError: the scene cannot be read.
        """
        shape = rows[1] - rows[0], columns[1] - columns[0]
        pixels, valid = np.zeros((3, *shape), np.uint8), np.zeros(shape, bool)
        side = max(_TILE // 8, _TILE // max(self.factor))
        for top, left in itertools.product(range(*rows, side), range(*columns, side)):
            end, right = min(top + side, rows[1]), min(left + side, columns[1])
            down = slice(top - rows[0], end - rows[0])
            across = slice(left - columns[0], right - columns[0])
            x, y = self._places((top, end), (left, right))
            for shift in turns(self.turn):
                tile = self._read_tile(x + shift, y)
                if tile is not None:
                    pixels[:, down, across] += tile[0] * ~valid[down, across]
                    valid[down, across] |= tile[1]
        return pixels, valid

    def _read_tile(self, x: Places, y: Places) -> tuple[Bytes, Bools] | None:
        """The same of a few places in the scene; none if it does not reach them."""
        height, width = self.scene.height, self.scene.width
        inside = (x >= 0) & (x <= width) & (y >= 0) & (y <= height)  # false for NaN
        if not inside.any():
            return None
        fy, fx = self.factor
        down, (top, bottom) = _among_averages(y, inside, fy, height)
        across, (left, right) = _among_averages(x, inside, fx, width)
        values, valid = self.scene.read(
            (top * fy, min(bottom * fy, height)), (left * fx, min(right * fx, width))
        )
        means, present = between(*average(values, valid, fy, fx), down, across)
        if present is not None:
            inside &= present
        return np.asarray(means.round() * inside, np.uint8), inside

    def _places(self, rows: Span, columns: Span) -> tuple[Places, Places]:
        """Return the centers of the grid's pixels in pixels of the scene, x and y."""
        i, down, v = _around(rows)
        j, across, u = _around(columns)
        knots = np.meshgrid(across, down)
        found = []
        with np.errstate(invalid="ignore"):
            x, y = self.grid.to(pixel_grid_at(self.scene), *knots)
            if self.turn:
                # Neighbours stay neighbours where the map ends and begins again.
                x -= self.turn * np.round((x - self.middle) / self.turn)
            for place in (x, y):
                lines = place[i] * (1 - v[:, None]) + place[i + 1] * v[:, None]
                found.append(lines[:, j] * (1 - u) + lines[:, j + 1] * u)
        return found[0], found[1]


def pixel_grid_at(scene: Scene) -> PixelGrid:
    """Return a scene's own pixels."""
    return PixelGrid(scene.transform, scene.crs)


def warp_to(scene: Scene, grid: PixelGrid, middle: tuple[float, float]) -> WarpedScene:
    """Lay a scene onto a grid.

    Args:
        scene: the scene.
        grid: that it is to be seen on.
        middle: column and row of the grid where the sizes of their pixels are compared.
    """
    x, y = np.array(middle)[:, None] + [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    x, y = grid.to(pixel_grid_at(scene), x, y)
    # However the grids are turned: the length of a step in any direction, along an axis.
    turn = turn_of(scene)
    if turn:
        x[1:] -= turn * np.round((x[1:] - x[0]) / turn)
    steps = np.hypot(*(y[1:] - y[0])), np.hypot(*(x[1:] - x[0]))
    down, across = (max(1, round(float(np.nan_to_num(step, posinf=1)))) for step in steps)
    return WarpedScene(scene, grid, (down, across), turn, float(np.nan_to_num(x[0], posinf=0)))


def turn_of(scene: Scene | PixelGrid) -> float:
    """Return how many columns of a scene go once around the world; 0: its map does not."""
    a, b, _, d = scene.transform[:4]
    return 0.0 if b or d else _around_the_world(scene.crs) / abs(a)


def turns(turn: float) -> tuple[float, ...]:
    """Return the shifts of columns that find a place on any turn around the world."""
    return (0.0, turn, -turn) if turn else (0.0,)


def footprint(scene: Scene, grid: PixelGrid) -> shapely.Geometry:
    """Return what a scene covers, in a grid's pixels; everything if not all of it has a place.

    On a map of the whole world it may reach beyond the map's edge.

    Raises:
        pyproj.exceptions.ProjError: no way leads from one CRS to the other.
    """
    share = np.linspace(0, 1, _BORDER)[:-1]
    none, all_ = np.zeros_like(share), np.ones_like(share)
    x = np.concatenate([share, all_, 1 - share, none]) * scene.width
    y = np.concatenate([none, share, all_, 1 - share]) * scene.height
    border = np.stack(pixel_grid_at(scene).to(grid, x, y), axis=1)
    if not np.isfinite(border).all():
        return shapely.box(-1e9, -1e9, 1e9, 1e9)
    turn = turn_of(grid)
    if turn:
        border[:, 0] = np.unwrap(border[:, 0], period=turn)
    return shapely.make_valid(shapely.Polygon(border))


def _around(span: Span) -> tuple[Ints, Places, Places]:
    """For pixels: the number of the knot before each; the knots' middles; how far it is beyond."""
    pixels: Ints = np.arange(*span)
    knots: Ints = np.arange(span[0] // _STEP, (span[1] - 1) // _STEP + 2)
    centers: Places = knots * np.float64(_STEP) + 0.5
    beyond: Places = pixels % _STEP / np.float64(_STEP)
    return pixels // _STEP - knots[0], centers, beyond


def _among_averages(places: Places, inside: Bools, factor: int, length: int) -> tuple[Places, Span]:
    """Return positions among some averages of the scene of places inside it, and which averages."""
    count = -(-length // factor)
    among = (places / factor - 0.5).clip(0, count - 1)
    first = int(among[inside].min())
    end = min(int(among[inside].max()) + 2, count)
    return np.where(inside, among - first, 0.0), (first, end)
