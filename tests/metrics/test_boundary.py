from itertools import pairwise
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, distance_transform_edt
from scipy.spatial.distance import cdist
from sklearn import metrics as oracle

from cgeartheye.metrics.boundary import REACH, boundaries, count_boundaries
from cgeartheye.metrics.classification import SegmentationMetrics

CLASSES = 4
Array = np.ndarray


def maps(
    seed: int, shape: tuple[int, int] = (18, 25), hidden: float = 0.1
) -> tuple[torch.Tensor, torch.Tensor]:
    """A coarse truth without class 2 and a guess that is mostly right."""
    random = np.random.default_rng(seed)
    rows, columns = (-(-length // 5) for length in shape)
    coarse = random.integers(0, CLASSES, (rows, columns))
    coarse[coarse == 2] = 3
    truth = coarse.repeat(5, 0).repeat(5, 1)[: shape[0], : shape[1]]
    guess = np.where(
        random.random(shape) < 0.1, random.integers(0, CLASSES, shape), np.roll(truth, 1, 1)
    )
    truth = np.where(random.random(shape) < hidden, 255, truth)
    return torch.from_numpy(guess.astype(np.uint8)), torch.from_numpy(truth.astype(np.uint8))


def measured(*pairs: tuple[torch.Tensor, torch.Tensor]) -> SegmentationMetrics:
    metrics = SegmentationMetrics(CLASSES)
    for guess, truth in pairs:
        metrics.update(guess, truth)
    return metrics


def brute_boundaries(classes: Array) -> Array:
    height, width = classes.shape
    marked = np.zeros(classes.shape, bool)
    for row in range(height):
        for column in range(width):
            for down, across in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                there = row + down, column + across
                if 0 <= there[0] < height and 0 <= there[1] < width:
                    pair = {int(classes[row, column]), int(classes[there])}
                    marked[row, column] |= len(pair) == 2 and 255 not in pair
    return marked


@given(seed=st.integers(0, 1000))
def test_figures_agree_with_sklearn(seed: int) -> None:
    pairs = [maps(seed), maps(seed + 1, (9, 13))]
    found = measured(*pairs)
    guess = np.concatenate([pair[0].flatten() for pair in pairs])
    truth = np.concatenate([pair[1].flatten() for pair in pairs])
    guess, truth = guess[truth != 255], truth[truth != 255]
    present, figures = np.unique(truth), found.compute()
    assert 2 not in present
    kwargs = {"labels": present, "zero_division": 0}
    iou = oracle.jaccard_score(truth, guess, average="macro", **kwargs)
    assert figures["miou"] == pytest.approx(100 * iou)
    f1 = oracle.f1_score(truth, guess, average="macro", **kwargs)
    assert figures["mf1"] == pytest.approx(100 * f1)
    assert figures["accuracy"] == pytest.approx(100 * (truth == guess).mean())
    rows = found.per_class("abcd")
    precision, recall, f1, support = oracle.precision_recall_fscore_support(
        truth, guess, labels=range(CLASSES), zero_division=np.nan
    )
    known = support > 0
    each = oracle.jaccard_score(truth, guess, labels=range(CLASSES), average=None, zero_division=0)
    for name, values in {
        "pixels": support,
        "precision": 100 * precision,
        "recall": 100 * recall,
        "F1": 100 * np.where(known, f1, np.nan),
        "IoU": 100 * np.where(known, each, np.nan),
    }.items():
        np.testing.assert_allclose([row[name] for row in rows], values, err_msg=name)


@given(seed=st.integers(0, 1000))
def test_boundaries_agree_with_brute_force(seed: int) -> None:
    _, truth = maps(seed, (7, 11), hidden=0.3)
    np.testing.assert_array_equal(boundaries(truth, 255), brute_boundaries(truth.numpy()))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), height=st.integers(1, 20), width=st.integers(1, 20))
