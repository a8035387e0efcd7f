import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.boxes.boxes import some_boxes
from torchvision import ops

from cgeartheye.boxes import Detections, horizontal_of, nms, overlap

nms_module = importlib.import_module("cgeartheye.boxes.nms")  # the package has the function


def brute_force(preds: Detections, threshold: float) -> Detections:
    order = sorted(range(len(preds)), key=lambda index: (-preds.scores[index].item(), index))
    over = overlap(preds.boxes, preds.boxes) > threshold
    stay: list[int] = []
    for index in order:
        rivals = [one for one in stay if preds.labels[one] == preds.labels[index]]
        if not any(over[one, index] for one in rivals):
            stay.append(index)
    return preds[torch.tensor(stay, dtype=torch.int64)]


def some(count: int, extent: float, seed: int, *, horizontal: bool) -> Detections:
    """Boxes of three classes whose scores have ties."""
    generator = torch.Generator().manual_seed(seed)
    boxes = some_boxes(count, extent, seed).float()
    scores = torch.randint(0, 50, (count,), generator=generator) / 50
    labels = torch.randint(0, 3, (count,), generator=generator)
    return Detections(horizontal_of(boxes) if horizontal else boxes, scores, labels)


def same(a: Detections, b: Detections) -> bool:
    return (
        torch.equal(a.boxes, b.boxes)
        and torch.equal(a.scores, b.scores)
        and torch.equal(a.labels, b.labels)
    )


@given(
    seed=st.integers(0, 1000),
    count=st.integers(0, 120),
    extent=st.sampled_from([1.0, 40.0, 300.0]),
    threshold=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    horizontal=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_as_brute_force(
    seed: int, count: int, extent: float, threshold: float, horizontal: bool
) -> None:
    preds = some(count, extent, seed, horizontal=horizontal)
    assert same(nms(preds, threshold), brute_force(preds, threshold))


def test_any_block_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes beaten within a block, by an earlier block, and by ones that are themselves beaten."""
    preds = some(600, 150, seed=0, horizontal=False)
    expected = brute_force(preds, 0.2)
    assert 0 < len(expected) < 600
    for block, looked_up in ((1, 1), (7, 3), (64, 64), (1000, 5)):
        monkeypatch.setattr(nms_module, "_BLOCK", block)
        monkeypatch.setattr(nms_module, "_LOOKED_UP", looked_up)
        assert same(nms(preds, 0.2), expected)


def test_horizontal_agrees_with_torchvision() -> None:
    preds = some(400, 150, seed=1, horizontal=True)
    for label in range(3):
        one = preds[preds.labels == label]
        stay = ops.nms(one.boxes, one.scores + torch.arange(len(one)).flip(0) * 1e-6, 0.3)
        assert torch.equal(nms(one, 0.3).boxes, one.boxes[stay])


def test_boxes_without_area_stay() -> None:
    boxes = torch.tensor([[5.0, 5.0, 0.0, 0.0, 0.0]]).repeat(3, 1)
    preds = Detections(boxes, torch.tensor([0.1, 0.3, 0.2]), torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(nms(preds, 0.5).scores, torch.tensor([0.3, 0.2, 0.1]))


def test_many_boxes_need_no_matrix_of_pairs() -> None:
    """With each pair in a matrix of bytes this alone would take 3.6 GB."""
    boxes = some_boxes(60_000, 60_000, seed=2).float()
    boxes[30_000:] = boxes[:30_000]
    scores = torch.linspace(1, 0, 60_000)
    stay = nms(Detections(boxes, scores, torch.zeros(60_000, dtype=torch.int64)), 0.999)
    assert len(stay) == 30_000
    assert torch.equal(stay.boxes, boxes[:30_000])
