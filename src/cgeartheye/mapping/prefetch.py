"""A scene's pixels on the model's grid, read ahead by threads and kept as long as needed."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cgeartheye.geo.aoi import Aoi
from cgeartheye.geo.pair import AnyScene
from cgeartheye.geo.reader import Bools, Bytes, Span
from cgeartheye.geo.resample import Floats, average
from cgeartheye.inference.windows import ColumnStrip, Grid, InterpWeights, taps
from cgeartheye.mapping.clock import Clock

SLAB = 512  # rows of the model's grid that are read at a time; a multiple of most block heights
_PIECE = (1024, 2048)  # rows and columns of the scene that one thread reads at a time
_AHEAD = 2  # slabs


class RowChunk(NamedTuple):
    """Some rows of a band.

    Attributes:
        pixels: uint8 `[channels, rows, columns]` on the model's grid.
        mask: which of the scene's pixels are to be mapped, eight to a byte; none if all.
    """

    pixels: Bytes
    mask: Bytes | None


@dataclass(frozen=True)
class Reader:
    """Reads pieces of a scene on the model's grid.

    What is read of a pixel does not depend on the piece that it is read in.
    """

    scene: AnyScene
    grid: Grid
    aoi: Aoi | None
    clock: Clock
    _source: AnyScene = field(init=False)

    def __post_init__(self) -> None:
        source: AnyScene = self.scene
        if self.grid.resampled:
            source = self.scene.coarser(self.grid.rows.model, self.grid.columns.model)
        object.__setattr__(self, "_source", source)

    @property
    def all_wanted(self) -> bool:
        """Return whether every pixel of the scene is to be mapped."""
        return self.aoi is None and self.scene.all_valid

    def read(
        self, rows: Span, columns: Span, scene_rows: Span, scene_columns: Span
    ) -> tuple[Bytes, Bools | None]:
        """Read a piece.

        Args:
            rows: of the model's grid.
            columns: of the model's grid.
            scene_rows: of the scene, for what is wanted.
            scene_columns: of the scene, for what is wanted.

        Returns:
            uint8 `[channels, rows, columns]`; and bool `[scene rows, scene columns]`, none if all.
        """
        if self.aoi and not self.aoi.touches(*self._surroundings(scene_rows, scene_columns)):
            shape = self.scene.channels, rows[1] - rows[0], columns[1] - columns[0]
            nothing = scene_rows[1] - scene_rows[0], scene_columns[1] - scene_columns[0]
            return np.zeros(shape, np.uint8), np.zeros(nothing, bool)
        valid = None
        something = scene_rows[0] < scene_rows[1] and scene_columns[0] < scene_columns[1]
        if self.grid.resampled:
            with self.clock.measure("resampling"):
                pixels = self._resample(rows, columns)
            if something and not self.scene.all_valid:  # GDAL still holds the blocks
                with self.clock.measure("reading"):
                    valid = self.scene.read(scene_rows, scene_columns)[1]
        else:
            with self.clock.measure("reading"):
                pixels, valid = self.scene.read(rows, columns)
        if self.aoi and something:
            inside = self.aoi.mask(scene_rows, scene_columns)
            valid = inside if valid is None else inside & valid
        return pixels, valid

    def _surroundings(self, rows: Span, columns: Span) -> tuple[Span, Span]:
        """A piece with a window's width around it: what a window that touches the area may see."""
        side = self.grid.window
        down, across = (axis.to_scene((0, side))[1] for axis in (self.grid.rows, self.grid.columns))
        return (rows[0] - down, rows[1] + down), (columns[0] - across, columns[1] + across)

    def _resample(self, rows: Span, columns: Span) -> Bytes:
        """Average over whole pixels down to about the model's size, then interpolate."""
        down, fy = _reduce(rows, self._source.height, self.grid.rows.model)
        across, fx = _reduce(columns, self._source.width, self.grid.columns.model)
        top, left = int(down.low[0]), int(across.low[0])
        bottom, right = int(down.high[-1]) + 1, int(across.high[-1]) + 1
        with self.clock.measure("reading"):
            values, valid = self._source.read(
                (top * fy, min(bottom * fy, self._source.height)),
                (left * fx, min(right * fx, self._source.width)),
            )
        means, present = average(values, valid, fy, fx)
        means = _interpolate(means, down, across, top, left)
        if present is not None:
            share = _interpolate(present[None], down, across, top, left)
            means /= np.where(share > 0, share, 1)
        return np.asarray(means.round(), np.uint8)


