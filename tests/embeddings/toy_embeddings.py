"""Embeddings made of numbers, without a scene."""

from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from cgeartheye.embeddings.store import Embedding, Projection, attributes_of, write_embedding

NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_400_000)  # a patch is 10 m
UTM = CRS.from_epsg(32650)


def make(
    folder: Path,
    features: np.ndarray,
    valid: np.ndarray | None = None,
    dtype: str = "int8",
    transform: Affine = NORTH_UP,
    crs: CRS | None = UTM,
    weights: str = "a" * 64,
    date: str | None = None,
    seed: int = 0,
) -> Path:
    """Write features `[rows, columns, C]` in a basis turned at random; all of C is kept."""
    rows, columns, width = features.shape
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]
    mean = features.reshape(-1, width).mean(0)
    values = (features - mean) @ basis
    scale = np.abs(values).reshape(-1, width).max(0) / 127 if dtype == "int8" else np.ones(width)
    stored = (values / scale).round() if dtype == "int8" else values
    valid = np.ones((rows, columns), bool) if valid is None else valid
    projection = Projection(*(each.astype(np.float32) for each in (mean, basis, scale)))
    facts = {"date": date, "gsd": 0.7, "model": {"backbone": weights}}
    pixels = transform @ Affine.scale(1 / 14)
    folder.mkdir(parents=True)
    write_embedding(
        folder / "features.zarr",
        (rows, columns),
        dtype,
        [(slice(0, rows), stored.astype(dtype), valid)],
        projection,
        attributes_of(transform, crs, (rows, columns), pixels, (14 * rows, 14 * columns), **facts),
    )
    return folder


def lonlat(embedding: Embedding, row: int, column: int) -> tuple[float, float]:
    """Middle of a patch."""
    lon, lat = embedding.centers(np.array([row]), np.array([column]))
    return float(lon[0]), float(lat[0])
