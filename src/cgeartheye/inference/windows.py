"""The model's grid over a scene: its size, the windows that cover it, and how it is resampled.

The grid covers the same ground as the scene with pixels of another size; pixel `i` of `n` has its
middle at the share `(i + 0.5) / n` of the extent in both.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cgeartheye.geo.pair import AnyScene
from cgeartheye.geo.reader import Span
from cgeartheye.geo.resample import Floats
from cgeartheye.inference.merge_boxes import borders

SAME = 0.05
"""Share by which a scene's pixels may differ from the model's before it is resampled."""

MAX_COLUMNS = 16_384
MAX_SCENE_COLUMNS = 65_536
MAX_SUMS = 128 * 2**20  # float32 numbers of a blender, 0.5 GB

Ints = npt.NDArray[np.int64]


class InterpWeights(NamedTuple):
    """Positions of one grid's pixels in another: between `low` and `high`, at `weight`."""

    low: Ints
    high: Ints
    weight: Floats


@dataclass(frozen=True)
class Axis:
    """Rows or columns of a scene and of the model's grid over it.

    Attributes:
        scene: how many the scene has.
        model: how many the model's grid has.
    """

    scene: int
    model: int

    def to_scene(self, model: Span) -> Span:
        """Return the share of the scene's pixels that belongs to these of the model's."""
        return round(model[0] * self.scene / self.model), round(model[1] * self.scene / self.model)

    def to_model(self, scene: Span) -> Span:
        """Return the share of the model's pixels that belongs to these of the scene's."""
        return round(scene[0] * self.model / self.scene), round(scene[1] * self.model / self.scene)

    def around(self, model: Span) -> Span:
        """Return all the scene's pixels whose value may depend on these of the model's."""
        if self.scene == self.model:
            return max(0, model[0]), min(self.scene, model[1])
        ratio = self.scene / self.model
        low, high = math.floor((model[0] - 1) * ratio) - 1, math.ceil((model[1] + 1) * ratio) + 1
        return max(0, low), min(self.scene, high)

    def taps(self, scene: Span) -> InterpWeights:
        """Return the positions of the scene's pixels in the model's grid."""
        return taps(scene, self.model / self.scene, self.model)

    def complete(self, model: int) -> int:
        """Return how many of the scene's first pixels need only the first `model` of the grid."""
        if model >= self.model:
            return self.scene
        return int(np.searchsorted(self.taps((0, self.scene)).high, model))


def taps(wanted: Span, step: float, source: int) -> InterpWeights:
    """Return pixels' positions in another grid, for linear interpolation between its centers.

    Args:
        wanted: pixels.
        step: the size of one in pixels of the other grid.
        source: pixels of the other grid, constant beyond the outermost ones.
    """
    middle = ((np.arange(*wanted) + 0.5) * step - 0.5).clip(0, source - 1)
    low, high = np.floor(middle), np.ceil(middle)
    return InterpWeights(
        low.astype(np.int64), high.astype(np.int64), (middle - low).astype(np.float32)
    )


def window_offsets(length: int, window: int, overlap: float) -> tuple[int, ...]:
    """Return where windows start that cover a length, evenly spaced, none beyond its end.

    Args:
        length: pixels.
        window: pixels; one window is enough for a length that is not larger.
        overlap: the least share of a window that the next one covers too, 0..0.9.
    """
    if length <= window:
        return (0,)
    stride = max(1, math.floor(window * (1 - overlap)))
    count = math.ceil((length - window) / stride) + 1
    return tuple(int(x) for x in np.linspace(0, length - window, count).round())


def blend_weights(window: int, overlap: float) -> Floats:
    """Return weights `[window]` that rise over the overlap as sin² and fall again, 1 between.

    With two windows that overlap by as much they sum to 1. A pixel that is `d` from the edge of
    one window, and seen by another, is so disturbed by that edge by at most `sin²(π d / 2o)`.
    """
    width = max(1, math.floor(window * overlap))
    distance = np.minimum(np.arange(window), np.arange(window)[::-1]) + 0.5
    ramp = np.sin(np.pi / 2 * np.minimum(distance / width, 1)) ** 2
    return (ramp if overlap > 0 else np.ones(window)).astype(np.float32)