def test_boundary_counts_agree_with_distances(seed: int, height: int, width: int) -> None:
    guess, truth = maps(seed, (height, width))
    guess = guess.masked_fill(truth == 255, 255)
    found = count_boundaries(guess, truth, CLASSES, 255)
    expected = []
    for label in range(CLASSES):
        points = [
            np.argwhere(brute_boundaries(map_) & (map_ == label))
            for map_ in (guess.numpy(), truth.numpy())
        ]
        near = cdist(*points) <= REACH
        expected.append([near.any(1).sum(), len(points[0]), near.any(0).sum(), len(points[1])])
    assert found.tolist() == np.array(expected).tolist()


def test_boundary_f1_agrees_with_scipy_on_a_larger_map() -> None:
    guess, truth = maps(3, (90, 120), hidden=0)
    rows = measured((guess, truth)).per_class("abcd")
    for label, row in enumerate(rows):
        edges = []
        for map_ in (guess.numpy(), truth.numpy()):
            inside = map_ == label
            edges.append(inside & binary_dilation(~inside))
        if not edges[1].any():
            assert np.isnan(row["boundary F1"])
            continue
        precision = (distance_transform_edt(~edges[1]) <= REACH)[edges[0]].mean()
        recall = (distance_transform_edt(~edges[0]) <= REACH)[edges[1]].mean()
        f1 = 2 * precision * recall / (precision + recall)
        assert row["boundary F1"] == pytest.approx(100 * f1)


@pytest.mark.parametrize(("shift", "expected"), [(0, 100), (REACH - 1, 100), (12, 0)])
def test_boundary_f1_of_a_shifted_edge(shift: int, expected: float) -> None:
    truth = torch.zeros(8, 40, dtype=torch.uint8)
    truth[:, 20:] = 1
    guess = torch.zeros_like(truth)
    guess[:, 20 + shift :] = 1
    assert measured((guess, truth)).compute()["boundary_f1"] == expected


def test_a_map_of_one_class_has_no_boundary() -> None:
    truth = torch.ones(6, 6, dtype=torch.uint8)
    truth[0] = 255  # what is not labelled makes none
    guess = truth.masked_fill(truth == 255, 3)
    figures = measured((guess, truth)).compute()
    assert np.isnan(figures.pop("boundary_f1"))
    assert figures == {"miou": 100, "mf1": 100, "accuracy": 100}


def test_a_prediction_counts_only_where_the_truth_is_known() -> None:
    guess, truth = maps(0, hidden=0.4)
    other = torch.where(truth == 255, (guess + 1) % CLASSES, guess)
    assert torch.equal(measured((guess, truth)).state(), measured((other, truth)).state())


def test_nothing_measured_is_not_a_number() -> None:
    assert all(np.isnan(value) for value in SegmentationMetrics(3).compute().values())


def test_a_class_that_does_not_exist_is_an_error() -> None:
    guess, truth = maps(0)
    with pytest.raises(ValueError, match=r"within 0\.\.3"):
        measured((guess, truth.masked_fill(truth == 0, 9)))


@settings(max_examples=25, deadline=None)
@given(
    images=st.integers(1, 6),
    cuts=st.lists(st.integers(0, 6), max_size=3),
    random=st.randoms(use_true_random=False),
)
def test_any_split_over_ranks_gives_the_same_figures(
    images: int, cuts: list[int], random: Random
) -> None:
    pairs = [maps(seed, (6 + seed, 9)) for seed in range(images)]
    whole = measured(*pairs)
    random.shuffle(pairs)
    edges = [0, *sorted(min(cut, images) for cut in cuts), images]
    states = [measured(*pairs[first:end]).state() for first, end in pairwise(edges)]
    assert states[0].dtype == torch.int64
    merged = SegmentationMetrics(CLASSES)
    merged.load_states(states)
    assert torch.equal(merged.state(), whole.state())
    assert repr(merged.compute()) == repr(whole.compute())
    assert repr(merged.per_class("abcd")) == repr(whole.per_class("abcd"))
