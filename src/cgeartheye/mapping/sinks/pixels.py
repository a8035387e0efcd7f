"""A class for every pixel of the scene: overlapping windows are blended."""

from cgeartheye.mapping.blending import Blender
from cgeartheye.mapping.job import MapJob
from cgeartheye.mapping.predictor import Predictor, WindowPredictions
from cgeartheye.mapping.sinks.base import WindowRow
from cgeartheye.mapping.sinks.rasters import RasterSink
from cgeartheye.mapping.sinks.writer import Writer
from cgeartheye.mapping.thumbnail import Thumbnail


class PixelSink(RasterSink):
    """A map whose pixels are the scene's."""

    def __init__(self, job: MapJob, thumbnail: Thumbnail, predictor: Predictor):
        """Open the files; the predictor gives probabilities of every pixel of a window."""
        super().__init__(job, thumbnail)
        self._device = predictor.device

    def begin(self, strip: int) -> None:
        """See `Sink`."""
        job = self._job
        columns = job.grid.bands[strip]
        count, all_classes = len(job.classes), job.options.probabilities
        self._columns = columns
        self._blender = Blender(job.grid, columns, count, self._device, all_classes)

    def add(self, row: WindowRow, predictions: WindowPredictions, writer: Writer | None) -> None:
        """See `Sink`."""
        grid = self._job.grid
        top, end = [*grid.starts, grid.rows.model][row.number :][:2]
        self._blender.begin(top)
        for lefts, prediction in predictions:
            self._blender.add(prediction, lefts)
        if writer is None:
            return
        for finished in self._blender.finish(grid.rows.complete(top), grid.rows.complete(end)):
            mask = row.mask(finished.rows)
            writer.submit(self.write, finished, self._columns.scene[0], mask)