class RowBuffer:
    """Rows that come in at the end and are dropped at the beginning."""

    def __init__(self) -> None:
        self._slabs: list[npt.NDArray[Any]] = []
        self._first = self.end = 0

    def restart(self, row: int) -> None:
        """Forget all; the next slab begins at this row."""
        self._slabs, self._first, self.end = [], row, row

    def append(self, slab: npt.NDArray[Any]) -> None:
        """Add `[..., rows, columns]`."""
        self._slabs.append(slab)
        self.end += slab.shape[-2]

    def rows(self, span: Span) -> npt.NDArray[Any]:
        """Return these rows."""
        assert self._first <= span[0] and span[1] <= self.end
        found, row = [], self._first
        for slab in self._slabs:
            found.append(slab[..., max(span[0] - row, 0) : max(span[1] - row, 0), :])
            row += slab.shape[-2]
        return np.concatenate(found, axis=-2)

    def drop(self, row: int) -> None:
        """Forget slabs that end before this row."""
        while self._slabs and self._first + self._slabs[0].shape[-2] <= row:
            self._first += self._slabs.pop(0).shape[-2]


def slabs(
    reader: Reader, plan: list[tuple[ColumnStrip, Span]], pool: ThreadPoolExecutor
) -> Iterator[RowChunk]:
    """Yield slabs in the order of the plan; some are read ahead.

    Args:
        reader: of the scene.
        plan: a strip of columns and its rows for each slab.
        pool: threads that read.
    """
    waiting: deque[tuple[ColumnStrip, Span, list[Piece]]] = deque()
    coming = iter(plan)
    while True:
        while len(waiting) <= _AHEAD and (item := next(coming, None)):
            waiting.append((*item, list(_submit(reader, *item, pool))))
        if not waiting:
            return
        yield _assemble(reader, *waiting.popleft())


Piece = tuple[Span, Span, Span, Span, "Future[tuple[Bytes, Bools | None]]"]


def _submit(
    reader: Reader, band: ColumnStrip, rows: Span, pool: ThreadPoolExecutor
) -> Iterator[Piece]:
    grid, scene = reader.grid, reader.scene
    down = grid.rows.to_model((0, _PIECE[0]))[1]
    across = grid.columns.to_model((0, _PIECE[1]))[1]
    if scene.block[1] >= scene.width:  # rows that are stored whole are read whole
        across = grid.columns.model
        down = grid.rows.to_model((0, max(1, _PIECE[0] * _PIECE[1] // scene.width)))[1]
    edge = grid.columns.around(band.model)
    for r in cut(rows, max(1, down)):
        for c in cut(band.model, max(1, across)):
            scene_rows, scene_columns = grid.rows.to_scene(r), grid.columns.to_scene(c)
            if c[0] == band.model[0]:
                scene_columns = edge[0], scene_columns[1]
            if c[1] == band.model[1]:
                scene_columns = scene_columns[0], edge[1]
            future = pool.submit(reader.read, r, c, scene_rows, scene_columns)
            yield r, c, scene_rows, scene_columns, future


def _assemble(reader: Reader, band: ColumnStrip, rows: Span, pieces: list[Piece]) -> RowChunk:
    grid = reader.grid
    top, left = rows[0], band.model[0]
    scene_top, scene_bottom = grid.rows.to_scene(rows)
    scene_left, scene_right = grid.columns.around(band.model)
    shape = reader.scene.channels, rows[1] - top, band.model[1] - left
    pixels = np.empty(shape, np.uint8)
    mask = None
    if not reader.all_wanted:
        mask = np.ones((scene_bottom - scene_top, scene_right - scene_left), bool)
    for r, c, scene_rows, scene_columns, future in pieces:
        values, valid = future.result()
        pixels[:, r[0] - top : r[1] - top, c[0] - left : c[1] - left] = values
        if valid is not None:
            assert mask is not None
            mask[
                scene_rows[0] - scene_top : scene_rows[1] - scene_top,
                scene_columns[0] - scene_left : scene_columns[1] - scene_left,
            ] = valid
    return RowChunk(pixels, None if mask is None else np.packbits(mask, axis=-1))


def cut(span: Span, size: int) -> list[Span]:
    """Cut a span at the multiples of a size."""
    edges = [span[0], *range((span[0] // size + 1) * size, span[1], size), span[1]]
    return list(pairwise(edges))


def _reduce(span: Span, source: int, model: int) -> tuple[InterpWeights, int]:
    """Return positions of pixels among averages of whole pixels, and how many are averaged."""
    factor = max(1, round(source / model))
    return taps(span, source / model / factor, -(-source // factor)), factor


def _interpolate(
    values: Floats, down: InterpWeights, across: InterpWeights, top: int, left: int
) -> Floats:
    """Interpolate `[C, H, W]`, whose first pixel is (`top`, `left`), at the taps."""
    weight = down.weight[:, None]
    rows = values[:, down.low - top] * (1 - weight) + values[:, down.high - top] * weight
    low, high = rows[..., across.low - left], rows[..., across.high - left]
    return np.asarray(low * (1 - across.weight) + high * across.weight, np.float32)
