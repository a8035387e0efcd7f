"""Outlines without corners, the same on both sides of each: no gaps and no overlaps appear."""

import numpy as np
import numpy.typing as npt
import shapely

Reals = npt.NDArray[np.float64]
Polygons = npt.NDArray[np.object_]

_TIMES = 2  # each doubles the vertices; corners of 90 degrees become four of 22.5


def smooth_coverage(polygons: Polygons, height: int, width: int) -> Polygons:
    """Cut the corners of polygons that share their edges (Chaikin 1974).

    What stays is where three or more outlines meet, vertices on the raster's border, and a corner
    that cannot be cut without touching another outline, so that the polygons stay a coverage.

    Args:
        polygons: in pixels, `[N]`; neighbors have the same vertices.
        height: of the raster.
        width: of the raster.
    """
    if not len(polygons):
        return polygons
    kind, xy, offsets = shapely.to_ragged_array(polygons)
    rings = np.asarray(offsets[0])
    is_fixed = _fixed(xy, rings, height, width)
    for _ in range(_TIMES):
        xy, rings, is_fixed = _cut_corners(xy, rings, is_fixed)
    return np.asarray(shapely.from_ragged_array(kind, xy, (rings, *offsets[1:])))


def _fixed(xy: Reals, rings: npt.NDArray[np.int64], height: int, width: int) -> np.ndarray:
    """Which vertices `[N]` stay; the last of each ring is its first again."""
    unique, vertex = np.unique(xy, axis=0, return_inverse=True)
    vertex = vertex.reshape(-1)
    inner = np.ones(len(xy), bool)
    inner[rings[1:] - 1] = False  # from the last vertex of a ring no edge leads on
    start = np.flatnonzero(inner)
    edges = np.unique(np.sort(np.stack([vertex[start], vertex[start + 1]], 1), axis=1), axis=0)
    fixed = np.bincount(edges.ravel(), minlength=len(unique)) != 2
    fixed |= (unique == 0).any(1) | (unique == (width, height)).any(1)
    # The two neighbors of each vertex that has two: what is cut off is within the triangle of
    # the vertex and the middles of its edges, which no other edge may touch.
    order = np.argsort(edges.ravel(), kind="stable")
    owner = edges.ravel()[order]
    other = edges[:, ::-1].ravel()[order]
    first = np.searchsorted(owner, np.arange(len(unique)))
    free = np.flatnonzero(~fixed)
    at = unique[free]
    middles = [(at + unique[other[first[free] + n]]) / 2 for n in (0, 1)]
    corners = shapely.polygons(np.stack([middles[0], at, middles[1]], 1))
    tree = shapely.STRtree(shapely.linestrings(unique[edges]))
    touched = tree.query(corners, predicate="intersects")[0]
    fixed[free[np.bincount(touched, minlength=len(free)) > 2]] = True
    return np.asarray(fixed[vertex])


def _cut_corners(
    xy: Reals, rings: npt.NDArray[np.int64], is_fixed: np.ndarray
) -> tuple[Reals, npt.NDArray[np.int64], np.ndarray]:
    """Replace each free vertex by two, a quarter of the way to its neighbors."""
    lengths = np.diff(rings) - 1  # vertices of each ring without its last, which is its first
    start = np.ones(len(xy), bool)
    start[rings[1:] - 1] = False
    here = np.flatnonzero(start)
    ahead = xy[here + 1]
    before = here - 1
    before[np.cumsum(lengths) - lengths] = rings[1:] - 2  # of the first vertex the last but one
    behind, own, fixed = xy[before], xy[here], is_fixed[here]
    # The sum of two products is the same whichever comes first: so are both sides of an edge.
    cut = np.stack([0.75 * own + 0.25 * behind, 0.75 * own + 0.25 * ahead], 1)
    cut[fixed] = own[fixed, None]
    keep = np.ones((len(own), 2), bool)
    keep[fixed, 1] = False
    new = keep.sum(1)
    ring_of = np.repeat(np.arange(len(lengths)), lengths)
    sizes = np.bincount(ring_of, weights=new, minlength=len(lengths)).astype(np.int64)
    flat, still = cut[keep], np.repeat(fixed, new)
    ends = np.cumsum(sizes)
    first = ends - sizes
    closed = np.insert(flat, ends, flat[first], axis=0)
    still = np.insert(still, ends, still[first])
    return closed, np.concatenate([[0], np.cumsum(sizes + 1)]), still
