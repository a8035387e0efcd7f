from itertools import pairwise
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from cgeartheye.metrics.classification import ECE_BINS, ClassificationMetrics, ConfusionMatrix
from cgeartheye.utils.errors import UserError


def predictions(samples: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities that are right now and then; no sample is of class 1."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (samples,), generator=generator)
    labels[labels == 1] = 0
    logits = torch.randn(samples, classes, generator=generator) * 2
    logits[torch.arange(samples), labels] += 1.0
    return logits.softmax(1), labels


def measured(probabilities: torch.Tensor, labels: torch.Tensor) -> ClassificationMetrics:
    metrics = ClassificationMetrics(probabilities.shape[1])
    metrics.update(probabilities, labels)
    return metrics


@pytest.mark.parametrize("classes", [2, 3, 7, 45])
def test_figures_agree_with_sklearn(classes: int) -> None:
    probabilities, labels = predictions(500, classes, seed=classes)
    found = measured(probabilities, labels)
    figures, predicted = found.compute(), probabilities.argmax(1)
    present = labels.unique().numpy()
    assert 1 not in present
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


def test_rows_of_the_classes_agree_with_sklearn() -> None:
    probabilities, labels = predictions(60, 12, seed=0)
    probabilities[:, 3] = 0  # never predicted
    rows = measured(probabilities, labels).per_class([f"class {k}" for k in range(12)])
    assert [row["class"] for row in rows] == [f"class {k}" for k in range(12)]
    precision, recall, f1, support = oracle.precision_recall_fscore_support(
        labels, probabilities.argmax(1), labels=range(12), zero_division=np.nan
    )
    np.testing.assert_array_equal([row["images"] for row in rows], support)
    np.testing.assert_allclose([row["precision"] for row in rows], 100 * precision)
    np.testing.assert_allclose([row["accuracy"] for row in rows], 100 * recall)
    # The class without samples has no F1 here, and 0 there.
    np.testing.assert_allclose([row["F1"] for row in rows], 100 * np.where(support > 0, f1, np.nan))
    assert np.isnan(rows[1]["accuracy"])
    assert np.isnan(rows[3]["precision"])
    assert rows[3]["F1"] == 0


def test_calibration_error_agrees_with_brute_force() -> None:
    probabilities, labels = predictions(800, 6, seed=1)
    confidence = probabilities.double().numpy().max(1)
    hit = (probabilities.argmax(1) == labels).numpy()
    error, samples = 0.0, []
    for low in range(ECE_BINS):
        inside = (confidence > low / ECE_BINS) & (confidence <= (low + 1) / ECE_BINS)
        samples.append(inside.sum())
        if inside.any():
            error += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    found = measured(probabilities, labels)
    # A confidence is kept to 2^-20, of 100 %.
    assert found.compute()["ece"] == pytest.approx(100 * error, abs=1e-4)
    count, accuracy, mean = found.calibration()
    np.testing.assert_array_equal(count, samples)
    assert np.nansum(count * accuracy) == pytest.approx(float(hit.sum()))
    assert np.nansum(count * mean) == pytest.approx(confidence.sum(), abs=1e-3)


def test_calibration_error_of_extremes() -> None:
    certain = torch.eye(3)
    assert measured(certain, torch.tensor([0, 1, 2])).compute()["ece"] == 0
    assert measured(certain, torch.tensor([1, 2, 0])).compute()["ece"] == 100


@pytest.mark.parametrize("step", range(1, ECE_BINS + 1))
def test_a_bin_holds_its_upper_edge(step: int) -> None:
    # 2^-20 is the grain: the edge itself, rounded to it, and the next value above.
    edge = int(step * 2**20 / ECE_BINS) / 2**20
    found = ClassificationMetrics(16)
    for confidence in {edge, min(1.0, edge + 2**-20)}:
        rest = (1 - confidence) / 15
        row = torch.full((1, 16), rest, dtype=torch.float64)
        row[0, 0] = confidence
        found.update(row, torch.tensor([0]))
    expected = np.zeros(ECE_BINS)
    expected[step - 1] += 1
    if step < ECE_BINS:
        expected[step] += 1
    np.testing.assert_array_equal(found.calibration()[0], expected)


@given(
    samples=st.integers(1, 60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    random=st.randoms(use_true_random=False),
)
def test_any_split_over_ranks_gives_the_same_figures(
    samples: int, cuts: list[int], random: Random
) -> None:
    probabilities, labels = predictions(samples, 7, seed=samples)
    whole = measured(probabilities, labels)
    shuffled = list(range(samples))
    random.shuffle(shuffled)
    edges = [0, *sorted(min(cut, samples) for cut in cuts), samples]
    # A rank may have got nothing.
    shares = [shuffled[first:end] for first, end in pairwise(edges)]
    states = [measured(probabilities[share], labels[share]).state() for share in shares]
    assert states[0].dtype == torch.int64
    assert states[0].ndim == 1
    merged = ClassificationMetrics(7)
    merged.load_states(states)
    assert torch.equal(merged.state(), whole.state())
    assert repr(merged.compute()) == repr(whole.compute())
    assert repr(merged.per_class("abcdefg")) == repr(whole.per_class("abcdefg"))


def test_loading_a_state_leaves_the_state_alone() -> None:
    state = measured(*predictions(20, 3, seed=0)).state()
    loaded, kept = ClassificationMetrics(3), state.clone()
    loaded.load_states([state])
    loaded.update(*predictions(20, 3, seed=1))
    assert torch.equal(state, kept)


def test_of_equal_probabilities_the_lower_class_comes_first() -> None:
    even = torch.full((1, 8), 1 / 8)
    ranks = [measured(even, torch.tensor([label])).compute() for label in range(8)]
    assert [figures["top1"] for figures in ranks] == [100] + [0] * 7
    assert [figures["top5"] for figures in ranks] == [100] * 5 + [0] * 3


def test_nothing_measured_is_not_a_number() -> None:
    assert all(np.isnan(value) for value in ClassificationMetrics(3).compute().values())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_predictions_that_are_not_finite_are_an_error(value: float) -> None:
    found = ClassificationMetrics(2)
    with pytest.raises(UserError, match="diverged"):
        found.update(torch.tensor([[1.0, 0.0], [value, 0.5]]), torch.tensor([0, 0]))
    assert not found.state().any()


@pytest.mark.parametrize("label", [-1, 4, 255])
def test_every_label_of_a_scene_is_a_class(label: int) -> None:
    with pytest.raises(ValueError, match=r"within 0\.\.3"):
        measured(torch.eye(4), torch.tensor([0, 1, 2, label]))


@given(st.integers(2, 9), st.integers(0, 200), st.integers(0, 2**32 - 1))
def test_confusion_matrix_agrees_with_sklearn_on_masks(
    classes: int, pixels: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, (2, pixels)).astype(np.uint8)
    truth[random.random(truth.shape) < 0.2] = 255
    predicted = random.integers(0, classes, truth.shape)
    found = ConfusionMatrix(classes)
    for row, guess in zip(truth, predicted, strict=True):
        found.update(torch.from_numpy(guess), torch.from_numpy(row))
    labeled = truth != 255
    matrix = np.zeros((classes, classes))
    if labeled.any():
        matrix = oracle.confusion_matrix(truth[labeled], predicted[labeled], labels=range(classes))
        assert found.accuracy == pytest.approx((truth == predicted)[labeled].mean())
    np.testing.assert_array_equal(found.counts, matrix)


@pytest.mark.parametrize(("predicted", "truth"), [(0, 3), (0, -1), (3, 0), (-1, 2), (0, 254)])
def test_a_class_that_does_not_exist_is_an_error(predicted: int, truth: int) -> None:
    with pytest.raises(ValueError, match=r"within 0\.\.2"):
        ConfusionMatrix(3).update(torch.tensor([1, predicted]), torch.tensor([1, truth]))


def test_a_prediction_counts_only_where_the_truth_is_known() -> None:
    matrix = ConfusionMatrix(3)
    matrix.update(torch.tensor([[0, 255], [2, 7]]), torch.tensor([[0, 255], [1, 255]]))
    assert matrix.counts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
