"""The zarr group of a scene's embedding: vectors of patches, and how they become features again."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.crs import CRS

from cgeartheye.geo.crs import WGS84, transformer
from cgeartheye.utils.errors import UserError

Reals = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

FEATURES = "features.zarr"
CHUNK = 256
"""Rows and columns of patches of a chunk."""


@dataclass(frozen=True)
class Projection:
    """From features to what is stored of them, and back: `features = mean + basis (scale q)`.

    Attributes:
        mean: float32 `[C]`.
        basis: orthonormal columns, that of the largest variance first, float32 `[C, D]`.
        scale: of each component, float32 `[D]`.
    """

    mean: npt.NDArray[np.float32]
    basis: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Embedding:
    """A scene's vectors, in memory.

    Attributes:
        folder: of its files.
        vectors: as they are stored, int8 or float16 `[rows, columns, D]`.
        valid: which patches have data, `[rows, columns]`.
        projection: from features to vectors.
        transform: from patches to the map.
        crs: none if the scene is not georeferenced.
        scene_shape: rows and columns of the scene's pixels.
        scene_transform: from those to the map.
        weights: fingerprint of the backbone's.
        date: ISO 8601, if known.
        gsd: m/px that the backbone saw.
    """

    folder: Path
    vectors: npt.NDArray[Any]
    valid: Bools
    projection: Projection
    transform: Affine
    crs: CRS | None
    scene_shape: tuple[int, int]
    scene_transform: Affine
    weights: str
    date: str | None
    gsd: float

    @property
    def name(self) -> str:
        """Name of the scene."""
        return self.folder.resolve().name

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.valid.shape[0], self.valid.shape[1]

    def components(self, rows: Ints, columns: Ints) -> Reals:
        """Return the principal components of patches, float32 `[n, D]`."""
        return self.vectors[rows, columns].astype(np.float32) * self.projection.scale

    def features(self, rows: Ints, columns: Ints) -> Reals:
        """Return the features of patches as far as they are kept, float32 `[n, C]`."""
        how = self.projection
        return self.components(rows, columns) @ how.basis.T + how.mean

    @property
    def cell(self) -> tuple[float, float]:
        """Rows and columns of the scene that a patch has."""
        size: Any = ~self.scene_transform @ self.transform
        return size.e, size.a

    def find(self, places: Sequence[tuple[float, float]] | Reals) -> tuple[Ints, Ints, Bools]:
        """Return the patches that contain places.

        Args:
            places: longitude and latitude `[n, 2]`; of a scene without CRS column and row of its
                pixels.

        Returns:
            Rows, columns, and which places have a patch with data.
        """
        x, y = np.asarray(places, float).reshape(-1, 2).T
        if self.crs is not None:
            x, y = transformer(WGS84, self.crs).transform(x, y)
        to_patches: Any = ~self.transform
        columns, rows = (np.floor(each) for each in to_patches @ (x, y))
        inside = (rows >= 0) & (columns >= 0)
        inside &= (rows < self.shape[0]) & (columns < self.shape[1])
        at = tuple(np.where(inside, each, 0).astype(np.int64) for each in (rows, columns))
        return *at, inside & self.valid[at]

    def centers(self, rows: Reals | Ints, columns: Reals | Ints) -> tuple[Reals, Reals]:
        """Return longitudes and latitudes of patches' middles; without a CRS pixels.

        Args:
            rows: of the embedding; -0.5 is its upper edge.
            columns: of the patches.
        """
        to_map: Any = self.transform
        x, y = to_map @ (columns + 0.5, rows + 0.5)
        if self.crs is not None:
            x, y = transformer(self.crs, WGS84).transform(x, y)
        return np.asarray(x, float), np.asarray(y, float)


def write_embedding(
    path: Path,
    shape: tuple[int, int],
    dtype: str,
    chunks: Iterable[tuple[slice, npt.NDArray[Any], Bools]],
    projection: Projection,
    attributes: Mapping[str, Any],
) -> None:
    """Write the group; the same values give the same bytes.

    Args:
        path: of the folder, which is not there.
        shape: rows and columns of patches.
        dtype: of the vectors.
        chunks: rows, their vectors `[rows, columns, D]`, and which of them have data; `CHUNK` rows
            at a time.
        projection: that made the vectors.
        attributes: of the group, see `open_embedding`.

    Raises:
        OSError: it cannot be written.
    """
    import zarr

    group = zarr.create_group(path, attributes=dict(attributes))
    width, names = len(projection.scale), ("y", "x", "component")
    chunk = min(CHUNK, shape[0]), min(CHUNK, shape[1])
    vectors = group.create_array(
        "vectors",
        shape=(*shape, width),
        chunks=(*chunk, width),
        dtype=dtype,
        dimension_names=names,
    )
    valid = group.create_array(
        "valid", shape=shape, chunks=chunk, dtype="bool", dimension_names=names[:2]
    )
    for rows, some, known in chunks:
        vectors[rows], valid[rows] = some, known
    for name in ("mean", "basis", "scale"):
        group.create_array(name, data=getattr(projection, name))


def attributes_of(
    transform: Affine,
    crs: CRS | None,
    shape: tuple[int, int],
    scene_transform: Affine,
    scene_shape: tuple[int, int],
    **own: Any,
) -> dict[str, Any]:
    """Return attributes of a group, by the conventions `proj:` and `spatial:` of GeoZarr.

    Args:
        transform: from patches to the map.
        crs: of the map.
        shape: rows and columns of patches.
        scene_transform: from the scene's pixels to the map.
        scene_shape: rows and columns of those.
        own: others: `date`, `gsd`, `model`.
    """
    code = crs.to_epsg() if crs else None
    place = {"proj:code": f"EPSG:{code}"} if code else {"proj:wkt2": crs.to_wkt()} if crs else {}
    return {
        **place,
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": list(transform[:6]),
        "spatial:shape": list(shape),
        "scene:transform": list(scene_transform[:6]),
        "scene:shape": list(scene_shape),
        "decode": "features = mean + basis @ (scale * vectors)",
        **own,
    }


def open_embedding(folder: Path) -> Embedding:
    """Read the embedding of a scene.

    Args:
        folder: that `cgeartheye embed` has written for the scene.

    Raises:
        UserError: there is none, or it is damaged.
    """
    try:
        import zarr
    except ImportError as error:
        raise UserError(
            "embeddings of patches are kept with zarr: pip install 'cgeartheye[search]'"
        ) from error
    path = folder / FEATURES
    if not path.is_dir():
        raise UserError(
            f"{folder} holds no embedding of patches: make one with cgeartheye embed SCENE --out"
        )
    try:
        group = zarr.open_group(path, mode="r")
        facts: dict[str, Any] = dict(group.attrs)
        code = facts.get("proj:code") or facts.get("proj:wkt2")
        held = {
            name: np.asarray(group[name]) for name in ("vectors", "valid", "mean", "basis", "scale")
        }
        embedding = Embedding(
            folder,
            held["vectors"],
            held["valid"],
            Projection(held["mean"], held["basis"], held["scale"]),
            Affine(*facts["spatial:transform"]),
            CRS.from_user_input(code) if code else None,
            (int(facts["scene:shape"][0]), int(facts["scene:shape"][1])),
            Affine(*facts["scene:transform"]),
            facts["model"]["backbone"],
            facts["date"],
            facts["gsd"],
        )
        _check(embedding)
        return embedding
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} is damaged ({reason}): delete {folder} and embed the scene again"
        ) from error


def _check(embedding: Embedding) -> None:
    """Raise ValueError where parts do not fit each other."""
    how, vectors = embedding.projection, embedding.vectors
    channels, kept = how.basis.shape
    if vectors.shape != (*embedding.valid.shape, kept) or how.scale.shape != (kept,):
        raise ValueError("the shapes of its arrays do not fit")
    if how.mean.shape != (channels,):
        raise ValueError("its mean does not fit its basis")
    for transform in (embedding.transform, embedding.scene_transform):
        if not (math.isfinite(transform.determinant) and transform.determinant):
            raise ValueError("its transform has no inverse")
    if min(embedding.scene_shape) < 1:
        raise ValueError("its scene has no pixels")
    texts = isinstance(embedding.weights, str) and isinstance(embedding.date, str | None)
    if not texts or not isinstance(embedding.gsd, int | float) or embedding.gsd <= 0:
        raise ValueError("its attributes have other types")


def open_embeddings(folder: Path) -> list[Embedding]:
    """Read the embedding of a folder, or those of the folders in it, by name.

    Args:
        folder: of one scene, or of many.

    Raises:
        UserError: there is none, or they are of different weights or of scenes with and without a
            CRS.
    """
    if (folder / FEATURES).is_dir():
        return [open_embedding(folder)]
    found = sorted(path.parent for path in folder.glob(f"*/{FEATURES}"))
    if not found:
        open_embedding(folder)
    embeddings = [open_embedding(path) for path in found]
    check_same_weights(embeddings)
    if len({each.crs is None for each in embeddings}) > 1:
        raise UserError(
            f"{folder} holds scenes with and without a CRS: keep them in folders of their own"
        )
    return embeddings


def check_same_weights(embeddings: Sequence[Embedding]) -> None:
    """Refuse embeddings that cannot be compared.

    Raises:
        UserError: two are of different weights.
    """
    first = embeddings[0]
    for other in embeddings[1:]:
        if other.weights != first.weights:
            raise UserError(
                f"{first.folder} and {other.folder} were embedded with different weights "
                f"({first.weights[:8]} and {other.weights[:8]}), so their vectors cannot be "
                "compared: embed both with the same backbone"
            )
