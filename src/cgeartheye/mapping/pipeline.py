"""The rows of windows of a scene, one after the other: pixels in, finished rows of the map out."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from cgeartheye.boxes import Detections
from cgeartheye.geo.reader import Bytes, Span
from cgeartheye.inference.windows import ColumnStrip
from cgeartheye.mapping.blending import Blender, argmax_classes
from cgeartheye.mapping.prefetch import SLAB, Reader, RowBuffer, RowChunk, cut, slabs
from cgeartheye.mapping.sinks.objects import DetectionFilter, WindowMask
from cgeartheye.mapping.sinks.writer import PackedMask, Writer
from cgeartheye.utils.console import bar


class Model(Protocol):
    """What mapping knows of every model."""

    @property
    def classes(self) -> Sequence[str]:
        """Names, by value in the map, or by label."""

    @property
    def window(self) -> int:
        """Pixels a side of what it sees at a time."""

    @property
    def gsd(self) -> float | None:
        """Metres a pixel that it was trained with, if known."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""


class Predictor(Model, Protocol):
    """A model that tells the class of pixels, or of windows as wholes."""

    def predict(self, images: Tensor) -> Tensor:
        """Predict probabilities, which sum to 1.

        Args:
            images: uint8 `[B, 3, S, S]` on the device; of two dates `[B, 6, S, S]`.

        Returns:
            float32 `[B, K, S, S]` of every pixel, or `[B, K]` of the windows as wholes.
        """


@runtime_checkable
class Detector(Model, Protocol):
    """A model that finds objects."""

    @property
    def oriented(self) -> bool:
        """Whether its boxes are oriented."""

    @property
    def max_object_size(self) -> float | None:
        """How far the largest object of its training reaches, in pixels, if known.

        The longer side of a horizontal box, the diagonal of an oriented one.
        """

    @property
    def score_threshold(self) -> float | None:
        """The least score of a detection that counts, if known."""

    def predict(self, images: Tensor) -> list[Detections]:
        """Find objects.

        Args:
            images: uint8 `[B, 3, S, S]` on the device.

        Returns:
            Of each image its objects, in its pixels.
        """


