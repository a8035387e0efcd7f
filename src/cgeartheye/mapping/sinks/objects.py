"""Objects: what a row of windows leaves are its detections in the ledger."""

from collections.abc import Sequence
from typing import Any

from cgeartheye.mapping.geotiff import RawRaster
from cgeartheye.mapping.job import MapJob
from cgeartheye.mapping.ledger import Ledger
from cgeartheye.mapping.outputs.objects import finish_objects
from cgeartheye.mapping.predictor import Detector, WindowPredictions
from cgeartheye.mapping.sinks.base import Found, WantedPixels, WindowRow
from cgeartheye.mapping.sinks.detection_filter import DetectionFilter, tiling_of
from cgeartheye.mapping.sinks.writer import Writer
from cgeartheye.mapping.thumbnail import Thumbnail


class ObjectSink:
    """A map of objects; they go into the ledger together with the note that their row is done."""

    def __init__(self, job: MapJob, thumbnail: Thumbnail, ledger: Ledger, detector: Detector):
        """Bring together what is needed; there are no files of its own."""
        self._job, self._thumbnail, self._ledger = job, thumbnail, ledger
        self._oriented = detector.oriented
        self._filter = DetectionFilter(
            job.grid,
            tiling_of(job.grid),
            job.settings["score_threshold"],
            detector.oriented,
            len(job.classes),
            job.scene.name,
        )
        self._found: list[Found] = []

    @property
    def planes(self) -> Sequence[RawRaster]:
        """See `Sink`."""
        return []

    def begin(self, strip: int) -> None:
        """See `Sink`."""

    def add(self, row: WindowRow, predictions: WindowPredictions, writer: Writer | None) -> None:
        """See `Sink`."""
        if writer is None:
            return
        grid, columns = self._job.grid, self._job.grid.bands[row.strip]
        top, end = [*grid.starts, grid.rows.model][row.number :][:2]
        seen = row.mask(grid.rows.around((top, min(top + grid.window, grid.rows.model))))
        first = sum(len(strip.starts) for strip in grid.bands[: row.strip])
        number = row.strip * len(grid.starts) + row.number
        preds = []
        for lefts, detections in predictions:
            for left, some in zip(lefts, detections, strict=True):
                place = columns.starts.index(left)
                kept = self._filter.keep(some.cpu(), row.number, first + place, seen)
                if kept:
                    preds.append((number, place, kept))
        rows = grid.rows.to_scene((top, end))
        area = (rows[1] - rows[0]) * (columns.scene[1] - columns.scene[0])
        writer.submit(self._keep, preds, area, row.mask(rows), columns.scene)

    def _keep(
        self, preds: list[Found], area: int, mask: WantedPixels | None, columns: tuple[int, int]
    ) -> int:
        """Keep objects until the row is noted; returns its pixels that are to be mapped."""
        self._found += preds
        return area if mask is None else int(mask.columns(columns).sum())

    def take_found(self) -> list[Found]:
        """See `Sink`."""
        preds, self._found = self._found, []
        return preds

    def finish(self) -> dict[str, Any]:
        """See `Sink`."""
        return finish_objects(self._job, self._ledger, self._oriented, self._thumbnail)

    def close(self) -> None:
        """See `Sink`."""
