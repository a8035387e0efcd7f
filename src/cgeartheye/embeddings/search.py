"""More like this: places whose patches resemble some, and do not resemble others."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import numpy.typing as npt
import shapely

from cgeartheye.embeddings.store import Embedding, Reals, open_embeddings
from cgeartheye.geo.crs import WGS84
from cgeartheye.utils.errors import UserError

NEGATIVE = 0.5
"""Weight of what is not looked for (Rocchio 1971; Manning et al. 2008, section 9.1)."""

REACH = 1
"""Patches on each side that belong to a place, besides its own."""

_CHUNK = 4096  # vectors that a core unpacks at a time: they stay in its cache
_CANDIDATES = 50  # times the wanted places that are sorted at first

Places = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class VectorIndex:
    """Vectors of one basis in memory, for exact search by cosine around a center.

    Attributes:
        vectors: int8 or float16 `[N, D]`.
        scale: of their numbers, `[D]`.
        basis: orthonormal columns, `[C, D]`.
        offset: of the vectors' origin from the center, `[C]`.
        norms: distances of the vectors from the center, `[N]`.
    """

    vectors: npt.NDArray[np.generic]
    scale: Reals
    basis: Reals
    offset: Reals
    norms: Reals

    @classmethod
    def build(
        cls, vectors: npt.NDArray[np.generic], scale: Reals, basis: Reals, offset: Reals
    ) -> "VectorIndex":
        """Measure vectors once.

        Args:
            vectors: `[N, D]`.
            scale: `[D]`.
            basis: `[C, D]`, orthonormal columns.
            offset: of the mean from the center, `[C]`.
        """
        twice, rest = 2 * (offset @ basis), float(offset @ offset)

        def measure(some: Reals) -> Reals:
            some = some * scale
            squares = np.einsum("nd,nd->n", some, some + twice.astype(np.float32)) + rest
            return np.asarray(np.sqrt(np.maximum(squares, 1e-12)))

        norms = _in_chunks(vectors, measure)
        return cls(vectors, scale, basis, offset, norms)

    def cosines(self, query: Reals) -> Reals:
        """Return the cosine of every vector with a query `[C]` of length 1, float32 `[N]`."""
        weights = ((query @ self.basis) * self.scale).astype(np.float32)
        rest = np.float32(query @ self.offset)

        # Not a product of BLAS, whose own threads would fight with those of the chunks.
        def measure(some: Reals) -> Reals:
            return np.asarray(np.einsum("nd,d->n", some, weights))

        found: Reals = (_in_chunks(self.vectors, measure) + rest) / self.norms
        return found


def _in_chunks(vectors: npt.NDArray[np.generic], measure: Callable[[Reals], Reals]) -> Reals:
    """Return what `measure` gives for float32 vectors, which it gets a few at a time."""
    found = np.empty(len(vectors), np.float32)

    def work(start: int) -> None:
        some = vectors[start : start + _CHUNK].astype(np.float32)
        found[start : start + len(some)] = measure(some)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(work, range(0, len(vectors), _CHUNK)))
    return found


class SceneIndex:
    """Patches of scenes, ready to be searched."""

    def __init__(self, embeddings: Sequence[Embedding], names: Sequence[str] | None = None):
        """Measure all vectors around the center of the scenes.

        Args:
            embeddings: of the same weights.
            names: of the scenes; none: those of their folders.
        """
        self.embeddings = list(embeddings)
        self._names = list(names) if names else [each.name for each in embeddings]
        self._center = np.mean([each.projection.mean for each in embeddings], axis=0)
        self._parts = [
            VectorIndex.build(
                each.vectors.reshape(-1, each.vectors.shape[-1]),
                each.projection.scale,
                each.projection.basis,
                each.projection.mean - self._center,
            )
            for each in embeddings
        ]

    def search(self, at: Places, unlike: Places = (), top: int = 20) -> geopandas.GeoDataFrame:
        """Find places like some; those that are named are left out.

        None overlaps another of its scene.

        Args:
            at: longitude and latitude of places that are looked for; of scenes without CRS column
                and row of their pixels.
            unlike: places that are not.
            top: places that are wanted at most.

        Returns:
            The best first: rank, score (cosine, less that of `unlike`), scene, date, lon, lat, and
            the square of a place, in WGS 84.

        Raises:
            UserError: none or one of the places has no patch with data in any scene.
        """
        if not at:
            raise UserError("name a place to look for with --at LON,LAT")
        taken = [~each.valid for each in self.embeddings]
        query = self._mean(at, taken)
        if unlike:
            query = query - NEGATIVE * self._mean(unlike, taken)
        query = query / max(float(np.linalg.norm(query)), 1e-12)
        scores = np.concatenate([part.cosines(query) for part in self._parts])
        scores[np.concatenate([each.ravel() for each in taken])] = -np.inf
        return self._frame(self._best(scores, taken, top), scores)

    def _mean(self, places: Places, taken: list[npt.NDArray[np.bool_]]) -> Reals:
        """Mean direction of places' features around the center; their surroundings are taken."""
        found: list[Reals] = []
        missing = np.ones(len(places), bool)
        for each, blocked in zip(self.embeddings, taken, strict=True):
            rows, columns, inside = each.find(places)
            missing &= ~inside
            found.append(each.features(rows[inside], columns[inside]) - self._center)
            for row, column in zip(rows[inside], columns[inside], strict=True):
                _block(blocked, row, column)
        if missing.any():
            x, y = places[int(np.flatnonzero(missing)[0])]
            raise UserError(
                f"the place {x:g},{y:g} is in none of the scenes, or where they have no data: "
                "name one inside, as LON,LAT"
            )
        x_NC = np.concatenate(found)
        lengths = np.maximum(np.linalg.norm(x_NC, axis=1, keepdims=True), 1e-12)
        return np.asarray((x_NC / lengths).mean(0))

    def _best(
        self, scores: Reals, taken: list[npt.NDArray[np.bool_]], top: int
    ) -> list[tuple[int, int, int, int]]:
        """Scene, row, column and number of the best patches that do not overlap."""
        ends = np.cumsum([each.valid.size for each in self.embeddings])
        found: list[tuple[int, int, int, int]] = []
        for number in _descending(scores, _CANDIDATES * top):
            if len(found) == top or scores[number] == -np.inf:
                break
            scene = int(np.searchsorted(ends, number, side="right"))
            columns = self.embeddings[scene].shape[1]
            own = number - (int(ends[scene - 1]) if scene else 0)
            row, column = divmod(own, columns)
            if not taken[scene][row, column]:
                found.append((scene, row, column, number))
                _block(taken[scene], row, column)
        return found

    def _frame(
        self, best: list[tuple[int, int, int, int]], scores: Reals
    ) -> geopandas.GeoDataFrame:
        squares, rows = [], []
        sides = np.array([-REACH - 0.5, REACH + 0.5])
        for rank, (scene, row, column, number) in enumerate(best, 1):
            each = self.embeddings[scene]
            lon, lat = each.centers(np.array([row]), np.array([column]))
            x, y = each.centers(row + sides[[0, 1, 1, 0]], column + sides[[0, 0, 1, 1]])
            squares.append(shapely.Polygon(np.stack([x, y], axis=1)))
            score = round(float(scores[number]), 4)
            rows.append((rank, score, self._names[scene], each.date, float(lon[0]), float(lat[0])))
        names = ("rank", "score", "scene", "date", "lon", "lat")
        columns = {n: [r[i] for r in rows] for i, n in enumerate(names)}
        crs = None if self.embeddings[0].crs is None else WGS84.to_wkt()
        return geopandas.GeoDataFrame(columns, geometry=geopandas.GeoSeries(squares, crs=crs))


def search(folder: Path, at: Places, unlike: Places = (), top: int = 20) -> geopandas.GeoDataFrame:
    """Find places like some in the embeddings of a folder; see `SceneIndex.search`.

    Args:
        folder: of one scene's embedding, or of many.
        at: places that are looked for.
        unlike: places that are not.
        top: places that are wanted at most.
    """
    return SceneIndex(open_embeddings(folder)).search(at, unlike, top)


def _descending(scores: Reals, count: int) -> Iterator[int]:
    """Yield the numbers of scores from the best on: `count` of them, and then, if asked, all."""
    if count < len(scores):
        some = np.argpartition(-scores, count)[:count]
        yield from some[np.argsort(-scores[some], kind="stable")].tolist()
    yield from np.argsort(-scores, kind="stable").tolist()


def _block(taken: npt.NDArray[np.bool_], row: int, column: int) -> None:
    """Mark the patches whose places would overlap that of a patch."""
    reach = 2 * REACH
    taken[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = True