class Mapper:
    """Maps the rows of windows of a scene that are not finished."""

    def __init__(
        self,
        predictor: Predictor | Detector,
        reader: Reader,
        probabilities: bool,
        batch_size: int,
        sieve: DetectionFilter | None = None,
    ):
        """Bring together what is needed.

        Args:
            predictor: the model.
            reader: of the scene.
            probabilities: whether those of all classes are to be written.
            batch_size: windows at a time, at most.
            sieve: for what a detector finds.
        """
        self._predictor, self._reader, self._grid = predictor, reader, reader.grid
        self._probabilities, self._batch_size, self._filter = probabilities, batch_size, sieve
        self._pixels, self._mask = RowBuffer(), RowBuffer()

    def run(self, done: int, pool: ThreadPoolExecutor, writer: Writer) -> None:
        """Map all rows of windows but the first `done`; the pool reads, the writer writes.

        Raises:
            UserError: a piece cannot be read or written, or a prediction is not finite.
        """
        grid, count = self._grid, len(self._grid.starts)
        if done == count * len(grid.bands):
            return
        finished, row = divmod(done, count)
        bands = grid.bands[finished:]
        # Windows that overlap with those to be written are predicted again.
        begins = [self._first_to_repeat(row), *[0] * (len(bands) - 1)]
        plan = [
            (band, span)
            for band, begin in zip(bands, begins, strict=True)
            for span in cut((self._first_row(begin), grid.rows.model), SLAB)
        ]
        feed = slabs(self._reader, plan, pool)
        windows = [count * len(band.starts) for band in grid.bands]
        before = sum(windows[:finished]) + row * len(bands[0].starts)
        area = self._reader.scene.ground[0] * self._reader.scene.ground[1] / 1e6
        area *= grid.cell[0] * grid.cell[1]
        with bar("mapping", sum(windows), "windows", before) as progress:
            start, mapped = time.monotonic(), 0

            def tell(windows: int, pixels: int) -> None:
                nonlocal mapped
                mapped += pixels
                rate = mapped * area / max(time.monotonic() - start, 1e-9)
                progress.advance(windows, f"{rate:,.3g} km2/s")

            for number, begin in enumerate(begins, finished):
                band = grid.bands[number]
                for row in self._band(number, begin, done - number * count, feed, writer):
                    writer.end_row(number * count + row, len(band.starts), tell)

    def _band(
        self, number: int, begin: int, done: int, feed: Iterator[RowChunk], writer: Writer
    ) -> Iterator[int]:
        """Map a band of columns from a row of windows on; yields those that are handed over."""
        grid, starts = self._grid, self._grid.starts
        band = grid.bands[number]
        blender = None
        if grid.dense and self._filter is None:
            count, device = len(self._predictor.classes), self._predictor.device
            blender = Blender(grid, band, count, device, self._probabilities)
        first = self._first_row(begin)
        self._pixels.restart(first)
        self._mask.restart(grid.rows.to_scene((0, first))[1])
        for row in range(begin, len(starts)):
            top, end = starts[row], [*starts, grid.rows.model][row + 1]
            strip = self._strip(top, band, feed)
            predictions = self._predict(strip, self._lefts(top, band), band)
            if blender:
                blender.begin(top)
                for lefts, prediction in predictions:
                    blender.add(prediction, lefts)
                if row >= done:
                    for finished in blender.finish(
                        grid.rows.complete(top), grid.rows.complete(end)
                    ):
                        mask = self._mask_in(finished.rows, band)
                        writer.rows(finished, band.scene[0], mask)
            elif self._filter and row >= done:
                self._objects(number, row, predictions, writer)
            elif row >= done:
                self._cells(row, band, predictions, writer)
            if row >= done:
                columns = grid.columns.to_model(band.scene)
                writer.thumbnail(strip, (top, end), columns, band.model[0])
                yield row
            self._pixels.drop(end)
            self._mask.drop(grid.rows.around((end, grid.rows.model))[0])

    def _first_to_repeat(self, row: int) -> int:
        """The first row of windows that pixels to be written by this row depend on."""
        needed = self._grid.starts[row] - 1
        return next(
            n for n, top in enumerate(self._grid.starts) if top + self._grid.window > needed
        )

    def _first_row(self, row: int) -> int:
        """The first row of the model's grid that a row of windows needs to know of."""
        finer = self._grid.rows.model / self._grid.rows.scene
        return max(0, self._grid.starts[row] - 2 - int(3 * finer))

    def _strip(self, top: int, band: ColumnStrip, feed: Iterator[RowChunk]) -> Bytes:
        """Pixels of a row of windows, uint8 `[channels, S, columns]`; beyond the scene 0."""
        grid, side = self._grid, self._grid.window
        span = top, min(top + side, grid.rows.model)
        while self._pixels.end < span[1] or (
            not self._reader.all_wanted and self._mask.end < grid.rows.around(span)[1]
        ):
            slab = next(feed)
            self._pixels.append(slab.pixels)
            if slab.mask is not None:
                self._mask.append(slab.mask)
        strip: Bytes = self._pixels.rows(span)
        width = band.starts[-1] + side - band.model[0]
        missing = side - strip.shape[1], width - strip.shape[2]
        return np.pad(strip, ((0, 0), (0, missing[0]), (0, missing[1]))) if any(missing) else strip

    def _lefts(self, top: int, band: ColumnStrip) -> list[int]:
        """Where the windows start that any wanted pixel depends on."""
        if self._reader.all_wanted:
            return list(band.starts)
        grid = self._grid
        edge = grid.columns.around(band.model)[0]
        mask = self._mask.rows(grid.rows.around(grid.place(top, grid.rows.model)))
        columns = np.unpackbits(np.bitwise_or.reduce(mask, axis=0))
        found = []
        for left in band.starts:
            first, last = grid.columns.around(grid.place(left, grid.columns.model))
            if columns[first - edge : last - edge].any():
                found.append(left)
        return found

    def _predict(
        self, strip: Bytes, lefts: list[int], band: ColumnStrip
    ) -> Iterator[tuple[list[int], Any]]:
        """Predictions for windows in batches of about the same size."""
        if not lefts:
            return
        side, shift = self._grid.window, band.model[0]
        pixels = torch.from_numpy(strip).to(self._predictor.device)
        for some in np.array_split(lefts, -(-len(lefts) // self._batch_size)):
            batch = some.tolist()
            images = torch.stack([pixels[..., x - shift : x - shift + side] for x in batch])
            yield batch, self._predictor.predict(images)

    def _mask_in(self, rows: Span, band: ColumnStrip) -> PackedMask | None:
        if self._reader.all_wanted:
            return None
        edge = self._grid.columns.around(band.model)[0]
        columns = band.scene[0] - edge, band.scene[1] - edge
        return PackedMask(self._mask.rows(rows), columns)

    def _cells(
        self,
        row: int,
        band: ColumnStrip,
        predictions: Iterator[tuple[list[int], Tensor]],
        writer: Writer,
    ) -> None:
        """Hand over a row of cells as a row of the map."""
        grid, count = self._grid, len(band.starts)
        first = grid.cell_number(band.starts[0])
        probabilities = torch.zeros(len(self._predictor.classes), 1, count)
        mask = np.zeros((1, count), bool)
        for lefts, prediction in predictions:
            places = [grid.cell_number(left) - first for left in lefts]
            probabilities[:, 0, places] = prediction.float().cpu().T
            mask[0, places] = True
        finished = argmax_classes((row, row + 1), probabilities, self._probabilities)
        bits = PackedMask(np.packbits(mask, axis=-1), (0, count))
        writer.rows(finished, first, bits)

    def _objects(
        self,
        number: int,
        row: int,
        predictions: Iterator[tuple[list[int], list[Detections]]],
        writer: Writer,
    ) -> None:
        """Hand over what is found in a row of windows of a band."""
        assert self._filter
        grid, band = self._grid, self._grid.bands[number]
        top = grid.starts[row]
        here = None
        if not self._reader.all_wanted:
            seen = grid.rows.around((top, min(top + grid.window, grid.rows.model)))
            left = grid.columns.around(band.model)[0]
            here = WindowMask(self._mask.rows(seen), seen[0], left)
        earlier = sum(len(each.starts) for each in grid.bands[:number])
        found = []
        for lefts, detections in predictions:
            for left, some in zip(lefts, detections, strict=True):
                place = band.starts.index(left)
                kept = self._filter.keep(some.cpu(), row, earlier + place, here)
                if kept:
                    found.append((number * len(grid.starts) + row, place, kept))
        rows = grid.rows.to_scene((top, [*grid.starts, grid.rows.model][row + 1]))
        area = (rows[1] - rows[0]) * (band.scene[1] - band.scene[0])
        writer.objects(found, area, self._mask_in(rows, band))
