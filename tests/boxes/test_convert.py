import math
from itertools import permutations

import numpy as np
import pytest
import shapely
import shapely.affinity
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.boxes.boxes import coordinates, oriented, polygon, some_boxes

import cgeartheye.boxes.convert as convert_module
from cgeartheye.boxes import (
    canonical,
    corners_of,
    from_horizontal,
    horizontal_of,
    oriented_around,
    oriented_of,
)


def is_canonical(boxes: torch.Tensor) -> bool:
    w, h, angle = boxes[..., 2], boxes[..., 3], boxes[..., 4]
    return bool(((w >= h) & (h >= 0) & (angle >= 0) & (angle < math.pi)).all())


def same_rectangle(a: torch.Tensor, b: torch.Tensor, within: float) -> bool:
    """Two boxes whose corners are the same points, whatever the order."""
    distances = torch.cdist(corners_of(a), corners_of(b))
    return max(distances.min(0).values.max().item(), distances.min(1).values.max().item()) <= within


def test_order_and_direction_of_corners() -> None:
    """Angle 90 degrees turns the side w down the screen."""
    box = torch.tensor([10.0, 20.0, 6.0, 2.0, 0.0])
    expected = [[7.0, 19.0], [13.0, 19.0], [13.0, 21.0], [7.0, 21.0]]
    assert corners_of(box).tolist() == expected
    box[4] = math.pi / 2
    expected = [[11.0, 17.0], [11.0, 23.0], [9.0, 23.0], [9.0, 17.0]]
    torch.testing.assert_close(corners_of(box), torch.tensor(expected))


@given(oriented)
@settings(deadline=None)
def test_corners_agree_with_shapely(box: torch.Tensor) -> None:
    # shapely.box starts at another corner: the points are compared as a set, in order of angle.
    ours = shapely.Polygon(corners_of(box).numpy())
    assert ours.hausdorff_distance(polygon(box)) < 1e-9


@given(oriented)
@settings(deadline=None)
def test_canonical_is_the_same_rectangle_and_stays(box: torch.Tensor) -> None:
    for each in (box, box.float()):
        found = canonical(each)
        assert is_canonical(found)
        assert same_rectangle(found, each, 1e-9 if each.dtype == torch.float64 else 1e-3)
        assert torch.equal(canonical(found), found)


@pytest.mark.parametrize("angle", [-1e-20, -1e-9, math.pi, -math.pi, 2 * math.pi, 1e4])
def test_angles_at_the_wrap(angle: float) -> None:
    for dtype in (torch.float32, torch.float64):
        assert is_canonical(canonical(torch.tensor([0, 0, 4, 2, angle], dtype=dtype)))


@given(oriented)
@settings(max_examples=50, deadline=None)
def test_corners_in_any_order_give_the_box(box: torch.Tensor) -> None:
    orders = torch.tensor(list(permutations(range(4))))
    found = oriented_of(corners_of(box)[orders])
    assert found.shape == (24, 5)
    assert is_canonical(found)
    for each in found:
        assert same_rectangle(each, box, 1e-9)
    if box[2] > box[3] * 1.01 + 1e-4:
        turn = (found[:, 4] - box[4]) / math.pi
        torch.testing.assert_close(turn, turn.round(), rtol=0, atol=1e-6)


# Of coordinates like 1e-236 shapely's smallest rectangle is a line.
pixels = st.floats(-50, 50).map(lambda value: round(value, 9))


@given(st.lists(st.tuples(pixels, pixels), min_size=4, max_size=4))
@settings(deadline=None)
def test_any_four_points_agree_with_shapely(points: list[tuple[float, float]]) -> None:
    found = oriented_of(torch.tensor(points, dtype=torch.float64))
    smallest = shapely.oriented_envelope(shapely.MultiPoint(points))
    assert is_canonical(found)
    assert torch.isfinite(found).all()
    assert found[2] * found[3] == pytest.approx(smallest.area, rel=1e-6, abs=1e-6)
    assert polygon(found).buffer(1e-6).covers(shapely.MultiPoint(points))


def test_degenerate_corners() -> None:
    point = torch.tensor([[3.0, 4.0]]).expand(4, 2)
    assert oriented_of(point).tolist() == [3.0, 4.0, 0.0, 0.0, 0.0]
    line = torch.tensor([[0.0, 0.0], [1.0, 1.0], [3.0, 3.0], [2.0, 2.0]])
    expected = torch.tensor([1.5, 1.5, math.sqrt(18), 0.0, math.pi / 4])
    torch.testing.assert_close(oriented_of(line), expected, rtol=0, atol=1e-5)
    assert oriented_of(torch.zeros(0, 4, 2)).shape == (0, 5)


def test_far_from_the_origin() -> None:
    """A scene's pixels run to 100,000; float64 in between keeps float32's own precision."""
    boxes = canonical(some_boxes(100, 500, seed=0)) + torch.tensor([1e5, 1e5, 0, 0, 0])
    found = oriented_of(corners_of(boxes))
    for one, other in zip(found, boxes, strict=True):
        assert same_rectangle(one, other, 1e-8)


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=30))
@settings(deadline=None)
def test_outlines_agree_with_shapely(points: list[tuple[float, float]]) -> None:
    (found,) = oriented_around([torch.tensor(points, dtype=torch.float64)])
    smallest = shapely.oriented_envelope(shapely.MultiPoint(points))
    assert is_canonical(found)
    assert found[2] * found[3] == pytest.approx(smallest.area, rel=1e-6, abs=1e-6)
    assert polygon(found).buffer(1e-6).covers(shapely.MultiPoint(points))


def test_outline_of_a_rectangle_is_the_rectangle() -> None:
    boxes = canonical(some_boxes(20, 100, seed=1))
    around = [torch.from_numpy(coordinates(polygon(box).segmentize(1.5))) for box in boxes]
    for found, box in zip(oriented_around(around), boxes, strict=True):
        assert same_rectangle(found, box, 1e-9)


def test_each_outline_has_its_own_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any number of points, at any place among others, few or many at once."""
    random = np.random.default_rng(0)
    outlines = [torch.from_numpy(random.normal(1e4, 9, (n % 23 + 1, 2))) for n in range(60)]
    outlines[5] = outlines[4][:1].expand(7, 2)  # equal points
    outlines[6] = outlines[4][:1] * torch.linspace(1, 2, 5)[:, None]  # on a line
    together = oriented_around(outlines)
    assert is_canonical(together)
    for found, points in zip(together, outlines, strict=True):
        smallest = shapely.oriented_envelope(shapely.MultiPoint(points.numpy()))
        assert found[2] * found[3] == pytest.approx(smallest.area, rel=1e-6, abs=1e-6)
        assert polygon(found).buffer(1e-6).covers(shapely.MultiPoint(points.numpy()))
    monkeypatch.setattr(convert_module, "_PRODUCTS_AT_ONCE", 20)
    torch.testing.assert_close(oriented_around(outlines), together, rtol=0, atol=0)
    assert oriented_around([]).shape == (0, 5)


@given(oriented)
@settings(deadline=None)
def test_horizontal_boxes(box: torch.Tensor) -> None:
    horizontal = horizontal_of(box)
    np.testing.assert_allclose(horizontal, polygon(box).bounds, atol=1e-9)
    back = from_horizontal(horizontal)
    assert is_canonical(back)
    torch.testing.assert_close(horizontal_of(back), horizontal)
