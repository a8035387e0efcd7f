"""Which of a window's detections belong to the map, and how they are stored."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cgeartheye.boxes import Detections, areas_of, nms
from cgeartheye.inference.merge_boxes import Tiling
from cgeartheye.inference.windows import Axis, Grid
from cgeartheye.mapping.sinks.base import WantedPixels
from cgeartheye.utils.errors import UserError

TWICE = {"oriented": 0.3, "horizontal": 0.7}
"""IoU from which a window's boxes of a class are of one object: detectors without NMS return
some twice. Horizontal boxes of objects side by side at an angle overlap more."""


@dataclass(frozen=True)
class DetectionFilter:
    """Keeps what belongs to the map.

    Attributes:
        grid: of the map.
        tiling: its windows.
        score_threshold: the least score.
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

    def keep(self, found: Detections, row: int, column: int, mask: WantedPixels | None) -> bytes:
        """Return a window's finds as they are stored, empty if there are none.

        Horizontal boxes are cut at the scene's borders. Kept is what has an area and a sufficient
        score, is the best box of its object, may be one of the window's zone, and has its centre
        on a pixel that is to be mapped.

        Args:
            found: in pixels of the window.
            row: number of the window.
            column: number of the window.
            mask: none: all of the scene.

        Raises:
            UserError: a box or a score is not finite.
        """
        assert found.boxes.shape == (len(found), 5 if self.oriented else 4), found.boxes.shape
        if not (found.boxes.isfinite().all() and found.scores.isfinite().all()):
            tiling = self.tiling
            raise UserError(
                f"the model gives boxes that are not finite in the window at row "
                f"{tiling.tops[row]}, column {tiling.lefts[column]} of its grid over {self.scene}: "
                "map in single precision"
            )
        assert ((found.labels >= 0) & (found.labels < self.classes)).all()
        if not self.oriented:
            found = Detections(self._cut(found.boxes, row, column), found.scores, found.labels)
        found = found[(found.scores >= self.score_threshold) & (areas_of(found.boxes) > 0)]
        found = nms(found, TWICE["oriented" if self.oriented else "horizontal"])
        found = self.tiling.candidates(row, column, found)
        return pack(found[self._on_map(found, row, column, mask)])

    def _cut(self, boxes: Tensor, row: int, column: int) -> Tensor:
        """Cut horizontal boxes at the scene's borders: a window may reach beyond them."""
        left, top = self.tiling.lefts[column], self.tiling.tops[row]
        low = boxes.new_tensor([-left, -top] * 2)
        high = boxes.new_tensor([self.grid.columns.model - left, self.grid.rows.model - top] * 2)
        return boxes.clamp(low, high)

    def _on_map(
        self, found: Detections, row: int, column: int, mask: WantedPixels | None
    ) -> Tensor:
        middle = Detections(found.boxes.double(), found.scores, found.labels).centers.numpy()
        x, columns = _pixels(middle[:, 0] + self.tiling.lefts[column], self.grid.columns)
        y, rows = _pixels(middle[:, 1] + self.tiling.tops[row], self.grid.rows)
        inside = torch.from_numpy(x & y)
        return inside if mask is None else inside & mask.at(rows, columns)


def tiling_of(grid: Grid) -> Tiling:
    """Return the windows of a grid of `make_object_grid`."""
    lefts = tuple(left for band in grid.bands for left in band.starts)
    return Tiling(grid.starts, lefts, grid.window)


def pack(found: Detections) -> bytes:
    """Return detections as bytes: float32 boxes, score and label of each."""
    numbers = [found.boxes, found.scores[:, None], found.labels[:, None]]
    return torch.cat([each.float() for each in numbers], dim=1).numpy().tobytes()


def unpack(data: bytes, oriented: bool) -> Detections:
    """Return what was packed."""
    sides = 5 if oriented else 4
    numbers = torch.from_numpy(np.frombuffer(data, np.float32).reshape(-1, sides + 2).copy())
    return Detections(numbers[:, :sides], numbers[:, sides], numbers[:, sides + 1].long())


def _pixels(
    middle: npt.NDArray[np.float64], axis: Axis
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Return which places of the model's grid are in the scene, and in which of its pixels."""
    inside = (middle >= 0) & (middle < axis.model)
    pixels = np.floor(middle * axis.scene / axis.model).clip(0, axis.scene - 1)
    return np.asarray(inside), pixels.astype(np.int64)
