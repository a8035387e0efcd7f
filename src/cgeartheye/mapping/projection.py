"""Principal components of a scene's patches: what is kept of their features."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from cgeartheye.embeddings.store import Projection
from cgeartheye.geo.reader import Span
from cgeartheye.mapping.job import MapJob
from cgeartheye.mapping.predictor import Encoder
from cgeartheye.mapping.prefetch import Reader
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import replacing

SAMPLE = 4, 16
"""Windows, evenly spread over what is embedded, whose patches the components are found from: one
in twenty, within these bounds."""

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
        UserError: what was kept is damaged, no patch has data, or see `fit_projection`.
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
        features: float `[N, C]`, at least one.
        encoder: has the number of components that are kept, and their type.

    Raises:
        UserError: features that are not finite.
    """
    count = encoder.num_components
    x_NC = features.double().cpu()
    if not x_NC.isfinite().all():
        raise UserError("the backbone gives features that are not finite: its weights are damaged")
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
    windows = _windows(job, patch)
    count = int(np.clip(len(windows) // 20, *SAMPLE))
    reader = Reader(job.scene, grid, job.aoi, job.clock)
    found: list[Tensor] = []
    with torch.inference_mode():
        for number in _spread(len(windows), count):
            rows, columns = windows[number]
            spans = grid.rows.to_scene(rows), grid.columns.to_scene(columns)
            pixels, valid = reader.read(rows, columns, *spans)
            height, width = pixels.shape[1:]
            seen = pixels.any(0).reshape(height // patch, patch, width // patch, patch)
            known = torch.from_numpy(seen.mean((1, 3)).ravel() > _SEEN)
            if not known.any() or (valid is not None and not valid.any()):
                continue
            images = torch.zeros(1, *pixels.shape[:1], grid.window, grid.window, dtype=torch.uint8)
            images[0, :, :height, :width] = torch.from_numpy(pixels)
            maps = encoder.predict(images.to(encoder.device))[0]
            inside = maps[:, : height // patch, : width // patch].flatten(1).T
            found.append(inside.cpu()[known])
            if len(found) == count:
                break
    if not found:
        where = " within --aoi" if job.aoi else ""
        raise UserError(
            f"{job.scene.name} has no patch of {patch} pixels{where} with data in half of it, and "
            "black is none: name another scene or area"
        )
    return torch.cat(found)


def _windows(job: MapJob, patch: int) -> list[tuple[Span, Span]]:
    """Rows and columns of the windows that the area of interest touches, in whole patches."""
    grid = job.grid
    lefts = sorted({left for band in grid.bands for left in band.starts})
    down, across = (
        [(start, min(start + grid.window, axis.model) // patch * patch) for start in starts]
        for starts, axis in ((grid.starts, grid.rows), (lefts, grid.columns))
    )
    whole = [(r, c) for r in down for c in across if r[0] < r[1] and c[0] < c[1]]
    if job.aoi is None:
        return whole
    scene_rows, scene_columns = grid.rows.to_scene, grid.columns.to_scene
    return [(r, c) for r, c in whole if job.aoi.touches(scene_rows(r), scene_columns(c))]


def _spread(size: int, count: int) -> Iterator[int]:
    """Yield numbers below `size`: `count` that are evenly spread, then the others at random."""
    first = np.unique(np.linspace(0, size - 1, min(count, size)).round().astype(int))
    yield from first.tolist()
    others = np.setdiff1d(np.arange(size), first)
    yield from np.random.default_rng(0).permutation(others).tolist()
