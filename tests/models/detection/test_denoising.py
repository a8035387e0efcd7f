import math

import pytest
import torch

from cgeartheye.boxes import from_horizontal, overlap
from cgeartheye.models.detection.denoising import Denoising
from cgeartheye.models.detection.matcher import Targets


def truth_of(counts: list[int], box_dim: int) -> Targets:
    torch.manual_seed(7)
    most = max(counts)
    boxes = torch.rand(len(counts), most, box_dim) * 0.4 + 0.3
    boxes[..., 2:4] *= 0.5
    return Targets(boxes, torch.randint(3, (len(counts), most)), counts)


@pytest.mark.parametrize("counts", [[2, 5], [0, 0], [0, 1], [9, 30], [4, 10]])
def test_queries_are_always_as_many_and_know_what_they_were_made_of(counts: list[int]) -> None:
    truth = truth_of(counts, 4)
    noised = Denoising(3, 8, count=10, label_noise=0.0, box_noise_scale=0.3)(truth, queries=6)
    assert noised.queries.shape == (2, 20, 8)
    assert noised.boxes.shape == (2, 20, 4)
    for image, count in enumerate(counts):
        real = noised.real[image]
        chosen = noised.object[image][noised.positive[image]]
        assert set(chosen.tolist()) <= set(range(count))
        groups = max(1, 10 // max(max(counts), 1))
        assert len(chosen) == groups * min(count, 10)
        assert len(set(chosen.tolist())) == min(count, 10)
        negatives = noised.object[image][real & ~noised.positive[image]]
        assert sorted(negatives.tolist()) == sorted(chosen.tolist())


def test_labels_are_those_of_the_objects_without_noise() -> None:
    truth = truth_of([3, 2], 4)
    denoising = Denoising(3, 8, count=10, label_noise=0.0, box_noise_scale=0.3)
    noised = denoising(truth, queries=6)
    labels = truth.labels.gather(1, noised.object)
    expected = denoising.label_embedding(labels)[noised.real]
    torch.testing.assert_close(noised.queries[noised.real], expected)


def test_about_the_asked_share_of_labels_is_drawn_anew() -> None:
    truth = Targets(torch.rand(1, 1000, 4), torch.zeros(1, 1000, dtype=torch.int64), [1000])
    denoising = Denoising(50, 4, count=1000, label_noise=0.25, box_noise_scale=0.3)
    torch.manual_seed(0)
    queries = denoising(truth, queries=1).queries
    kept = (queries == denoising.label_embedding.weight[0]).all(-1).float().mean()
    assert 0.7 < float(kept) < 0.8


@pytest.mark.parametrize("box_dim", [4, 5])
def test_positives_lie_nearer_than_negatives(box_dim: int) -> None:
    truth = truth_of([40], box_dim)
    noised = Denoising(3, 8, count=200, label_noise=0.0, box_noise_scale=0.5)(truth, queries=6)
    made_of = truth.boxes[0][noised.object[0]]
    boxes, positive, real = noised.boxes[0], noised.positive[0], noised.real[0]
    if box_dim == 4:
        pairs = [
            from_horizontal(torch.cat([b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2], 1))
            for b in (boxes, made_of)
        ]
    else:
        pairs = [boxes, made_of]
    iou = overlap(
        pairs[0] * torch.tensor([1e3] * 4 + [1.0]), pairs[1] * torch.tensor([1e3] * 4 + [1.0])
    ).diagonal()
    assert iou[positive].mean() > iou[real & ~positive].mean() + 0.2
    assert iou[positive].min() > 0.2
    if box_dim == 5:
        turn = (boxes[:, 4] - made_of[:, 4]).abs()
        turn = torch.minimum(turn, math.pi - turn)
        assert turn[positive].max() <= 0.5 * math.pi / 12 + 1e-5
        assert turn[real].max() <= math.pi / 12 + 1e-5
    else:
        sides = (boxes[:, 2:] - made_of[:, 2:]).abs() / made_of[:, 2:]
        assert sides[positive].max() <= 0.5 + 1e-5


def test_groups_see_themselves_and_the_other_queries_see_none() -> None:
    truth = truth_of([2, 3], 4)
    noised = Denoising(3, 8, count=10, label_noise=0.0, box_noise_scale=0.3)(truth, queries=4)
    attn_mask = noised.attn_mask
    assert attn_mask.shape == (24, 24)
    assert attn_mask[20:, :20].all()
    assert not attn_mask[20:, 20:].any()
    assert not attn_mask[:20, 20:].any()
    group = torch.arange(20) // 6
    assert torch.equal(~attn_mask[:20, :20], group[:, None] == group)
