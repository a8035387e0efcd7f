"""Principal components of a scene's patches: what is kept of their features."""

import numpy as np
import torch
from torch import Tensor

from cgeartheye.embeddings.store import Projection
from cgeartheye.mapping.job import MapJob
from cgeartheye.mapping.predictor import Encoder
from cgeartheye.mapping.prefetch import Reader
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import replacing

SAMPLE = 4, 16
"""Windows, evenly spread over the scene, whose patches the components are found from: one in
twenty, within these bounds."""

_SEEN = 0.5  # share of a patch that is not black, which is how pixels without data are seen
_OUTERMOST = 99.9  # percentile of a component in the sample that int8 still holds


def project(features: Tensor, how: Projection) -> Tensor:
    """Map features `[B, C, h, w]` to float32 components `[B, D, h, w]`, not yet rounded."""
    mean, basis, scale = (
        torch.from_numpy(each).to(features.device) for each in (how.mean, how.basis, how.scale)
    )
    centered = features.float().movedim(1, -1) - mean
    return (centered @ basis / scale).movedim(-1, 1)


def projection_of(job: MapJob, encoder: Encoder) -> Projection:
    """Return the projection that a scene's embedding was begun with, or find it and keep it.

    Args:
        job: the embedding.
        encoder: the backbone.

    Raises:
        UserError: what was kept is damaged, or see `fit_projection`.
    """
    path = job.work / "projection.npz"
    if not path.exists():
        found = fit_projection(_sample(job, encoder), encoder)
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, mean=found.mean, basis=found.basis, scale=found.scale)
    try:
        with np.load(path) as held:
            return Projection(held["mean"], held["basis"], held["scale"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged: delete {job.out} and embed again") from error


def fit_projection(features: Tensor, encoder: Encoder) -> Projection:
    """Find the principal components of features.

    Args:
        features: float `[N, C]`.
        encoder: has the number of components that are kept, and their type.

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
    count = int(np.clip(len(places) // 20, *SAMPLE))
    chosen = np.unique(np.linspace(0, len(places) - 1, count).round().astype(int))
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
