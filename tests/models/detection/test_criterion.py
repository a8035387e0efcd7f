import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cgeartheye.models.detection.box_coder import coder_of
from cgeartheye.models.detection.criterion import Outputs, set_criterion
from cgeartheye.models.detection.dino_detr import DINO
from cgeartheye.models.detection.matcher import Targets, _costs, match, pad_targets


def truth_of(counts: list[int], box_dim: int, classes: int = 3) -> Targets:
    boxes = torch.rand(len(counts), max(counts), box_dim) * 0.5 + 0.1
    return Targets(boxes, torch.randint(classes, (len(counts), max(counts))), counts)


@pytest.mark.parametrize("oriented", [False, True])
def test_the_assignment_is_the_cheapest_of_all(oriented: bool) -> None:
    torch.manual_seed(0)
    coder = coder_of(oriented)
    truth = truth_of([3, 0, 1], coder.box_dim)
    logits, boxes = torch.randn(2, 3, 5, 3), torch.rand(2, 3, 5, coder.box_dim)
    pairs = match(logits, boxes, truth, coder)
    costs = _costs(logits, boxes, truth, coder)
    assert len(pairs.layer) == 2 * 4
    for layer, image in itertools.product(range(2), range(3)):
        mine = (pairs.layer == layer) & (pairs.image == image)
        queries, objects = pairs.query[mine], pairs.object[mine]
        assert sorted(objects.tolist()) == list(range(truth.counts[image]))
        paid = costs[layer, image, queries, objects].sum()
        least = min(
            sum(float(costs[layer, image, q, n]) for n, q in enumerate(chosen))
            for chosen in itertools.permutations(range(5), truth.counts[image])
        )
        assert float(paid) == pytest.approx(least, rel=1e-5, abs=1e-5)


def test_of_more_objects_than_queries_the_cheapest_are_matched() -> None:
    torch.manual_seed(0)
    coder = coder_of(False)
    truth = truth_of([4], coder.box_dim)
    logits, boxes = torch.randn(1, 1, 2, 3), torch.rand(1, 1, 2, 4)
    pairs = match(logits, boxes, truth, coder)
    costs = _costs(logits, boxes, truth, coder)[0, 0]
    assert sorted(pairs.query.tolist()) == [0, 1]
    least = min(costs[0, a] + costs[1, b] for a, b in itertools.permutations(range(4), 2))
    torch.testing.assert_close(costs[pairs.query, pairs.object].sum(), least)


def test_nothing_to_find_matches_nothing() -> None:
    coder = coder_of(False)
    nothing = pad_targets([torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)], coder, 56)
    pairs = match(torch.randn(1, 1, 5, 2), torch.rand(1, 1, 5, 4), nothing, coder)
    assert all(len(part) == 0 for part in pairs)


def test_outputs_that_are_no_numbers_are_still_matched() -> None:
    coder = coder_of(True)
    truth = truth_of([2], 5)
    pairs = match(torch.full((1, 1, 4, 3), torch.nan), torch.rand(1, 1, 4, 5), truth, coder)
    assert len(pairs.query) == 2


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """The focal loss as its paper has it (Lin et al. 2017, equation 5), in double precision."""
    right = torch.where(targets > 0, logits.double(), -logits.double())
    balance = torch.where(targets > 0, 0.25, 0.75)
    return -balance * (1 - right.sigmoid()) ** 2 * F.logsigmoid(right)


@pytest.mark.parametrize("oriented", [False, True])
def test_the_losses_are_those_of_a_plain_loop(oriented: bool) -> None:
    torch.manual_seed(0)
    coder = coder_of(oriented)
    truth = truth_of([2, 0, 4], coder.box_dim)
    logits, boxes = torch.randn(3, 3, 6, 3), torch.rand(3, 3, 6, coder.box_dim)
    none = logits.new_zeros(2, 3, 0, 3), boxes.new_zeros(2, 3, 0, coder.box_dim)
    ours = set_criterion(Outputs(logits, boxes, None, *none), truth, coder, 6.0, 1.0)
    expected = dict.fromkeys(ours, 0.0)
    pairs = match(logits, boxes, truth, coder)
    for layer, image in itertools.product(range(3), range(3)):
        targets = torch.zeros(6, 3)
        for at, im, query, thing in zip(*(part.tolist() for part in pairs), strict=True):
            if (at, im) == (layer, image):
                targets[query, truth.labels[image, thing]] = 1
                parts = coder.losses(boxes[layer, image, query], truth.boxes[image, thing])
                for name, loss in parts.items():
                    expected[name] += float(loss) / 6
        focals = focal(logits[layer, image], targets)
        expected["class"] += float(focals.sum()) / 6
    assert {name: float(loss) for name, loss in ours.items()} == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("oriented", [False, True])
@pytest.mark.parametrize("counts", [[0, 0], [3, 1], [0, 15], [25, 0]])
@pytest.mark.parametrize("encoder_layers", [0, 1])
def test_every_weight_gets_a_finite_gradient_whatever_there_is_to_find(
    oriented: bool, counts: list[int], encoder_layers: int
) -> None:
    """DDP waits for the gradient of every weight, so images without objects must give one too."""
    torch.manual_seed(0)
    coder = coder_of(oriented)
    detector = DINO(
        8,
        3,
        coder,
        channels=16,
        queries=20,
        layers=(encoder_layers, 2),
        heads=2,
        ffn_dim=16,
        num_dn_queries=5,
    )
    truth = (
        truth_of(counts, coder.box_dim)
        if max(counts)
        else Targets(torch.zeros(2, 0, coder.box_dim), torch.zeros(2, 0, dtype=torch.int64), counts)
    )
    maps = [torch.randn(2, 8, 4, 4) for _ in range(3)]
    outputs = detector.training_outputs(maps, truth)
    losses = set_criterion(outputs, truth, coder, 4.0, 4.0)
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
