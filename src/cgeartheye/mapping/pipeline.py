"""The rows of windows of a scene, one after the other: pixels in, finished rows of the map out."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from cgeartheye.geo.reader import Bytes, Span
from cgeartheye.inference.windows import ColumnStrip
from cgeartheye.mapping.job import MapJob
from cgeartheye.mapping.predictor import AnyModel, WindowPredictions
from cgeartheye.mapping.prefetch import SLAB, Reader, RowBuffer, RowChunk, cut, slabs
from cgeartheye.mapping.sinks.base import Sink, WantedPixels, WindowRow
from cgeartheye.mapping.sinks.writer import Writer
from cgeartheye.mapping.thumbnail import Thumbnail
from cgeartheye.utils.console import bar


class Mapper:
    """Maps the rows of windows of a scene that are not finished."""

    def __init__(
        self,
        job: MapJob,
        predictor: AnyModel,
        sink: Sink,
        thumbnail: Thumbnail,
    ):
        """Bring together what is needed.

        Args:
            job: the map.
            predictor: the model.
            sink: takes the predictions.
            thumbnail: takes the pixels.
        """
        self._job, self._grid, self._predictor = job, job.grid, predictor
        self._reader = Reader(job.scene, job.grid, job.aoi, job.clock)
        self._sink, self._thumbnail = sink, thumbnail
        self._pixels, self._mask = RowBuffer(), RowBuffer()

    def run(
        self, done: int, pool: ThreadPoolExecutor, writer: Writer, end: int | None = None
    ) -> None:
        """Map all rows of windows that are not finished.

        Args:
            done: rows of windows that are finished, in the order of mapping.
            pool: threads that read.
            writer: thread that writes.
            end: row to stop before; none: all are mapped.

        Raises:
            UserError: a piece cannot be read or written, or a prediction is not finite.
        """
        grid, count = self._grid, len(self._grid.starts)
        end = count * len(grid.bands) if end is None else end
        if done == end:
            return
        finished, row = divmod(done, count)
        last, last_row = divmod(end - 1, count)
        bands = grid.bands[finished : last + 1]
        # Windows that overlap with those to be written are predicted again.
        begins = [self._first_to_repeat(row), *[0] * (len(bands) - 1)]
        # Of the last strip nothing is read that is far below its last row.
        below = min(grid.rows.model, grid.starts[last_row] + 2 * grid.window)
        ends = [*[grid.rows.model] * (len(bands) - 1), below]
        plan = [
            (band, span)
            for band, begin, bottom in zip(bands, begins, ends, strict=True)
            for span in cut((self._first_row(begin), bottom), SLAB)
        ]
        feed = slabs(self._reader, plan, pool)
        before, total = self._windows(done), self._windows(end)
        area = self._job.pixel_area / 1e6
        with bar("mapping", total, "windows", before) as progress:
            start, mapped = time.monotonic(), 0

            def report_progress(windows: int, pixels: int) -> None:
                nonlocal mapped
                mapped += pixels
                rate = mapped * area / max(time.monotonic() - start, 1e-9)
                progress.advance(windows, f"{rate:,.3g} km2/s")

            for number, begin in enumerate(begins, finished):
                band = grid.bands[number]
                rows = done - number * count, end - number * count
                for row in self._band(number, begin, rows, feed, writer):
                    writer.end_row(number * count + row, len(band.starts), report_progress)

    def _windows(self, rows: int) -> int:
        """Return the number of windows in the first rows of windows."""
        count = len(self._grid.starts)
        strips, row = divmod(rows, count)
        across = [len(strip.starts) for strip in self._grid.bands]
        return count * sum(across[:strips]) + (row * across[strips] if row else 0)

    def _band(
        self, number: int, begin: int, rows: Span, feed: Iterator[RowChunk], writer: Writer
    ) -> Iterator[int]:
        """Map a band of columns from a row of windows on; yields those that are handed over.

        `rows` are those to be written: the first, and the one after the last.
        """
        grid, starts = self._grid, self._grid.starts
        band = grid.bands[number]
        self._sink.begin(number)
        first = self._first_row(begin)
        self._pixels.restart(first)
        self._mask.restart(grid.rows.to_scene((0, first))[1])
        left = grid.columns.around(band.model)[0]
        for row in range(begin, min(rows[1], len(starts))):
            top, end = starts[row], [*starts, grid.rows.model][row + 1]
            strip = self._strip(top, band, feed)
            predictions = self._predict(strip, self._lefts(top, band), band)
            mask = partial(self._mask_in, left)
            to = writer if row >= rows[0] else None
            with self._job.clock.measure("blending"):
                self._sink.add(WindowRow(number, row, mask), predictions, to)
            if to:
                columns = grid.columns.to_model(band.scene)
                to.submit(self._thumbnail.write, strip, (top, end), columns, band.model[0])
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
        """Return the starts of the windows that any wanted pixel depends on."""
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

    def _predict(self, strip: Bytes, lefts: list[int], band: ColumnStrip) -> WindowPredictions:
        """Predictions for windows in batches of about the same size."""
        if not lefts:
            return
        side, shift = self._grid.window, band.model[0]
        pixels = torch.from_numpy(strip).to(self._predictor.device)
        for some in np.array_split(lefts, -(-len(lefts) // self._job.options.batch_size)):
            batch = some.tolist()
            images = torch.stack([pixels[..., x - shift : x - shift + side] for x in batch])
            with self._job.clock.measure("inference"):
                predictions = self._predictor.predict(images)
            yield batch, predictions

    def _mask_in(self, left: int, rows: Span) -> WantedPixels | None:
        """Which pixels of some rows of the scene are to be mapped, in columns from `left` on."""
        if self._reader.all_wanted:
            return None
        return WantedPixels(self._mask.rows(rows), rows[0], left)
