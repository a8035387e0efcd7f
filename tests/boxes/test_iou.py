import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.boxes.boxes import exact_iou, iou, oriented, polygon, some_boxes

from cgeartheye.boxes import (
    areas_of,
    canonical,
    from_horizontal,
    horizontal_of,
    intersection_over_smaller,
    overlap,
    paired_intersection,
    paired_overlap,
    rotated_iou,
)


@given(oriented, oriented)
@settings(deadline=None)
def test_iou_agrees_with_rational_arithmetic(a: torch.Tensor, b: torch.Tensor) -> None:
    found = rotated_iou(a[None], b[None])
    assert found.item() == pytest.approx(exact_iou(a, b), abs=1e-6)


@given(oriented, st.floats(-1e-5, 1e-5), st.sampled_from([0.0, math.pi, -math.pi]))
@settings(deadline=None)
def test_nearly_equal_boxes(box: torch.Tensor, turn: float, wrap: float) -> None:
    """The case in which collected crossing points nearly coincide."""
    other = box.clone()
    other[4] += turn + wrap
    found = rotated_iou(box[None], other[None]).item()
    assert found == pytest.approx(exact_iou(box, other), abs=1e-6)
    equal = rotated_iou(box[None], box[None]).item()
    assert equal == pytest.approx(1.0 if box[2] * box[3] > 0 else 0.0, abs=1e-6)


@given(oriented, oriented)
@settings(deadline=None)
def test_symmetric_and_indifferent_to_the_way_of_writing(a: torch.Tensor, b: torch.Tensor) -> None:
    found = rotated_iou(a[None], b[None])
    torch.testing.assert_close(rotated_iou(b[None], a[None]), found, rtol=0, atol=1e-6)
    written = rotated_iou(canonical(a)[None], canonical(b)[None])
    torch.testing.assert_close(written, found, rtol=0, atol=1e-6)


def test_shared_edges_and_corners() -> None:
    """Slid by half along its side a box covers a third; side by side, nothing."""
    a = some_boxes(200, 50, seed=0)
    step = torch.stack([a[:, 2] * a[:, 4].cos(), a[:, 2] * a[:, 4].sin()], dim=1)
    half, full = a.clone(), a.clone()
    half[:, :2] += step / 2
    full[:, :2] += step
    third = torch.full((200,), 1 / 3, dtype=torch.float64)
    torch.testing.assert_close(paired_overlap(a, half), third)
    assert paired_overlap(a, full).max() < 1e-12


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("offset", [0.0, 1e5, -1e7])
def test_size_and_place_do_not_matter(scale: float, offset: float) -> None:
    """The coordinates far out are those that the type can hold; the IoU is of these."""
    a = some_boxes(30, 40, seed=1)
    a[:, :4] *= scale
    b = a.flip(0)
    expected = rotated_iou(a, b)
    moved = [each + torch.tensor([offset, offset, 0, 0, 0]).double() for each in (a, b)]
    held = abs(offset) * 2**-52 / scale
    torch.testing.assert_close(rotated_iou(*moved), expected, rtol=0, atol=1e-9 + held)


def test_many_at_once_agree_with_shapely_in_single_precision() -> None:
    a, b = some_boxes(60, 120, seed=2).float(), some_boxes(70, 120, seed=3).float()
    found = rotated_iou(a, b)
    assert found.shape == (60, 70)
    assert (found > 0).any()
    assert (found == 0).any()
    for i in range(0, 60, 7):
        for j in range(70):
            assert found[i, j].item() == pytest.approx(iou(a[i], b[j]), abs=1e-9)


@pytest.mark.parametrize("box_dim", [4, 5])
@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_no_boxes(n: int, m: int, box_dim: int) -> None:
    a, b = torch.ones(n, box_dim), torch.ones(m, box_dim)
    assert overlap(a, b).shape == (n, m)
    assert intersection_over_smaller(a, b).shape == (n, m)
    assert paired_intersection(a[:0], b[:0]).shape == (0,)


def test_horizontal_boxes_agree_with_oriented_ones() -> None:
    a = horizontal_of(some_boxes(40, 100, seed=4))
    b = horizontal_of(some_boxes(50, 100, seed=5))
    for measure in (overlap, intersection_over_smaller):
        turned = measure(from_horizontal(a), from_horizontal(b))
        torch.testing.assert_close(measure(a, b), turned)
    point = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    assert overlap(point, point).item() == 0.0


def test_intersection_over_the_smaller() -> None:
    """A quarter cut off a box is wholly inside it."""
    whole = torch.tensor([[50.0, 50.0, 40.0, 20.0, 0.7]])
    part = whole.clone()
    part[:, 2] = 10.0
    part[:, 0] += 15 * math.cos(0.7)
    part[:, 1] += 15 * math.sin(0.7)
    assert overlap(whole, part).item() == pytest.approx(0.25, abs=1e-6)
    assert intersection_over_smaller(whole, part).item() == pytest.approx(1.0, abs=1e-6)
    assert intersection_over_smaller(part, whole).item() == pytest.approx(1.0, abs=1e-6)
    a, b = some_boxes(10, 30, seed=6), some_boxes(10, 30, seed=7)
    common = [
        polygon(one).intersection(polygon(other)).area for one, other in zip(a, b, strict=True)
    ]
    expected = torch.tensor(common).double() / torch.minimum(areas_of(a), areas_of(b))
    torch.testing.assert_close(intersection_over_smaller(a, b).diagonal(), expected)
