"""Intervals and comparisons of figures by drawing the tested images anew.

A test's outcomes are `[seeds, images]`, the share of right answers, or `[seeds, images, K, K]`, the
confusion matrix of each image. A figure is the mean over the seeds, which see the same images.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

Array = np.ndarray

CHUNK = 100  # draws at a time


def _accuracy(sums: Array) -> Array:
    return np.asarray(sums.diagonal(axis1=-2, axis2=-1).sum(-1) / sums.sum((-2, -1)))


def _iou(sums: Array) -> Array:
    hits, support, found = _marginals(sums)
    return np.where(support > 0, hits / np.maximum(support + found - hits, 1), np.nan)


def _f1(sums: Array) -> Array:
    hits, support, found = _marginals(sums)
    return np.where(support > 0, 2 * hits / np.maximum(support + found, 1), np.nan)


def _marginals(sums: Array) -> tuple[Array, Array, Array]:
    return sums.diagonal(axis1=-2, axis2=-1), sums.sum(-1), sums.sum(-2)


# Of confusion matrices summed over images, `[..., K, K]`; see `metrics.classification`.
OF_CONFUSIONS: dict[str, Callable[[Array], Array]] = {
    "miou": lambda sums: np.nanmean(_iou(sums), -1),
    "mf1": lambda sums: np.nanmean(_f1(sums), -1),
    "accuracy": _accuracy,
    "f1": lambda sums: _f1(sums)[..., 1],
    "iou": lambda sums: _iou(sums)[..., 1],
}


def can_resample(figure: str, outcomes: Array) -> bool:
    """Whether a figure follows from the sums of outcomes of one seed."""
    return figure == "top1" if outcomes.ndim == 1 else figure in OF_CONFUSIONS


def score(figure: str, sums: Array, images: int) -> Array:
    """Return a figure in percent.

    Args:
        figure: `top1`, or one of `OF_CONFUSIONS`.
        sums: of outcomes over images, `[...]` or `[..., K, K]`.
        images: how many these are.
    """
    return 100 * (sums / images if figure == "top1" else OF_CONFUSIONS[figure](sums))


def bootstrap(
    figure: str, outcomes: Array, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile interval of a figure (Efron and Tibshirani 1993, 13.3).

    Args:
        figure: see `score`.
        outcomes: `[seeds, images, ...]`.
        draws: of as many images as there are, with replacement.
        level: share of the draws within the interval.
        seed: of the draws.
    """
    images = outcomes.shape[1]
    random = np.random.default_rng(seed)
    found = []
    for count in _chunks(draws):
        weights = random.multinomial(images, np.full(images, 1 / images), count)
        found.append(score(figure, _weighted(weights, outcomes), images).mean(0))
    low, high = np.nanquantile(np.concatenate(found), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def permutation_p_value(
    figure: str, one: Array, other: Array, draws: int = 2000, seed: int = 0
) -> float:
    """Return how often chance alone makes two figures as different as these are.

    Of each image the outcomes of the two are swapped or not (approximate randomisation, Noreen
    1989), those of all seeds together.

    Args:
        figure: see `score`.
        one: `[seeds, images, ...]`.
        other: of the same images.
        draws: of swaps; the p-value is at least 1 / (draws + 1).
        seed: of the draws.
    """
    images = one.shape[1]
    totals = one.sum(1)[:, None], other.sum(1)[:, None]

    def differences(moved: Array) -> Array:
        scores = score(figure, totals[0] + moved, images), score(figure, totals[1] - moved, images)
        return np.asarray(np.abs((scores[1] - scores[0]).mean(0)))

    (observed,) = differences(np.zeros_like(totals[0], np.float64))
    random = np.random.default_rng(seed)
    extreme = 0
    for count in _chunks(draws):
        swaps = random.integers(0, 2, (count, images))
        extreme += int((differences(_weighted(swaps, other - one)) >= observed - 1e-9).sum())
    return (1 + extreme) / (1 + draws)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that hold for all comparisons together (Holm 1979)."""
    values = np.asarray(p_values, float)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1)
    return adjusted.tolist()


def _weighted(weights: Array, outcomes: Array) -> Array:
    """Return sums of outcomes `[seeds, draws, ...]` under weights `[draws, images]`."""
    seeds, images, *rest = outcomes.shape
    flat = outcomes.reshape(seeds, images, -1).astype(np.float64)
    return (weights.astype(np.float64) @ flat).reshape(seeds, len(weights), *rest)


def _chunks(draws: int) -> Iterator[int]:
    for first in range(0, draws, CHUNK):
        yield min(CHUNK, draws - first)
