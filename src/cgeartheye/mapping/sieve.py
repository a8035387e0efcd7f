"""Areas below the minimum mapping unit go to their largest neighbors, as in GDAL's sieve."""

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ints = npt.NDArray[np.int64]


def merge_small(
    sizes: Ints, values: Ints, neighbors: Ints, least: int, fixed: Ints
) -> tuple[Ints, Ints]:
    """Merge areas that are too small into the largest area that they have an edge with.

    As `gdal_sieve.py -4` has it, an area whose largest neighbor is too small itself goes with it to
    the neighbor's. Unlike there, areas that are only too small together are merged too, under the
    value of the largest; this is repeated until each is large enough, or has no neighbor.

    Args:
        sizes: of the areas in pixels, `[N]`.
        values: of the map, `[N]`.
        neighbors: numbers of areas that share an edge, `[M, 2]`.
        least: pixels of an area that stays.
        fixed: values that neither go to others nor take them up, such as nodata.

    Returns:
        For each area the group it is in, `[N]`; and the value of each group.
    """
    group: Ints = np.arange(len(sizes))
    free = ~np.isin(values, fixed)
    pairs = neighbors[free[neighbors].all(1)]
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    while True:
        merged, sizes, values = _merge_once(sizes, values, pairs, least)
        if len(sizes) == len(merged):
            return group, values
        group = merged[group]
        pairs = np.unique(merged[pairs], axis=0)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]


def _merge_once(sizes: Ints, values: Ints, pairs: Ints, least: int) -> tuple[Ints, Ints, Ints]:
    """Return the group of each area, and the sizes and values of the groups."""
    count = len(sizes)
    rank = np.empty(count, np.int64)  # by size; of two of the same size the first counts as larger
    rank[np.lexsort((-np.arange(count), sizes))] = np.arange(count)
    largest = np.full(count, -1)
    np.maximum.at(largest, pairs[:, 0], rank[pairs[:, 1]])
    source = np.flatnonzero((sizes < least) & (largest >= 0))
    of_rank = np.argsort(rank)
    target = of_rank[largest[source]]
    graph = coo_array((np.ones(len(source), bool), (source, target)), shape=(count, count))
    number, group = connected_components(graph, directed=False)
    group = group.astype(np.int64)
    # The last of each group by rank that is none of the sources, or else by rank alone: the end of
    # the chain, or the larger of two that point at each other.
    ends = np.ones(count, bool)
    ends[source] = False
    order = np.lexsort((rank, ends, group))
    last = np.append(np.flatnonzero(np.diff(group[order])), count - 1)[: max(number, 0)]
    total = np.bincount(group, weights=sizes, minlength=number).astype(np.int64)
    return group, total, values[order[last]]
