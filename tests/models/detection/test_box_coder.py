import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_convert, generalized_box_iou

from cgeartheye.boxes import canonical, corners_of, kld_loss
from cgeartheye.models.detection.box_coder import HorizontalBoxes, OrientedBoxes, coder_of

HALF_PI = math.pi / 2


def boxes_of(count: int, box_dim: int) -> torch.Tensor:
    boxes = torch.rand(count, box_dim)
    boxes[:, 2:4] = boxes[:, 2:4] * 0.4 + 0.02
    if box_dim == 5:
        boxes[:, 4] *= math.pi
    return boxes


def test_horizontal_boxes_come_back_from_shares() -> None:
    pixels = torch.tensor([[10.0, 20.0, 50.0, 90.0], [0.0, 0.0, 3.0, 2.0]])
    coder = HorizontalBoxes()
    torch.testing.assert_close(coder.decode(coder.encode(pixels, 200), 200), pixels)


def test_horizontal_boxes_end_with_the_image() -> None:
    boxes = torch.tensor([[0.05, 0.5, 0.3, 0.2], [0.9, 0.95, 0.4, 0.4]])
    expected = torch.tensor([[0.0, 40.0, 20.0, 60.0], [70.0, 75.0, 100.0, 100.0]])
    torch.testing.assert_close(coder_of(False).decode(boxes, 100), expected)


def test_oriented_boxes_come_back_from_shares() -> None:
    pixels = torch.tensor([[100.0, 60.0, 50.0, 20.0, 0.3], [10.0, 20.0, 8.0, 7.0, 3.1]])
    coder = OrientedBoxes()
    shares = coder.encode(corners_of(pixels).flatten(-2), 200)
    torch.testing.assert_close(coder.decode(shares, 200), pixels, rtol=1e-4, atol=1e-3)


def test_the_cost_of_horizontal_boxes_is_l1_and_generalised_iou() -> None:
    torch.manual_seed(0)
    found, truth = boxes_of(7, 4), boxes_of(5, 4)
    corners = (box_convert(boxes, "cxcywh", "xyxy") for boxes in (found, truth))
    expected = 5 * torch.cdist(found, truth, p=1) + 2 * (1 - generalized_box_iou(*corners))
    ours = HorizontalBoxes().distance(found[:, None], truth[None])
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("oriented", [False, True])
def test_a_box_that_is_right_costs_nothing(oriented: bool) -> None:
    torch.manual_seed(1)
    coder = coder_of(oriented)
    boxes = boxes_of(9, coder.box_dim)
    assert coder.distance(boxes, boxes).abs().max() < 1e-4
    assert all(loss.abs().max() < 1e-4 for loss in coder.losses(boxes, boxes).values())
    other = boxes_of(9, coder.box_dim)
    assert coder.distance(other, boxes).min() > 0.01


def test_the_loss_of_oriented_boxes_does_not_depend_on_how_they_are_written() -> None:
    torch.manual_seed(2)
    found, truth = boxes_of(20, 5), boxes_of(20, 5)
    other = truth[:, [0, 1, 3, 2, 4]] + torch.tensor([0, 0, 0, 0, HALF_PI])
    around = truth + torch.tensor([0, 0, 0, 0, math.pi])
    coder = OrientedBoxes()
    expected = coder.losses(found, truth)
    for written in (other, around):
        for name, loss in coder.losses(found, written).items():
            torch.testing.assert_close(loss, expected[name], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(
            coder.distance(found, written), coder.distance(found, truth), rtol=1e-3, atol=1e-3
        )


def test_angles_next_to_each_other_over_the_wrap_are_near() -> None:
    truth = torch.tensor([[0.5, 0.5, 0.4, 0.1, 0.01]])
    below = torch.tensor([[0.5, 0.5, 0.4, 0.1, math.pi - 0.01]])
    loss = OrientedBoxes().losses(below, truth)["l1"]
    torch.testing.assert_close(loss, torch.tensor([5 * 0.02 / math.pi]), rtol=1e-3, atol=1e-5)


def test_the_divergence_is_that_of_pixels() -> None:
    torch.manual_seed(3)
    found, truth = boxes_of(6, 5), boxes_of(6, 5)
    scale = torch.tensor([784.0, 784.0, 784.0, 784.0, 1.0])
    expected = 5 * kld_loss(found * scale, truth * scale)
    torch.testing.assert_close(
        OrientedBoxes().losses(found, truth)["kld"], expected, rtol=1e-3, atol=1e-4
    )


def test_boxes_of_a_dense_detector_are_drawn_to_the_truth_until_they_are_there() -> None:
    """A square law near the truth left small objects at an overlap below a half."""
    truth = torch.tensor([[0.5, 0.5, 0.04, 0.02, 0.6]])
    for coder in (OrientedBoxes(), HorizontalBoxes()):
        exact = truth[:, : coder.box_dim]
        change = torch.tensor([[0.001, 0.0005, 0.001, 0.001, 0.01]])[:, : coder.box_dim]
        near, nearer = (coder.overlap_loss(exact + f * change, exact) for f in (1.0, 0.5))
        assert coder.overlap_loss(exact, exact).item() == pytest.approx(0, abs=1e-3)
        assert 0.4 < (nearer / near).item() < 0.6
        smaller = exact.clone(), (exact + change).clone()
        for boxes in smaller:
            boxes[:, :4] *= 0.3
        assert coder.overlap_loss(smaller[1], smaller[0]).item() == pytest.approx(
            near.item(), rel=1e-3
        )


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
    st.floats(0, math.pi),
    st.lists(st.floats(-4, 4), min_size=5, max_size=5),
)
def test_refined_boxes_stay_in_the_image_and_their_gradient_is_finite(
    shares: list[float], angle: float, change: list[float]
) -> None:
    boxes = torch.tensor([[*shares, angle]])
    moved = torch.tensor([change], requires_grad=True)
    for coder in (HorizontalBoxes(), OrientedBoxes()):
        refined = coder.refine(boxes[:, : coder.box_dim], moved[:, : coder.box_dim])
        assert refined[:, :4].min() >= 0
        assert refined[:, :4].max() <= 1
        assert 0 <= refined[0, -1].item() <= math.pi + 1e-6
        (gradient,) = torch.autograd.grad(refined.sum(), moved)
        assert gradient.isfinite().all()


def test_no_change_leaves_a_box_as_it_is() -> None:
    torch.manual_seed(4)
    boxes = boxes_of(8, 5)
    refined = OrientedBoxes().refine(boxes, torch.zeros(8, 5))
    torch.testing.assert_close(canonical(refined), canonical(boxes), rtol=1e-4, atol=1e-4)
