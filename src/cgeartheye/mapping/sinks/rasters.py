"""The planes of a map of classes, of pixels or of cells."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cgeartheye.mapping.blending import NODATA, Finished
from cgeartheye.mapping.geotiff import RawRaster
from cgeartheye.mapping.job import MapJob
from cgeartheye.mapping.outputs.rasters import finish_rasters
from cgeartheye.mapping.sinks.base import Found, WantedPixels
from cgeartheye.mapping.thumbnail import Thumbnail
from cgeartheye.utils.errors import UserError


class RasterSink:
    """Common part of maps of pixels and of cells: class, confidence and probabilities.

    The confidence is kept for polygons and the preview, the probabilities of all classes if asked
    for.
    """

    def __init__(self, job: MapJob, thumbnail: Thumbnail):
        """Open the files of an unfinished map, or make them.

        Args:
            job: the map.
            thumbnail: of its scene.

        Raises:
            UserError: the disk has no room for them.
        """
        self._job, self._thumbnail = job, thumbnail
        options = job.options
        bands = {
            "classes": 1,
            "confidence": 1,
            "probabilities": len(job.classes) * options.probabilities,
        }
        self._planes = {
            name: RawRaster(job.work / f"{name}.raw", count, *job.grid.shape)
            for name, count in bands.items()
            if count
        }

    @property
    def planes(self) -> Sequence[RawRaster]:
        """See `Sink`."""
        return list(self._planes.values())

    def take_found(self) -> list[Found]:
        """See `Sink`: these maps have no objects."""
        return []

    def finish(self) -> dict[str, Any]:
        """See `Sink`."""
        return finish_rasters(self._job, self._planes, self._thumbnail)

    def close(self) -> None:
        """See `Sink`."""
        for plane in self._planes.values():
            plane.close()

    def write(self, finished: Finished, column: int, mask: WantedPixels | None) -> int:
        """Write rows of the map.

        Args:
            finished: the rows.
            column: of the map, their first.
            mask: which of the map's pixels; none: all.

        Returns:
            How many of them are to be mapped.

        Raises:
            UserError: the model has no finite prediction for one of them, or the disk is full.
        """
        classes = finished.classes.cpu().numpy()
        unknown = classes == NODATA
        pixels = classes.size
        if mask is not None:
            inside = mask.columns((column, column + classes.shape[1]))
            unknown &= inside
            classes = np.where(inside, classes, np.uint8(NODATA))
            pixels = int(inside.sum())
        if unknown.any():
            raise UserError(
                f"the model gives no finite probabilities in rows {finished.rows[0]}-"
                f"{finished.rows[1] - 1} of {self._job.scene.name}: map in single precision"
            )
        self._planes["classes"].write(finished.rows, column, classes[None])
        confidence = finished.confidence.cpu().numpy()
        self._planes["confidence"].write(finished.rows, column, confidence[None])
        if finished.probabilities is not None:
            percent = finished.probabilities.cpu().numpy()
            percent[:, classes == NODATA] = NODATA
            self._planes["probabilities"].write(finished.rows, column, percent)
        return pixels
