"""A small picture of the scene for the preview, made of the pixels that pass by."""

from pathlib import Path

import numpy as np

from cgeartheye.geo.reader import Bytes, Span
from cgeartheye.inference.windows import Grid
from cgeartheye.mapping.geotiff import RawRaster

PREVIEW_SIDE = 2000
"""Pixels of the longer side of the preview's pictures."""


class Thumbnail:
    """The small picture of a scene, or those of its two dates, in a file."""

    def __init__(self, folder: Path, grid: Grid, channels: int):
        """Open the file, or make it.

        Args:
            folder: of unfinished files.
            grid: of the map.
            channels: of the scene; three a date.

        Raises:
            UserError: the disk has no room for it.
        """
        self._step = -(-max(grid.rows.model, grid.columns.model) // PREVIEW_SIDE)
        small = -(-grid.rows.model // self._step), -(-grid.columns.model // self._step)
        self.plane = RawRaster(folder / "scene.raw", channels, *small)

    def write(self, strip: Bytes, rows: Span, columns: Span, left: int) -> None:
        """Write some rows and columns of the model's grid, which are part of a strip.

        Each pixel is the mean of up to 4 x 4 at its place: single ones would be noise.

        Args:
            strip: uint8 `[channels, S, n]`.
            rows: of the grid; the strip begins with the first.
            columns: of the grid.
            left: column of the grid that the strip begins with.
        """
        step = self._step
        y, x = (np.arange(-(-span[0] // step) * step, span[1], step) for span in (rows, columns))
        if not (y.size and x.size):
            return
        total = np.zeros((len(strip), y.size, x.size), np.uint16)
        few = min(step, 4)
        for down in range(few):
            lines = strip[:, np.minimum(y - rows[0] + down, strip.shape[1] - 1)]
            for across in range(few):
                total += lines[..., np.minimum(x - left + across, strip.shape[2] - 1)]
        top = int(y[0]) // step
        mean = (total // few**2).astype(np.uint8)
        self.plane.write((top, top + y.size), int(x[0]) // step, mean)

    def pictures(self) -> list[Bytes]:
        """Return the picture of each date, uint8 `[H, W, 3]`."""
        plane = self.plane
        bands = [plane.read((0, plane.height), band) for band in range(plane.bands)]
        return [np.stack(bands[i : i + 3], axis=-1) for i in range(0, len(bands), 3)]
