"""Places that look the same as another one of their cluster."""

from itertools import pairwise

import numpy as np
import torch

from cgeartheye.jlssd.curation.kmeans import Progress

ROWS = 2048  # compared with all others of a cluster at a time

Array = np.ndarray


def find_duplicates(
    features: Array,
    labels: Array,
    least: float,
    device: torch.device,
    progress: Progress = lambda places: None,
) -> Array:
    """Find for each place the other one that it repeats.

    Within a cluster, in the order of the rows, a place goes if one that stays is as similar to it
    as `least`: so each one that goes has one that stays, and no two that stay are so similar. Pairs
    that a border of clusters divides are not seen (as in SemDeDup, Abbas et al. 2023, which makes
    the cost that of the clusters' sizes squared).

    Args:
        features: unit vectors, float16 `[N, C]`.
        labels: the cluster of each, `[N]`.
        least: cosine similarity.
        device: where to compare.
        progress: called with the number of places that are done.

    Returns:
        int64 `[N]`: the row of the place that stays; -1: it stays itself.
    """
    repeats = np.full(len(labels), -1, np.int64)
    order = np.argsort(labels, kind="stable")
    bounds = np.flatnonzero(np.diff(labels[order], prepend=-1, append=-1))
    for first, end in pairwise(bounds):
        rows = order[first:end]
        points = torch.from_numpy(np.array(features[rows])).to(device).float()
        repeats[rows] = _in_cluster(points, rows, least)
        progress(len(rows))
    return repeats


def _in_cluster(points: torch.Tensor, rows: Array, least: float) -> Array:
    """Return what each of the points `[n, C]` of a cluster repeats, by their `rows`, or -1."""
    repeats = np.full(len(rows), -1, np.int64)
    stays = torch.ones(len(points), dtype=torch.bool, device=points.device)
    for start in range(0, len(points), ROWS):
        block = points[start : start + ROWS]
        if start:
            similarity = block @ points[:start].T
            similarity[:, ~stays[:start]] = -2
            best, which = (values.cpu().numpy() for values in similarity.max(1))
            gone = np.flatnonzero(best >= least)
            repeats[start + gone] = rows[which[gone]]
            stays[start + torch.from_numpy(gone).to(points.device)] = False
        _in_block(block, rows[start : start + ROWS], least, repeats[start : start + ROWS])
        stays[start : start + ROWS] = torch.from_numpy(repeats[start : start + ROWS] < 0)
    return repeats


def _in_block(block: torch.Tensor, rows: Array, least: float, repeats: Array) -> None:
    """Compare the points of a block with each other, from the first to the last."""
    close = torch.triu(block @ block.T >= least, diagonal=1).cpu().numpy()
    for first in np.flatnonzero(close.any(1)):
        if repeats[first] < 0:
            gone = np.flatnonzero(close[first] & (repeats < 0))
            repeats[gone] = rows[first]