@dataclass(frozen=True)
class ColumnStrip:
    """Columns of a scene that are mapped from top to bottom before the next ones.

    Attributes:
        scene: its columns of the scene.
        model: the columns of the model's grid that its windows see.
        starts: of the windows that its pixels need; those at its sides also serve its neighbours.
    """

    scene: Span
    model: Span
    starts: tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """The windows over a scene.

    Attributes:
        rows: of the scene and of the model's grid.
        columns: of the scene and of the model's grid.
        window: pixels a side.
        overlap: of windows; 0 for cells.
        starts: first rows of the windows.
        bands: of columns, so that memory is bounded however wide the scene is.
        dense: whether the map has the scene's pixels, or else each window as one cell.
        patches: the same windows counted in patches of the network, whose features the map has in
            place of pixels; none: it has pixels or cells.
    """

    rows: Axis
    columns: Axis
    window: int
    overlap: float
    starts: tuple[int, ...]
    bands: tuple[ColumnStrip, ...]
    dense: bool
    patches: "Grid | None" = None

    @property
    def patch(self) -> int:
        """Pixels of the model's grid a side of a pixel of the map, 1 unless it is of patches."""
        return self.window // self.patches.window if self.patches else 1

    @property
    def resampled(self) -> bool:
        """Return whether the model's pixels are not the scene's."""
        return self.rows.scene != self.rows.model or self.columns.scene != self.columns.model

    def meters(self, ground: tuple[float, float]) -> tuple[float, float]:
        """Return metres from one column, and from one row, of the model's grid to the next.

        Args:
            ground: those of the scene.
        """
        rows, columns = self.rows, self.columns
        return ground[0] * columns.scene / columns.model, ground[1] * rows.scene / rows.model

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the map: the scene's, or those of the patches or cells."""
        if self.patches:
            return self.patches.shape
        if self.dense:
            return self.rows.scene, self.columns.scene
        return len(self.starts), sum(len(band.starts) for band in self.bands)

    def place(self, start: int, length: int) -> Span:
        """Return the pixels, along an axis of the model's grid, that a window predicts."""
        if self.dense:
            return start, min(start + self.window, length)
        first = self.cell_number(start) * self.window
        return first, min(first + self.window, length)

    def cell_number(self, start: int) -> int:
        """Return which of the cells along an axis the window is for that starts here."""
        return -(-start // self.window)

    @property
    def cell(self) -> tuple[float, float]:
        """Rows and columns of the scene that a pixel of the map has."""
        if self.dense and not self.patches:
            return 1.0, 1.0
        rows, columns = self.rows, self.columns
        side = self.patch if self.patches else self.window
        return side * rows.scene / rows.model, side * columns.scene / columns.model


def axes(scene: AnyScene, gsd: float | None) -> tuple[Axis, Axis]:
    """Return rows and columns of the model's grid over a scene.

    Args:
        scene: to be mapped.
        gsd: m/px of the model; none: the scene's pixels as they are.
    """
    return (
        Axis(scene.height, _resize(scene.height, scene.ground[1], gsd)),
        Axis(scene.width, _resize(scene.width, scene.ground[0], gsd)),
    )


def make_grid(
    scene: AnyScene, gsd: float | None, window: int, overlap: float, classes: int, dense: bool
) -> Grid:
    """Lay the model's grid over a scene, and windows over the grid.

    Args:
        scene: to be mapped.
        gsd: m/px of the model; none: the scene's pixels as they are.
        window: pixels a side.
        overlap: least share of a window that its neighbour covers too.
        classes: how many.
        dense: whether the model predicts every pixel; else windows are cells side by side, the last
            of which may stand out over the scene (its window does not).
    """
    rows, columns = axes(scene, gsd)
    if not dense:
        down, across = (_cell_starts(axis.model, window) for axis in (rows, columns))
        bands = _bands_of_cells(columns, across, window)
        return Grid(rows, columns, window, 0.0, down, bands, dense)
    down, across = (window_offsets(axis.model, window, overlap) for axis in (rows, columns))
    count = strips_of(columns, window, classes)
    edges = [round(i * columns.scene / count) for i in range(count + 1)]
    bands = tuple(_band(columns, span, across, window) for span in pairwise(edges))
    return Grid(rows, columns, window, overlap, down, bands, dense)


def make_patch_grid(
    scene: AnyScene, gsd: float | None, window: int, overlap: float, patch: int, width: int
) -> Grid:
    """Lay windows over a scene so that all see it in the same patches.

    Windows start at multiples of a patch; the last ones, and with them the last patches, may stand
    out over the scene.

    Args:
        scene: to be encoded.
        gsd: m/px of the model; none: the scene's pixels as they are.
        window: pixels a side, a multiple of `patch`.
        overlap: least share of a window that its neighbor covers too.
        patch: pixels a side.
        width: numbers of a patch, which decide how wide a strip may be.
    """
    rows, columns = axes(scene, gsd)
    side = window // patch
    down, across = (-(-axis.model // patch) for axis in (rows, columns))
    count = strips_of(columns, window, -(-width // patch**2))
    edges = [round(i * across / count) for i in range(count + 1)]
    lefts = window_offsets(across, side, overlap)
    wide = Axis(across, across)
    strips = tuple(_band(wide, span, lefts, side) for span in pairwise(edges))
    starts = window_offsets(down, side, overlap)
    patches = Grid(Axis(down, down), wide, side, overlap, starts, strips, dense=True)

    def pixels(span: Span) -> Span:
        return span[0] * patch, min(span[1] * patch, columns.model)

    bands = tuple(
        ColumnStrip(
            columns.to_scene(pixels(strip.scene)),
            pixels((strip.starts[0], strip.starts[-1] + side)),
            tuple(left * patch for left in strip.starts),
        )
        for strip in strips
    )
    tops = tuple(top * patch for top in starts)
    return Grid(rows, columns, window, overlap, tops, bands, dense=True, patches=patches)


def strips_of(columns: Axis, window: int, classes: int) -> int:
    """Return into how many strips of columns a dense map is divided.

    Args:
        columns: of the scene and of the model's grid.
        window: pixels a side.
        classes: of the model.
    """
    widest = min(MAX_COLUMNS, MAX_SUMS // (classes * window))
    widest = max(8 * window, min(widest, columns.to_model((0, MAX_SCENE_COLUMNS))[1]))
    return math.ceil(columns.model / widest)


def _resize(length: int, ground: float, gsd: float | None) -> int:
    if gsd is None or abs(ground / gsd - 1) <= SAME:
        return length
    return max(1, round(length * ground / gsd))


def _band(columns: Axis, scene: Span, across: tuple[int, ...], window: int) -> ColumnStrip:
    needed = columns.taps(scene)
    first, last = int(needed.low[0]), int(needed.high[-1])
    own = tuple(x for x in across if x <= last and x + window > first)
    return ColumnStrip(scene, (own[0], min(own[-1] + window, columns.model)), own)


def _cell_starts(length: int, window: int) -> tuple[int, ...]:
    """Return the starts of the windows of cells; the last is moved in to see only data."""
    return tuple(min(start, max(0, length - window)) for start in range(0, length, window))


def _bands_of_cells(columns: Axis, across: tuple[int, ...], window: int) -> tuple[ColumnStrip, ...]:
    count = max(1, MAX_COLUMNS // window)
    groups = [across[i : i + count] for i in range(0, len(across), count)]
    spans = [(own[0], min(own[-1] + window, columns.model)) for own in groups]
    return tuple(
        ColumnStrip(columns.to_scene(span), span, own)
        for span, own in zip(spans, groups, strict=True)
    )


def make_object_grid(rows: Axis, columns: Axis, window: int, overlap: float) -> Grid:
    """Lay the windows of a detector over a scene; each belongs to one band of columns.

    Args:
        rows: of `axes`.
        columns: of `axes`.
        window: pixels a side.
        overlap: least share of a window that its neighbour covers too.
    """
    down, across = (window_offsets(axis.model, window, overlap) for axis in (rows, columns))
    widest = min(MAX_COLUMNS, columns.to_model((0, MAX_SCENE_COLUMNS))[1])
    count = max(1, (widest - window) // max(np.diff(across), default=window))
    edges = [0.0, *borders(across, window), columns.model]
    bands = []
    for first in range(0, len(across), count):
        own = across[first : first + count]
        zones = round(edges[first]), round(edges[first + len(own)])
        seen = own[0], min(own[-1] + window, columns.model)
        bands.append(ColumnStrip(columns.to_scene(zones), seen, own))
    return Grid(rows, columns, window, overlap, down, tuple(bands), dense=True)
