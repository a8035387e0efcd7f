"""A class for every window as a whole, a cell of the map."""

import numpy as np
import torch

from cgeartheye.mapping.blending import argmax_classes
from cgeartheye.mapping.predictor import WindowPredictions
from cgeartheye.mapping.sinks.base import WantedPixels, WindowRow
from cgeartheye.mapping.sinks.rasters import RasterSink
from cgeartheye.mapping.sinks.writer import Writer


class CellSink(RasterSink):
    """A map whose pixels are windows side by side."""

    def begin(self, strip: int) -> None:
        """See `Sink`."""

    def add(self, row: WindowRow, predictions: WindowPredictions, writer: Writer | None) -> None:
        """See `Sink`: a row of cells is a row of the map."""
        if writer is None:
            return
        job = self._job
        starts = job.grid.bands[row.strip].starts
        count, first = len(starts), job.grid.cell_number(starts[0])
        probabilities = torch.zeros(len(job.classes), 1, count)
        predicted = np.zeros((1, count), bool)
        for lefts, prediction in predictions:
            places = [job.grid.cell_number(left) - first for left in lefts]
            probabilities[:, 0, places] = prediction.float().cpu().T
            predicted[0, places] = True
        rows = row.number, row.number + 1
        finished = argmax_classes(rows, probabilities, job.options.probabilities)
        # Windows without a wanted pixel are not predicted, and all others are wanted.
        mask = WantedPixels(np.packbits(predicted, axis=-1), row.number, first)
        writer.submit(self.write, finished, first, mask)
