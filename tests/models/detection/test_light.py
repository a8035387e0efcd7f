import math

import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cgeartheye.boxes import corners_of, overlap
from cgeartheye.models.detection import LightDetector, coder_of
from cgeartheye.models.detection.light import points_of


def random_boxes(count: int, box_dim: int) -> torch.Tensor:
    boxes = torch.rand(count, box_dim)
    boxes[:, 2:4] = boxes[:, 2:4] * 0.4 + 0.02
    if box_dim == 5:
        boxes[:, 4] *= math.pi
    return boxes


@pytest.mark.parametrize("oriented", [False, True])
@pytest.mark.parametrize("side", [4, 7])
def test_every_point_of_three_levels_predicts_a_class_and_a_box(oriented: bool, side: int) -> None:
    torch.manual_seed(0)
    coder = coder_of(oriented)
    detector = LightDetector(8, 2, 3, coder, 16).eval()
    logits, boxes, points = detector([torch.randn(2, 8, side, side) for _ in range(2)])
    half = -(-side // 2)
    count = 4 * side**2 + side**2 + half**2
    assert logits.shape == (2, count, 3)
    assert boxes.shape == (2, count, coder.box_dim)
    assert points.centers.shape == (count, 2)
    assert points.cells.unique().tolist() == pytest.approx([1 / (2 * side), 1 / side, 1 / half])
    # Before anything is learnt a box is around its point, and the chance of a class is small.
    assert ((boxes[..., :2] - points.centers).abs() < 3 * points.cells).all()
    assert 0.003 < logits.sigmoid().mean() < 0.03


def test_points_lie_in_the_middle_of_their_cells() -> None:
    points = points_of([(2, 2), (1, 1)], torch.device("cpu"))
    assert points.centers.tolist() == [
        [0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75], [0.5, 0.5],
    ]  # fmt: skip
    assert points.cells[:, 0].tolist() == [0.5, 0.5, 0.5, 0.5, 1]


def test_what_moves_by_a_patch_is_found_a_patch_further() -> None:
    """Away from the image's edge, and by a whole cell of the coarsest level."""
    torch.manual_seed(0)
    detector = LightDetector(8, 1, 2, coder_of(False), 16).double().eval()
    for norm in detector.modules():  # whose statistics are those of the whole image
        if isinstance(norm, torch.nn.GroupNorm):
            norm.forward = lambda x: x  # type: ignore[method-assign]
    maps = torch.zeros(1, 8, 20, 20, dtype=torch.float64)
    maps[..., 10, 8] = torch.randn(8)
    moved = maps.roll(2, dims=3)
    (here, boxes, _), (there, shifted, _) = detector([maps]), detector([moved])
    fine = 40 * 40
    rows, others = (x[0, :fine].view(40, 40, -1) for x in (here, there))
    torch.testing.assert_close(rows[:, 8:-12], others[:, 12:-8])
    one, other = (x[0, :fine].view(40, 40, -1) for x in (boxes, shifted))
    torch.testing.assert_close(one[:, 8:-12, 2:], other[:, 12:-8, 2:])
    torch.testing.assert_close(one[:, 8:-12, 0] + 0.1, other[:, 12:-8, 0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("oriented", [False, True])
def test_no_offsets_give_a_square_at_the_point(oriented: bool) -> None:
    coder = coder_of(oriented)
    points, sides = torch.tensor([[0.2, 0.6], [0.5, 0.1]]), torch.tensor([[0.1], [0.3]])
    boxes = coder.place(points, sides, torch.zeros(2, coder.num_offsets))
    torch.testing.assert_close(boxes[:, :2], points)
    torch.testing.assert_close(boxes[:, 2:4], sides.expand(2, 2), rtol=2e-3, atol=0)


def test_an_oriented_box_is_the_exponential_of_its_offsets() -> None:
    """Its covariance, with half sides for deviations, is a matrix exponential."""
    torch.manual_seed(0)
    offsets = torch.randn(20, 5, dtype=torch.float64)
    point, side = torch.tensor([[0.5, 0.5]]).double(), torch.tensor([[0.1]]).double()
    boxes = coder_of(True).place(point, side, offsets)
    size, along, across = offsets[:, 2], offsets[:, 3] + 1e-3, offsets[:, 4]
    logs = torch.stack([size + along, across, across, size - along], 1).view(-1, 2, 2)
    expected = torch.linalg.matrix_exp(2 * logs) * 0.05**2
    axes = torch.stack([boxes[:, 4].cos(), boxes[:, 4].sin()], 1)
    normals = torch.stack([-axes[:, 1], axes[:, 0]], 1)
    found = sum(
        (half / 2).square()[:, None, None] * axis[:, :, None] * axis[:, None]
        for half, axis in zip(boxes[:, 2:4].unbind(1), (axes, normals), strict=True)
    )
    torch.testing.assert_close(found, expected)
    assert (boxes[:, 2] >= boxes[:, 3]).all()


def test_a_square_has_a_finite_gradient() -> None:
    offsets = torch.zeros(1, 5, requires_grad=True)
    coder = coder_of(True)
    box = coder.place(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.1]]), offsets)
    loss = coder.overlap_loss(box, torch.tensor([[0.5, 0.5, 0.2, 0.05, 0.7]]))
    (gradient,) = torch.autograd.grad(loss.sum(), offsets)
    assert gradient.isfinite().all()
    assert gradient[0, 3:].norm() > 1e-3  # it begins to turn


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_points_in_a_box_are_those_that_shapely_finds_in_it(seed: int) -> None:
    torch.manual_seed(seed)
    points = torch.rand(40, 2)
    for oriented in (False, True):
        coder = coder_of(oriented)
        boxes = random_boxes(3, coder.box_dim).double()
        inside = (coder.local(points.double(), boxes[:, None]).abs() < 1).all(-1)
        rotated = torch.cat([boxes[:, :4], boxes.new_zeros(3, 1)], 1) if not oriented else boxes
        for box, found in zip(corners_of(rotated), inside, strict=True):
            shape = shapely.Polygon(box.numpy())
            expected = shapely.contains_xy(shape, *points.double().numpy().T)
            assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("oriented", [False, True])
def test_the_overlap_is_that_of_pixels(oriented: bool) -> None:
    torch.manual_seed(0)
    coder = coder_of(oriented)
    first, second = random_boxes(20, coder.box_dim), random_boxes(20, coder.box_dim)
    scale = 800 if not oriented else torch.tensor([800.0, 800, 800, 800, 1])
    pixels = [each * scale for each in (first, second)]
    if not oriented:
        low_high = ((x[:, :2] - x[:, 2:] / 2, x[:, :2] + x[:, 2:] / 2) for x in pixels)
        pixels = [torch.cat(parts, 1) for parts in low_high]
    expected = overlap(*pixels).diagonal()
    torch.testing.assert_close(coder.iou(first, second), expected, rtol=1e-3, atol=1e-4)
