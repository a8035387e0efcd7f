"""Vectors in place of classes: of patches, blended where windows overlap, or of whole windows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cgeartheye.geo.reader import Bools, Span
from cgeartheye.mapping.blending import Blender
from cgeartheye.mapping.geotiff import RawRaster
from cgeartheye.mapping.job import MapJob
from cgeartheye.mapping.outputs.embeddings import finish_cells, finish_patches
from cgeartheye.mapping.predictor import Encoder, WindowPredictions
from cgeartheye.mapping.projection import project, projection_of
from cgeartheye.mapping.sinks.base import Found, WantedPixels, WindowRow
from cgeartheye.mapping.sinks.writer import Writer
from cgeartheye.mapping.thumbnail import Thumbnail
from cgeartheye.utils.errors import UserError


class VectorSink:
    """Common part: a plane of vectors, each with its numbers side by side, and one of validity."""

    def __init__(self, job: MapJob, thumbnail: Thumbnail, dtype: str, width: int):
        """Open the files of an unfinished embedding, or make them.

        Args:
            job: the embedding.
            thumbnail: of its scene.
            dtype: numpy's name of the type of the numbers.
            width: numbers of a vector.

        Raises:
            UserError: the disk has no room for them.
        """
        self._job, self._thumbnail = job, thumbnail
        self._dtype = np.dtype(dtype)
        rows, columns = job.grid.shape
        self._bytes = width * self._dtype.itemsize
        self._vectors = RawRaster(job.work / "vectors.raw", 1, rows, columns * self._bytes)
        self._valid = RawRaster(job.work / "valid.raw", 1, rows, columns)

    @property
    def planes(self) -> Sequence[RawRaster]:
        """See `Sink`."""
        return [self._vectors, self._valid]

    def take_found(self) -> list[Found]:
        """See `Sink`: there are no objects."""
        return []

    def close(self) -> None:
        """See `Sink`."""
        for plane in self.planes:
            plane.close()

    def write(self, rows: Span, column: int, vectors: Tensor, valid: Bools) -> int:
        """Write rows of vectors.

        Args:
            rows: of the embedding.
            column: of the embedding, the first.
            vectors: `[D, rows, columns]`.
            valid: which of them have data, bool `[rows, columns]`.

        Returns:
            How many have.

        Raises:
            UserError: one of them is not finite, or the disk is full.
        """
        values = vectors.float().cpu().movedim(0, -1).numpy()
        values = np.where(valid[..., None], values, np.float32(0))
        if not np.isfinite(values).all():
            raise UserError(
                f"the backbone gives features that are not finite in rows {rows[0]}-{rows[1] - 1} "
                f"of {self._job.scene.name}: its weights are damaged"
            )
        if self._dtype == np.int8:
            values = values.round().clip(-127, 127)
        packed = np.ascontiguousarray(values.astype(self._dtype)).view(np.uint8)
        self._vectors.write(rows, column * self._bytes, packed.reshape(1, rows[1] - rows[0], -1))
        self._valid.write(rows, column, valid[None].astype(np.uint8))
        return int(valid.sum())


class PatchSink(VectorSink):
    """Vectors of patches: principal components, which blend as features do."""

    def __init__(self, job: MapJob, thumbnail: Thumbnail, encoder: Encoder):
        """Open the files; the projection is found first if the scene is new."""
        super().__init__(job, thumbnail, encoder.dtype, encoder.num_components)
        self._projection = projection_of(job, encoder)
        self._device = encoder.device

    def begin(self, strip: int) -> None:
        """See `Sink`."""
        grid = self._job.grid
        assert grid.patches is not None
        self._patches, self._columns = grid.patches, grid.patches.bands[strip]
        width = self._projection.basis.shape[1]
        self._blender = Blender(self._patches, self._columns, width, self._device, False)

    def add(self, row: WindowRow, predictions: WindowPredictions, writer: Writer | None) -> None:
        """See `Sink`."""
        grid, patches = self._job.grid, self._patches
        top, end = [*patches.starts, patches.rows.model][row.number :][:2]
        self._blender.begin(top)
        for lefts, features in predictions:
            self._blender.add(project(features, self._projection), [x // grid.patch for x in lefts])
        if writer is None:
            return
        first, last = self._columns.scene
        for rows, vectors in self._blender.blended(top, end):
            edges = [
                grid.rows.to_scene((0, self._pixel(y)))[1] for y in range(rows[0], rows[1] + 1)
            ]
            valid = self._valid_patches(row.mask((edges[0], edges[-1])), edges)
            if vectors is None:
                shape = rows[1] - rows[0], last - first
                vectors = torch.zeros(1, *shape).expand(self._projection.basis.shape[1], *shape)
            writer.submit(self.write, rows, first, vectors, valid)

    def finish(self) -> dict[str, Any]:
        """See `Sink`."""
        return finish_patches(
            self._job, self._vectors, self._valid, self._dtype, self._projection, self._thumbnail
        )

    def _pixel(self, row: int) -> int:
        return min(row * self._job.grid.patch, self._job.grid.rows.model)

    def _valid_patches(self, mask: WantedPixels | None, edges: list[int]) -> Bools:
        """Which patches have a pixel that is wanted, of those that begin at rows of the scene."""
        grid, (first, last) = self._job.grid, self._columns.scene
        if mask is None:
            return np.ones((len(edges) - 1, last - first), bool)
        axis = grid.columns
        across = [
            axis.to_scene((0, min(x * grid.patch, axis.model)))[1] for x in range(first, last + 1)
        ]
        pixels = mask.columns((across[0], across[-1]))
        down = np.subtract(edges[:-1], edges[0])
        rows = np.logical_or.reduceat(pixels, np.minimum(down, len(pixels) - 1), axis=0)
        left = np.minimum(np.subtract(across[:-1], across[0]), pixels.shape[1] - 1)
        return np.logical_or.reduceat(rows, left, axis=1)


class CellVectorSink(VectorSink):
    """The class token of every window, of windows side by side."""

    def __init__(self, job: MapJob, thumbnail: Thumbnail, encoder: Encoder):
        """Open the files."""
        super().__init__(job, thumbnail, "float32", encoder.embed_dim)
        self._width = encoder.embed_dim

    def begin(self, strip: int) -> None:
        """See `Sink`."""

    def add(self, row: WindowRow, predictions: WindowPredictions, writer: Writer | None) -> None:
        """See `Sink`: a row of windows is a row of the embedding."""
        if writer is None:
            return
        grid = self._job.grid
        starts = grid.bands[row.strip].starts
        first = grid.cell_number(starts[0])
        vectors = torch.zeros(self._width, 1, len(starts))
        valid = np.zeros((1, len(starts)), bool)
        for lefts, tokens in predictions:
            places = [grid.cell_number(left) - first for left in lefts]
            vectors[:, 0, places] = tokens.float().cpu().T
            valid[0, places] = True
        writer.submit(self.write, (row.number, row.number + 1), first, vectors, valid)

    def finish(self) -> dict[str, Any]:
        """See `Sink`."""
        return finish_cells(self._job, self._vectors, self._valid, self._thumbnail)
