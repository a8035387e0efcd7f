from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

from cgeartheye.metrics.classification import ConfusionMatrix, SegmentationMetrics
from cgeartheye.metrics.resampling import (
    OF_CONFUSIONS,
    bootstrap,
    can_resample,
    holm,
    permutation_p_value,
    score,
)

random = np.random.default_rng(0)
HITS = (random.random((1, 120)) < 0.8).astype(float)


def confusions(images: int, skill: float, seed: int, classes: int = 3) -> np.ndarray:
    draws = np.random.default_rng(seed)
    found = np.zeros((1, images, classes, classes), np.int64)
    for image in range(images):
        truth = draws.integers(0, classes, 50)
        predicted = np.where(draws.random(50) < skill, truth, draws.integers(0, classes, 50))
        np.add.at(found[0, image], (truth, predicted), 1)
    return found


def test_figures_are_those_of_the_metrics() -> None:
    sums = confusions(9, 0.6, 1)[0].sum(0)
    sums[1] = 0  # a class that the truth does not hold
    metrics = SegmentationMetrics(3)
    metrics.confusion.counts += torch.from_numpy(sums)
    expected = metrics.compute()
    for figure in ("miou", "mf1", "accuracy"):
        assert score(figure, sums, 9) == pytest.approx(expected[figure], abs=1e-9)
    matrix = ConfusionMatrix(3)
    matrix.counts += metrics.confusion.counts
    assert OF_CONFUSIONS["f1"](sums) == pytest.approx(matrix.f1[1], nan_ok=True)
    assert OF_CONFUSIONS["iou"](sums) == pytest.approx(matrix.iou[1], nan_ok=True)


def test_an_interval_is_that_of_scipy() -> None:
    ours = bootstrap("top1", HITS, draws=20_000)
    theirs = stats.bootstrap((100 * HITS[0],), np.mean, n_resamples=20_000, method="percentile")
    np.testing.assert_allclose(ours, theirs.confidence_interval, atol=0.9)


def test_an_interval_of_a_mean_iou_is_that_of_a_loop() -> None:
    outcomes = confusions(20, 0.7, 2)
    draws = np.random.default_rng(5)
    loop = [score("miou", outcomes[0][draws.integers(0, 20, 20)].sum(0), 20) for _ in range(4000)]
    np.testing.assert_allclose(
        bootstrap("miou", outcomes, draws=4000), np.quantile(loop, [0.025, 0.975]), atol=0.4
    )


def test_a_p_value_of_accuracy_is_that_of_scipy() -> None:
    other = np.where(random.random((1, 120)) < 0.25, 1 - HITS, HITS)
    theirs = stats.permutation_test(
        (HITS[0], other[0]),
        lambda one, two: np.mean(one) - np.mean(two),
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=False,
        rng=0,
    )
    assert permutation_p_value("top1", HITS, other, 20_000) == pytest.approx(
        theirs.pvalue, abs=0.015
    )


@pytest.mark.parametrize("figure", ["miou", "f1"])
def test_a_p_value_of_confusions_is_that_of_all_swaps(figure: str) -> None:
    one, other = confusions(8, 0.62, 3), confusions(8, 0.8, 4)
    differences = []
    for swaps in product([False, True], repeat=8):
        mask = np.array(swaps)[:, None, None]
        sums = (np.where(mask, other[0], one[0]).sum(0), np.where(mask, one[0], other[0]).sum(0))
        differences.append(abs(float(score(figure, sums[1], 8) - score(figure, sums[0], 8))))
    exact = np.mean(np.array(differences) >= differences[0] - 1e-9)
    assert permutation_p_value(figure, one, other, 20_000) == pytest.approx(exact, abs=0.01)


def test_seeds_share_the_images_and_equals_do_not_differ() -> None:
    both = np.stack([HITS[0], HITS[0]])
    assert bootstrap("top1", both) == bootstrap("top1", HITS)
    assert permutation_p_value("top1", both, both) == 1


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_only_sums_are_resampled() -> None:
    assert can_resample("top1", HITS[0])
    assert not can_resample("top5", HITS[0])
    assert not can_resample("boundary_f1", confusions(2, 0.5, 0)[0])
