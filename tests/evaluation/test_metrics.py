from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from cgeartheye.errors import UserError
from cgeartheye.evaluation.metrics import ECE_BINS, ClassificationMetrics, ConfusionMatrix


def predictions(samples: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, classes, generator=generator) * 2
    labels = torch.randint(0, classes, (samples,), generator=generator)
    logits[torch.arange(samples), labels] += 1.0
    return logits.softmax(1), labels


@pytest.mark.parametrize("classes", [2, 7, 45])
def test_figures_agree_with_sklearn(classes: int) -> None:
    probabilities, labels = predictions(500, classes, seed=classes)
    labels[labels == 1] = 0  # a class without samples
    found = ClassificationMetrics(classes)
    found.update(probabilities, labels)
    figures, predicted = found.compute(), probabilities.argmax(1)
    present = labels.unique().numpy()
    assert figures["top1"] == pytest.approx(100 * oracle.accuracy_score(labels, predicted))
    f1 = oracle.f1_score(labels, predicted, labels=present, average="macro", zero_division=0)
    assert figures["macro_f1"] == pytest.approx(100 * f1)
    recall = oracle.recall_score(labels, predicted, labels=present, average="macro")
    assert figures["mean_accuracy"] == pytest.approx(100 * recall)
    if classes > 5:
        top5 = oracle.top_k_accuracy_score(labels, probabilities, k=5, labels=range(classes))
        assert figures["top5"] == pytest.approx(100 * top5)
    else:
        assert figures["top5"] == 100
    matrix = oracle.confusion_matrix(labels, predicted, labels=range(classes))
    np.testing.assert_array_equal(found.confusion.counts, matrix)
    precision = oracle.precision_score(
        labels, predicted, labels=range(classes), average=None, zero_division=np.nan
    )
    np.testing.assert_allclose(found.confusion.precision, precision)


def brute_force_ece(probabilities: np.ndarray, labels: np.ndarray) -> float:
    confidence, hit = probabilities.max(1), probabilities.argmax(1) == labels
    error = 0.0
    for low in range(ECE_BINS):
        inside = (confidence > low / ECE_BINS) & (confidence <= (low + 1) / ECE_BINS)
        if inside.any():
            error += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    return 100 * error


def test_calibration_error_agrees_with_brute_force() -> None:
    probabilities, labels = predictions(800, 6, seed=1)
    found = ClassificationMetrics(6)
    found.update(probabilities, labels)
    expected = brute_force_ece(probabilities.double().numpy(), labels.numpy())
    assert found.compute()["ece"] == pytest.approx(expected, abs=1e-3)
    perfect = ClassificationMetrics(3)
    perfect.update(torch.eye(3), torch.arange(3))
    assert perfect.compute()["ece"] == 0


@given(
    samples=st.integers(1, 60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    order=st.randoms(use_true_random=False),
)
def test_any_split_over_ranks_gives_the_same_figures(
    samples: int, cuts: list[int], order: object
) -> None:
    probabilities, labels = predictions(samples, 4, seed=samples)
    whole = ClassificationMetrics(4)
    whole.update(probabilities, labels)
    shuffled = list(range(samples))
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    edges = sorted({0, samples, *(cut for cut in cuts if cut < samples)})
    total = torch.zeros_like(whole.state())
    for first, end in pairwise(edges):
        rank = ClassificationMetrics(4)
        share = shuffled[first:end]
        rank.update(probabilities[share], labels[share])
        total += rank.state()
    merged = ClassificationMetrics(4)
    merged.load_state(total)
    assert torch.equal(merged.state(), whole.state())
    assert str(merged.compute()) == str(whole.compute())


def test_ties_go_to_the_lowest_class() -> None:
    found = ClassificationMetrics(8)
    found.update(torch.full((1, 8), 1 / 8), torch.tensor([0]))
    found.update(torch.full((1, 8), 1 / 8), torch.tensor([5]))
    assert found.compute()["top1"] == 50
    assert found.compute()["top5"] == 50


def test_what_is_not_labelled_counts_nowhere() -> None:
    matrix = ConfusionMatrix(3)
    matrix.update(torch.tensor([[0, 1], [2, 2]]), torch.tensor([[0, 255], [1, 255]]))
    assert matrix.counts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert matrix.accuracy == 0.5


def test_predictions_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(UserError, match="diverged"):
        ClassificationMetrics(2).update(torch.tensor([[float("nan"), 0.5]]), torch.tensor([0]))
