import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss
from torch import Tensor

from cgeartheye.models.segmentation import cross_entropy, dice

CLASSES = 4


def batch(seed: int, unlabeled: float = 0.3) -> tuple[Tensor, Tensor]:
    """No pixel is of class 2."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, CLASSES, 5, 7, generator=generator)
    mask = torch.randint(0, CLASSES, (2, 5, 7), generator=generator)
    mask[mask == 2] = 0
    mask[torch.rand(mask.shape, generator=generator) < unlabeled] = 255
    return logits, mask.to(torch.uint8)


def labeled_rows(logits: Tensor, mask: Tensor) -> tuple[np.ndarray, np.ndarray]:
    rows = logits.double().softmax(1).permute(0, 2, 3, 1)[mask != 255]
    return rows.numpy(), mask[mask != 255].numpy()


@pytest.mark.parametrize("weights", [None, (0.2, 3.0, 5.0, 1.0)])
@given(seed=st.integers(0, 1000))
def test_cross_entropy_agrees_with_sklearn(weights: tuple[float, ...] | None, seed: int) -> None:
    logits, mask = batch(seed)
    rows, truth = labeled_rows(logits, mask)
    if len(set(truth)) < 1:
        return
    pixel_weights = None if weights is None else np.array(weights)[truth]
    expected = log_loss(truth, rows, labels=range(CLASSES), sample_weight=pixel_weights)
    found = cross_entropy(logits, mask, None if weights is None else torch.tensor(weights))
    assert found.item() == pytest.approx(expected, rel=1e-5)


@given(seed=st.integers(0, 1000))
def test_dice_agrees_with_its_definition(seed: int) -> None:
    logits, mask = batch(seed)
    rows, truth = labeled_rows(logits, mask)
    losses = []
    for label in set(truth.tolist()):
        guess, real = rows[:, label], truth == label
        losses.append(1 - 2 * (guess * real).sum() / (guess.sum() + real.sum()))
    assert dice(logits, mask).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_dice_of_right_and_of_wrong() -> None:
    _, mask = batch(0, unlabeled=0)
    right = torch.nn.functional.one_hot(mask.long(), CLASSES).permute(0, 3, 1, 2) * 100.0
    assert dice(right, mask).item() == pytest.approx(0, abs=1e-5)
    assert dice(right.roll(1, dims=1), mask).item() == pytest.approx(1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), loss=st.sampled_from(["plain", "weighted", "dice"]))
def test_what_is_not_labelled_counts_nowhere(seed: int, loss: str) -> None:
    functions = {
        "plain": cross_entropy,
        "weighted": lambda x, y: cross_entropy(x, y, torch.tensor([0.5, 1.0, 1.5, 2.0])),
        "dice": dice,
    }
    logits, mask = batch(seed)
    other = torch.where((mask == 255)[:, None], torch.randn_like(logits) * 9, logits)
    logits.requires_grad_(True)
    value = functions[loss](logits, mask)
    value.backward()
    assert logits.grad is not None
    hidden = logits.grad.abs().sum(1)[mask == 255]
    assert not hidden.any()
    assert functions[loss](other, mask).item() == pytest.approx(value.item(), rel=1e-6)


@pytest.mark.parametrize("weights", [None, torch.ones(CLASSES)])
def test_a_batch_without_labels_costs_nothing(weights: Tensor | None) -> None:
    logits, mask = batch(0)
    logits.requires_grad_(True)
    nothing = torch.full_like(mask, 255)
    loss = cross_entropy(logits, nothing, weights) + dice(logits, nothing)
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_half_precision_is_summed_in_single() -> None:
    logits, mask = batch(3)
    for loss in (cross_entropy, dice):
        found = loss(logits.bfloat16(), mask)
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(loss(logits, mask).item(), rel=2e-2)
