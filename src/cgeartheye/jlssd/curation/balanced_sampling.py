"""A balanced sample of a hierarchy of clusters (Vo et al. 2024, section 3.3).

Automatic Data Curation for Self-Supervised Learning: A Clustering-Based Approach, TMLR 2024.
"""

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def allot(sizes: Array, wanted: int) -> Array:
    """Share `wanted` out as evenly as the sizes allow.

    Each gets min(n, size), with the n that makes the sum right; what is left when n is a whole
    number goes to the largest, the first of equals.

    Args:
        sizes: int `[K]`.
        wanted: at most their sum.

    Returns:
        int `[K]`, which sum to `wanted`.
    """
    assert 0 <= wanted <= sizes.sum(), (wanted, sizes.sum())
    ascending = np.sort(sizes)
    # Given n = ascending[i], the i smallest get all they have.
    taken = np.concatenate([[0], np.cumsum(ascending)[:-1]])
    at_level = taken + ascending * np.arange(len(sizes), 0, -1)
    full = int(np.searchsorted(at_level, wanted, side="right"))
    if full == len(sizes):
        return np.asarray(sizes, np.int64)
    level = (wanted - int(taken[full])) // (len(sizes) - full)
    shares = np.minimum(sizes, level).astype(np.int64)
    larger = np.argsort(-sizes, kind="stable")[: wanted - shares.sum()]
    shares[larger] += 1
    return np.asarray(shares)


def balanced_sample(levels: Sequence[Array], free: Array, wanted: int, seed: int) -> Array:
    """Choose places so that each cluster of the coarsest level gives the same number, if it can.

    Within it each of its own clusters does, down to the finest, in which the seed decides.

    Args:
        levels: the cluster of each place `[N]`, from the coarsest level to the finest; each cluster
            is in one of the level before.
        free: bool `[N]`, which may be chosen.
        wanted: places; all that are free, if they are fewer.
        seed: of the draw.

    Returns:
        bool `[N]`, which are chosen.
    """
    chosen = np.zeros(len(free), bool)
    drawn = np.random.default_rng(seed).permutation(len(free))
    _choose(drawn[free[drawn]], levels, wanted, chosen)
    return chosen


def _choose(places: Array, levels: Sequence[Array], wanted: int, chosen: Array) -> None:
    """Mark `wanted` of places, which are in the order of the draw."""
    if not levels or wanted >= len(places):
        chosen[places[:wanted]] = True
        return
    clusters = levels[0][places]
    _, sizes = np.unique(clusters, return_counts=True)
    ordered = places[np.argsort(clusters, kind="stable")]
    ends = np.cumsum(sizes)
    for end, size, share in zip(ends, sizes, allot(sizes, wanted), strict=True):
        _choose(ordered[end - size : end], levels[1:], int(share), chosen)


def effective_number(counts: Array) -> float:
    """Return exp of the entropy of the shares: how many equally common kinds would be as varied."""
    shares = counts[counts > 0] / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
