import pytest
import torch
import torch.nn.functional as F

from cgeartheye.models.detection import LightDetector, Targets, aligned_losses, assign, coder_of
from cgeartheye.models.detection.light import Points, points_of
from cgeartheye.models.detection.task_alignment import ALPHA, BETA, TOP

SHAPES = [(8, 8), (4, 4), (2, 2)]
COUNT = 84


def truth_of(counts: list[int], box_dim: int, classes: int = 3) -> Targets:
    boxes = torch.rand(len(counts), max(counts), box_dim) * 0.4 + 0.2
    return Targets(boxes, torch.randint(classes, (len(counts), max(counts))), counts)


def random_preds(batch: int, box_dim: int) -> tuple[torch.Tensor, torch.Tensor, Points]:
    points = points_of(SHAPES, torch.device("cpu"))
    boxes = torch.rand(batch, COUNT, box_dim) * 0.3 + 0.1
    boxes[..., :2] = points.centers + 0.1 * torch.randn(batch, COUNT, 2)
    return torch.randn(batch, COUNT, 3), boxes, points


@pytest.mark.parametrize("oriented", [False, True])
def test_the_assignment_is_that_of_a_plain_loop(oriented: bool) -> None:
    torch.manual_seed(0)
    coder = coder_of(oriented)
    truth = truth_of([5, 0, 2], coder.box_dim)
    logits, boxes, points = random_preds(3, coder.box_dim)
    expected = {}
    for image, count in enumerate(truth.counts):
        asked: dict[int, list[tuple[float, int, float]]] = {}
        for number in range(count):
            box, label = truth.boxes[image, number], truth.labels[image, number]
            candidates = []
            for point, (center, cell) in enumerate(zip(points.centers, points.cells, strict=True)):
                near = (center - box[:2]).abs().max() < cell
                if not near and coder.local(center, box).abs().max() >= 1:
                    continue
                iou = max(float(coder.iou(boxes[image, point][None], box[None])), 0.05)
                score = float(logits[image, point, label].sigmoid())
                candidates.append((score**ALPHA * iou**BETA, point, iou))
            for alignment, point, iou in sorted(candidates, reverse=True)[:TOP]:
                asked.setdefault(point, []).append((alignment, number, iou))
        winners = {
            point: max(offers, key=lambda offer: (offer[0], -offer[1]))
            for point, offers in asked.items()
        }
        for point, (alignment, number, _) in winners.items():
            mine = [offer for offer in winners.values() if offer[1] == number]
            most, best = max(offer[0] for offer in mine), max(offer[2] for offer in mine)
            expected[image, point] = (number, alignment / most * best)
    found = assign(logits, boxes, points, truth, coder)
    ours = {
        (image, point): (number, quality)
        for image, point, number, quality in zip(*(part.tolist() for part in found), strict=True)
    }
    assert ours.keys() == expected.keys()
    for key, (number, quality) in expected.items():
        assert ours[key] == (number, pytest.approx(quality, rel=1e-3))


def test_the_smallest_object_has_points_too() -> None:
    coder = coder_of(True)
    speck = torch.tensor([[[0.501, 0.49, 1e-3, 1e-3, 0.3]]])
    truth = Targets(speck, torch.tensor([[1]]), [1])
    logits, boxes, points = random_preds(1, 5)
    found = assign(logits, boxes, points, truth, coder)
    assert len(found.point) >= 4
    assert found.quality.min() > 0


def test_exact_predictions_have_a_quality_of_one() -> None:
    torch.manual_seed(0)
    coder = coder_of(False)
    truth = truth_of([1], 4)
    logits, boxes, points = random_preds(1, 4)
    best = int((points.centers - truth.boxes[0, 0, :2]).abs().sum(1).argmin())
    boxes[0, best], logits[0, best] = truth.boxes[0, 0], 5.0
    found = assign(logits, boxes, points, truth, coder)
    assert found.point[found.quality.argmax()] == best
    assert float(found.quality.max()) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("oriented", [False, True])
def test_the_losses_are_those_of_a_plain_loop(oriented: bool) -> None:
    torch.manual_seed(0)
    coder = coder_of(oriented)
    truth = truth_of([2, 0], coder.box_dim)
    logits, boxes, points = random_preds(2, coder.box_dim)
    found = assign(logits, boxes, points, truth, coder)
    ours = aligned_losses(logits, boxes, found, truth, coder, 3.0)
    target, box_loss = torch.zeros(2, COUNT, 3), 0.0
    for image, point, number, quality in zip(*(part.tolist() for part in found), strict=True):
        target[image, point, truth.labels[image, number]] = quality
        apart = coder.overlap_loss(boxes[image, point], truth.boxes[image, number])
        box_loss += quality * float(apart) / 3
    chances = logits.sigmoid()
    entropy = F.binary_cross_entropy(chances, target, reduction="none")
    expected = float(((chances - target).square() * entropy).sum()) / 3
    assert float(ours["class"]) == pytest.approx(expected, rel=1e-4)
    assert float(ours["box"]) == pytest.approx(box_loss, rel=1e-4)


@pytest.mark.parametrize("oriented", [False, True])
@pytest.mark.parametrize("counts", [[0, 0], [3, 1]])
def test_every_weight_gets_a_finite_gradient_whatever_there_is_to_find(
    oriented: bool, counts: list[int]
) -> None:
    torch.manual_seed(0)
    coder = coder_of(oriented)
    detector = LightDetector(8, 2, 3, coder, 16)
    if max(counts):
        truth = truth_of(counts, coder.box_dim)
    else:
        truth = Targets(torch.zeros(2, 0, coder.box_dim), torch.zeros(2, 0).long(), counts)
    logits, boxes, points = detector([torch.randn(2, 8, 4, 4) for _ in range(2)])
    found = assign(logits, boxes, points, truth, coder)
    losses = aligned_losses(logits, boxes, found, truth, coder, 1.0)
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
