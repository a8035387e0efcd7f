"""Finished rows go to the disk in a thread of their own, and then into the ledger."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from cgeartheye.geo.reader import Bools, Bytes, Span
from cgeartheye.inference.windows import Grid
from cgeartheye.mapping.blending import NODATA, Finished
from cgeartheye.mapping.geotiff import RawRaster
from cgeartheye.mapping.ledger import Ledger
from cgeartheye.utils.errors import UserError

PREVIEW_SIDE = 2000
"""Pixels of the longer side of the preview's pictures."""

_QUEUE = 4  # pieces that wait to be written
_SECONDS_BETWEEN_NOTES = 2.0  # each waits for the disk


class PackedMask(NamedTuple):
    """Which pixels of some rows are to be mapped.

    Attributes:
        bits: eight columns to a byte, uint8 `[rows, n]`.
        columns: which of the bits are meant.
    """

    bits: Bytes
    columns: Span

    def unpack(self) -> Bools:
        """Return bool `[rows, columns]`."""
        bits = np.unpackbits(self.bits, axis=-1, count=self.columns[1])
        return bits[:, self.columns[0] :].astype(bool)


def open_planes(
    folder: Path, grid: Grid, channels: int, classes: int, confidence: bool, probabilities: bool
) -> dict[str, RawRaster]:
    """Open, or make, the files of an unfinished map.

    Args:
        folder: that they are in.
        grid: of the map.
        channels: of the scene.
        classes: how many.
        confidence: whether that of the best class is kept.
        probabilities: whether those of all classes are kept.

    Returns:
        `classes`; `confidence` and `probabilities` if asked for; `scene`, a small picture of it.

    Raises:
        UserError: the disk has no room for them.
    """
    bands = {"classes": 1, "confidence": int(confidence), "probabilities": classes * probabilities}
    planes = {
        name: RawRaster(folder / f"{name}.raw", count, *grid.shape)
        for name, count in bands.items()
        if count
    }
    return {**planes, "scene": open_picture(folder, grid, channels)}


def open_picture(folder: Path, grid: Grid, channels: int) -> RawRaster:
    """Open, or make, the file of a small picture of the scene; see `open_planes`."""
    step = thumbnail_step(grid)
    small = -(-grid.rows.model // step), -(-grid.columns.model // step)
    return RawRaster(folder / "scene.raw", channels, *small)


def thumbnail_step(grid: Grid) -> int:
    """Return how many pixels of the model's grid apart those of the small picture are."""
    return -(-max(grid.rows.model, grid.columns.model) // PREVIEW_SIDE)


class Writer:
    """Writes what it is handed, in order, while the next rows are predicted.

    What fails in the thread is raised where the next piece is handed over, or at the end.
    """

    def __init__(self, planes: Mapping[str, RawRaster], ledger: Ledger, grid: Grid, scene: str):
        """Begin.

        Args:
            planes: of `open_planes`, or the picture alone.
            ledger: of finished rows of windows.
            grid: of the map.
            scene: its name, for messages.
        """
        self._planes, self._ledger, self._grid, self._scene = planes, ledger, grid, scene
        self._waiting: deque[Future[None]] = deque()
        self._unnoted: list[tuple[int, int, int]] = []
        self._found: list[tuple[int, int, bytes]] = []
        self._pixels, self._last_note = 0, time.monotonic()

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(1)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._hand_over(self._note)
                while self._waiting:
                    self._waiting.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def rows(self, finished: Finished, column: int, mask: PackedMask | None) -> None:
        """Write rows of the map, the first of whose columns is `column`; no `mask`: all.

        Raises:
            UserError: the model has no finite prediction for a pixel that is wanted.
        """
        self._hand_over(self._write, finished, column, mask)

    def objects(
        self, found: list[tuple[int, int, bytes]], area: int, mask: PackedMask | None
    ) -> None:
        """Keep what was found in a row of windows, which is noted when the row ends.

        Args:
            found: see `Ledger.note`.
            area: pixels of the scene that the row is for.
            mask: which of them are to be mapped; none: all.
        """
        self._hand_over(self._keep, found, area, mask)

    def thumbnail(self, strip: Bytes, rows: Span, columns: Span, left: int) -> None:
        """Write these rows and columns of the model's grid, part of a strip, to the small picture.

        Args:
            strip: uint8 `[channels, S, n]`.
            rows: of the grid; the strip begins with the first.
            columns: of the grid.
            left: column of the grid that the strip begins with.
        """
        self._hand_over(self._write_thumbnail, strip, rows, columns, left)

    def end_row(self, number: int, windows: int, tell: Callable[[int, int], None]) -> None:
        """Note a row of windows as finished; `tell` gets their number and that of its pixels."""
        self._hand_over(self._end_row, number, windows, tell)

    def _hand_over(self, do: Callable[..., None], *what: Any) -> None:
        self._waiting.append(self._pool.submit(do, *what))
        while len(self._waiting) > _QUEUE:
            self._waiting.popleft().result()

    def _write(self, finished: Finished, column: int, mask: PackedMask | None) -> None:
        classes = finished.classes.cpu().numpy()
        unknown = classes == NODATA
        if mask is None:
            self._pixels += classes.size
        else:
            inside = mask.unpack()
            unknown &= inside
            classes = np.where(inside, classes, np.uint8(NODATA))
            self._pixels += int(inside.sum())
        if unknown.any():
            raise UserError(
                f"the model gives no finite probabilities in rows {finished.rows[0]}-"
                f"{finished.rows[1] - 1} of {self._scene}: map in single precision"
            )
        self._planes["classes"].write(finished.rows, column, classes[None])
        if "confidence" in self._planes:
            confidence = finished.confidence.cpu().numpy()
            self._planes["confidence"].write(finished.rows, column, confidence[None])
        if finished.probabilities is not None:
            percent = finished.probabilities.cpu().numpy()
            percent[:, classes == NODATA] = NODATA
            self._planes["probabilities"].write(finished.rows, column, percent)

    def _keep(
        self, found: list[tuple[int, int, bytes]], area: int, mask: PackedMask | None
    ) -> None:
        self._found += found
        self._pixels += area if mask is None else int(mask.unpack().sum())

    def _write_thumbnail(self, strip: Bytes, rows: Span, columns: Span, left: int) -> None:
        """Each pixel is the mean of up to 4 x 4 at its place: single ones would be noise."""
        step = thumbnail_step(self._grid)
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
        self._planes["scene"].write((top, top + y.size), int(x[0]) // step, mean)

    def _end_row(self, number: int, windows: int, tell: Callable[[int, int], None]) -> None:
        self._unnoted.append((number, windows, self._pixels))
        tell(windows, self._pixels)
        self._pixels = 0
        if time.monotonic() - self._last_note > _SECONDS_BETWEEN_NOTES:
            self._note()

    def _note(self) -> None:
        """Wait for the disk, then note what is on it."""
        for plane in self._planes.values():
            plane.sync()
        self._ledger.note(self._unnoted, self._found)
        self._unnoted, self._found, self._last_note = [], [], time.monotonic()
