"""Clusters of clusters: k-means on features, then on the centroids (Vo et al. 2024, section 3.2).

k-means puts its centroids where points are, so that what is common has many. The next level, on
centroids instead of points, and on the few that represent its clusters best (resampling, section
3.2.2), spreads its own evenly over all that was seen, rare or not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cgeartheye.jlssd.curation.kmeans import Clusters, assign, comparisons, kmeans
from cgeartheye.utils.console import bar

FEWEST = 4  # points a cluster, at least on average

Array = np.ndarray


@dataclass(frozen=True)
class Hierarchy:
    """Clusters of several levels.

    Attributes:
        centroids: of each level, the finest first, float32 `[K, C]`.
        labels: of each level, the cluster of each point, int32 `[N]`.
        distances: of each point, squared, to its centroid of the finest level, `[N]`.
    """

    centroids: tuple[Array, ...]
    labels: tuple[Array, ...]
    distances: Array


def cluster(
    points: Array,
    counts: Sequence[int],
    iterations: int,
    resamplings: int,
    seed: int,
    device: torch.device,
) -> Hierarchy:
    """Cluster points, then the centroids, level by level.

    Args:
        points: `[N, C]`.
        counts: clusters of each level, the finest first; fewer where there are not `FEWEST` points
            for each.
        iterations: of each k-means.
        resamplings: of each level but the finest.
        seed: of all.
        device: where to compute.
    """
    finest = min(counts[0], max(1, len(points) // FEWEST))
    with bar("clustering", comparisons(len(points), finest, iterations), "places") as progress:
        found = kmeans(points, finest, iterations, seed, device, progress.advance)
    centroids, labels = [found.centroids], [found.labels]
    for level, count in enumerate(counts[1:], start=1):
        below = centroids[-1]
        fewer = min(count, max(1, len(below) // FEWEST))
        coarse = kmeans(below, fewer, iterations, seed + level, device)
        for _ in range(resamplings):
            chosen = _representatives(coarse, max(1, len(below) // fewer // 2))
            again = kmeans(below[chosen], fewer, iterations, seed + level, device)
            nearest = assign(below, torch.from_numpy(again.centroids).to(device))
            coarse = Clusters(again.centroids, *nearest)
        centroids.append(coarse.centroids)
        labels.append(coarse.labels[labels[-1]])
    return Hierarchy(tuple(centroids), tuple(labels), found.distances)


def _representatives(clusters: Clusters, count: int) -> Array:
    """Return the `count` points of each cluster that are nearest to its centroid, ascending.

    Of a cluster that has fewer, all; at least as many in all as there are clusters.
    """
    order = np.lexsort((clusters.distances, clusters.labels))
    labels = clusters.labels[order]
    first = np.searchsorted(labels, labels)
    rank = np.arange(len(labels)) - first
    chosen = order[rank < count]
    missing = len(clusters.centroids) - len(chosen)
    if missing > 0:  # some clusters are empty
        chosen = np.concatenate([chosen, order[rank >= count][:missing]])
    return np.sort(chosen)
