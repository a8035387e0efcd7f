"""A detector's finds on their way: what of a window belongs to the map, stored, then merged."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cgeartheye.boxes import Detections, areas_of, nms
from cgeartheye.geo.reader import Bytes
from cgeartheye.inference.merge_boxes import Merger, Tiling
from cgeartheye.inference.windows import Axis, Grid
from cgeartheye.mapping.ledger import Ledger
from cgeartheye.utils.errors import UserError

TWICE = {"oriented": 0.3, "horizontal": 0.7}
"""IoU from which a window's boxes of a class are of one object: detectors without suppression tell
some twice. Horizontal boxes of objects that lie side by side at an angle overlap more."""

_CHUNK = 50_000  # objects that are handed on at a time, or those of a row of windows if more


@dataclass(frozen=True)
class WindowMask:
    """Which pixels of a part of the scene are to be mapped.

    Attributes:
        bits: eight columns to a byte, uint8 `[rows, n]`.
        top: row of the scene that they begin with.
        left: column.
    """

    bits: Bytes
    top: int
    left: int

    def at(self, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> Tensor:
        """Return which of some pixels are, bool `[n]`; outside of the part none is."""
        y, x = rows - self.top, columns - self.left
        inside = (y >= 0) & (y < len(self.bits)) & (x >= 0) & (x < 8 * self.bits.shape[1])
        y, x = y * inside, x * inside
        bits = self.bits[y, x >> 3] >> (7 - (x & 7)) & 1
        return torch.from_numpy((bits > 0) & inside)


@dataclass(frozen=True)
class DetectionFilter:
    """Keeps what belongs to the map.

    Attributes:
        grid: of the map.
        tiling: its windows.
        score: least one.
        oriented: whether boxes are.
        classes: how many.
        scene: its name, for messages.
    """

    grid: Grid
    tiling: Tiling
    score_threshold: float
    oriented: bool
    classes: int
    scene: str

    def keep(self, preds: Detections, row: int, column: int, mask: WindowMask | None) -> bytes:
        """Return a window's finds as they are stored, empty if there are none.

        Horizontal boxes are cut at the scene's borders. Kept is what has an area and a sufficient
        score, is the best box of its object, may be one of the window's zone, and has its centre
        on a pixel that is to be mapped.

        Args:
            preds: in pixels of the window.
            row: number of the window.
            column: likewise.
            mask: none: all of the scene.

        Raises:
            UserError: a box or a score is not finite.
        """
        assert preds.boxes.shape == (len(preds), 5 if self.oriented else 4), preds.boxes.shape
        if not (preds.boxes.isfinite().all() and preds.scores.isfinite().all()):
            tiling = self.tiling
            raise UserError(
                f"the model gives boxes that are not finite in the window at row "
                f"{tiling.tops[row]}, column {tiling.lefts[column]} of its grid over {self.scene}: "
                "map in single precision"
            )
        assert ((preds.labels >= 0) & (preds.labels < self.classes)).all()
        if not self.oriented:
            preds = Detections(self._cut(preds.boxes, row, column), preds.scores, preds.labels)
        preds = preds[(preds.scores >= self.score_threshold) & (areas_of(preds.boxes) > 0)]
        preds = nms(preds, TWICE["oriented" if self.oriented else "horizontal"])
        preds = self.tiling.candidates(row, column, preds)
        return pack(preds[self._on_map(preds, row, column, mask)])

    def _cut(self, boxes: Tensor, row: int, column: int) -> Tensor:
        """Cut horizontal boxes at the scene's borders: a window may reach beyond them."""
        left, top = self.tiling.lefts[column], self.tiling.tops[row]
        low = boxes.new_tensor([-left, -top] * 2)
        high = boxes.new_tensor([self.grid.columns.model - left, self.grid.rows.model - top] * 2)
        return boxes.clamp(low, high)

    def _on_map(self, preds: Detections, row: int, column: int, mask: WindowMask | None) -> Tensor:
        middle = Detections(preds.boxes.double(), preds.scores, preds.labels).centers.numpy()
        x, columns = _pixels(middle[:, 0] + self.tiling.lefts[column], self.grid.columns)
        y, rows = _pixels(middle[:, 1] + self.tiling.tops[row], self.grid.rows)
        inside = torch.from_numpy(x & y)
        return inside if mask is None else inside & mask.at(rows, columns)


def tiling_of(grid: Grid) -> Tiling:
    """Return the windows of a grid of `make_object_grid`."""
    lefts = tuple(left for band in grid.bands for left in band.starts)
    return Tiling(grid.starts, lefts, grid.window)


def pack(preds: Detections) -> bytes:
    """Return detections as bytes: float32 boxes, score and label of each."""
    numbers = [preds.boxes, preds.scores[:, None], preds.labels[:, None]]
    return torch.cat([each.float() for each in numbers], dim=1).numpy().tobytes()


def unpack(data: bytes, oriented: bool) -> Detections:
    """Return what was packed."""
    sides = 5 if oriented else 4
    numbers = torch.from_numpy(np.frombuffer(data, np.float32).reshape(-1, sides + 2).copy())
    return Detections(numbers[:, :sides], numbers[:, sides], numbers[:, sides + 1].long())


def merged(ledger: Ledger, grid: Grid, oriented: bool) -> Iterator[Detections]:
    """Yield the objects of a finished map, in the same order each time, in chunks.

    Held are those of the rows of windows that overlap, whatever the scene.

    Args:
        ledger: of the map.
        grid: of the map.
        oriented: whether boxes are.

    Yields:
        Boxes float64 in pixels of the model's grid; at least one chunk, maybe of none.
    """
    tiling = tiling_of(grid)
    merger = Merger(tiling)
    held = [Detections.none(5 if oriented else 4)]
    count = len(tiling.tops)
    for row in range(count):
        column = 0
        for number, band in enumerate(grid.bands):
            for place, data in ledger.found(number * count + row):
                merger.add(row, column + place, unpack(data, oriented))
            column += len(band.starts)
        held += merger.take(row + 1)
        if sum(map(len, held)) >= _CHUNK:
            yield Detections.concatenate(held)
            held = []
    if held:
        yield Detections.concatenate(held)


def _pixels(
    middle: npt.NDArray[np.float64], axis: Axis
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Which places of the model's grid lie in the scene, and in which of its pixels."""
    inside = (middle >= 0) & (middle < axis.model)
    pixels = np.floor(middle * axis.scene / axis.model).clip(0, axis.scene - 1)
    return np.asarray(inside), pixels.astype(np.int64)
