"""Principal components of a scene's patches: what is kept of their features."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cgeartheye.mapping.job import MapJob
from cgeartheye.mapping.predictor import Encoder
from cgeartheye.mapping.prefetch import Reader
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import replacing

Reals = npt.NDArray[np.float32]

SAMPLE = 16
"""Windows, evenly spread over the scene, whose patches the components are found from."""

_SEEN = 0.5  # share of a patch that is not black, which is how pixels without data are seen
_OUTERMOST = 99.9  # percentile of a component in the sample that int8 still holds


@dataclass(frozen=True)
class Projection:
    """From features to what is stored of them, and back: `features = mean + basis (scale q)`.

    Attributes:
        mean: float32 `[C]`.
        basis: orthonormal columns, that of the largest variance first, float32 `[C, D]`.
        scale: of each component, float32 `[D]`.
    """

    mean: Reals
    basis: Reals
    scale: Reals

    def apply(self, features: Tensor) -> Tensor:
        """Map features `[B, C, h, w]` to float32 components `[B, D, h, w]`, not yet rounded."""
        mean, basis, scale = (
            torch.from_numpy(each).to(features.device)
            for each in (self.mean, self.basis, self.scale)
        )
        centered = features.float().movedim(1, -1) - mean
        return (centered @ basis / scale).movedim(-1, 1)

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        stream = io.BytesIO()
        np.savez(stream, mean=self.mean, basis=self.basis, scale=self.scale)
        with replacing(path) as unfinished:
            unfinished.write_bytes(stream.getvalue())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` has written.

        Raises:
            UserError: it is damaged.
        """
        try:
            with np.load(path) as arrays:
                return cls(arrays["mean"], arrays["basis"], arrays["scale"])
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path} is damaged: delete {path.parent} and embed again") from error


def projection_of(job: MapJob, encoder: Encoder) -> Projection:
    """Return the projection that a scene's embedding was begun with, or find it and keep it.

    Args:
        job: the embedding.
        encoder: the backbone.
    """
    path = job.work / "projection.npz"
    if not path.exists():
        fit_projection(_sample(job, encoder), encoder).save(path)
    return Projection.load(path)


def fit_projection(features: Tensor, encoder: Encoder) -> Projection:
    """Find the principal components of features.

    Args:
        features: float `[N, C]`.
        encoder: tells how many components are kept, and in which type.

    Raises:
        UserError: features that are not finite.
    """
    dim, count = encoder.embed_dim, encoder.num_components
    x_NC = features.double().cpu()
    if not x_NC.isfinite().all():
        raise UserError("the backbone gives features that are not finite: its weights are damaged")
    if not len(x_NC):
        x_NC = torch.zeros(1, dim, dtype=torch.float64)
    mean = x_NC.mean(0)
    _, vectors = torch.linalg.eigh((x_NC - mean).T @ (x_NC - mean))
    basis = vectors.flip(1)[:, :count]
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    basis = basis * largest.sign()  # an eigenvector's own sign is arbitrary
    scale = torch.ones(count, dtype=torch.float64)
    if encoder.dtype == "int8":
        outermost = np.percentile(((x_NC - mean) @ basis).abs().numpy(), _OUTERMOST, axis=0)
        scale = torch.from_numpy(np.maximum(outermost, 1e-6)) / 127
    return Projection(*(each.float().numpy().copy() for each in (mean, basis, scale)))


def _sample(job: MapJob, encoder: Encoder) -> Tensor:
    """Features of patches with data, `[N, C]`, from windows that are evenly spread."""
    grid, patch = job.grid, encoder.patch_size
    lefts = sorted({left for band in grid.bands for left in band.starts})
    places = [(top, left) for top in grid.starts for left in lefts]
    chosen = np.unique(np.linspace(0, len(places) - 1, SAMPLE).round().astype(int))
    reader = Reader(job.scene, grid, job.aoi, job.clock)
    found = []
    with torch.inference_mode():
        for number in chosen.tolist():
            rows, columns = (
                (start, min(start + grid.window, axis.model) // patch * patch)
                for start, axis in zip(places[number], (grid.rows, grid.columns), strict=True)
            )
            if rows[0] >= rows[1] or columns[0] >= columns[1]:
                continue
            spans = grid.rows.to_scene(rows), grid.columns.to_scene(columns)
            pixels, valid = reader.read(rows, columns, *spans)
            if valid is not None and not valid.any():
                continue
            images = torch.zeros(1, *pixels.shape[:1], grid.window, grid.window, dtype=torch.uint8)
            height, width = pixels.shape[1:]
            images[0, :, :height, :width] = torch.from_numpy(pixels)
            maps = encoder.predict(images.to(encoder.device))[0]
            inside = maps[:, : height // patch, : width // patch].flatten(1).T
            seen = pixels.any(0).reshape(height // patch, patch, width // patch, patch)
            found.append(inside.cpu()[torch.from_numpy(seen.mean((1, 3)).ravel() > _SEEN)])
    return torch.cat(found) if found else torch.zeros(0, encoder.embed_dim)
