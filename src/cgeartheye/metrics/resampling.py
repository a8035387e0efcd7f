"""Intervals and comparisons of figures by drawing the tested images anew.

A test's outcomes are `[images]`, the share of right answers, `[images, K, K]`, the confusion matrix
of each image, or the `BoxOutcomes` of a detector. A figure is the mean over the seeds, which see
the same images.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cgeartheye.metrics.detection.resampling import BoxOutcomes

Array = np.ndarray
Outcomes = Array | BoxOutcomes

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


def can_resample(figure: str, outcomes: Outcomes) -> bool:
    """Whether a figure follows from the outcomes of images of one seed."""
    if isinstance(outcomes, BoxOutcomes):
        return figure in outcomes.figures
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
    figure: str,
    outcomes: Sequence[Outcomes],
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile interval of a figure (Efron and Tibshirani 1993, 13.3).

    Args:
        figure: see `can_resample`.
        outcomes: of each seed.
        draws: of as many images as there are, with replacement.
        level: share of the draws within the interval.
        seed: of the draws.
    """
    images = len(outcomes[0])
    random = np.random.default_rng(seed)
    found = []
    for count in _chunks(draws):
        weights = random.multinomial(images, np.full(images, 1 / images), count)
        found.append(np.mean([_scores(figure, one, weights, images) for one in outcomes], 0))
    low, high = np.nanquantile(np.concatenate(found), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def permutation_p_value(
    figure: str,
    one: Sequence[Outcomes],
    other: Sequence[Outcomes],
    draws: int = 2000,
    seed: int = 0,
) -> float:
    """Return how often chance alone makes two figures as different as these are.

    Of each image the outcomes of the two are swapped or not (approximate randomisation, Noreen
    1989), those of all seeds together.

    Args:
        figure: see `can_resample`.
        one: of each seed.
        other: of the same seeds and images.
        draws: of swaps; the p-value is at least 1 / (draws + 1).
        seed: of the draws.
    """
    images = len(one[0])
    both = [_beside(*pair) for pair in zip(one, other, strict=True)]

    def differences(swaps: Array) -> Array:
        kept = np.hstack([1 - swaps, swaps])
        scores = [
            _scores(figure, pair, 1 - kept, images) - _scores(figure, pair, kept, images)
            for pair in both
        ]
        return np.asarray(np.abs(np.mean(scores, 0)))

    (observed,) = differences(np.zeros((1, images), int))
    random = np.random.default_rng(seed)
    extreme = 0
    for count in _chunks(draws):
        swaps = random.integers(0, 2, (count, images))
        extreme += int((differences(swaps) >= observed - 1e-9).sum())
    return (1 + extreme) / (1 + draws)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that hold for all comparisons together (Holm 1979)."""
    values = np.asarray(p_values, float)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1)
    return adjusted.tolist()


def _scores(figure: str, outcomes: Outcomes, weights: Array, images: int) -> Array:
    """Return a figure in percent `[draws]` under weights `[draws, images]`."""
    if isinstance(outcomes, BoxOutcomes):
        return outcomes.score(figure, weights)
    flat = outcomes.reshape(len(outcomes), -1).astype(np.float64)
    sums = (weights.astype(np.float64) @ flat).reshape(len(weights), *outcomes.shape[1:])
    return score(figure, sums, images)


def _beside(one: Outcomes, other: Outcomes) -> Outcomes:
    """Return the outcomes of one behind those of another, as if of twice as many images."""
    if isinstance(one, BoxOutcomes):
        assert isinstance(other, BoxOutcomes)
        return one.beside(other)
    return np.concatenate([one, np.asarray(other)])


def _chunks(draws: int) -> Iterator[int]:
    for first in range(0, draws, CHUNK):
        yield min(CHUNK, draws - first)
