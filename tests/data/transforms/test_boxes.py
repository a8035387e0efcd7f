"""Boxes move with what they are around: drawn objects, cut boxes, seeds."""

import math

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from torchvision import tv_tensors

from cgeartheye.boxes import corners_of, horizontal_of, oriented_of
from cgeartheye.data.transforms.boxes import box_transform, cut_boxes, eval_scale, eval_view
from cgeartheye.data.transforms.image import seeded, uniform

SIZE = 112


def draw(box: list[float], height: int, width: int) -> torch.Tensor:
    """A filled rectangle, white on black, its edges smooth: uint8 `[3, H, W]`."""
    finer = 8
    picture = Image.new("L", (width * finer, height * finer))
    corners = corners_of(torch.tensor(box, dtype=torch.float64)) * finer - 0.5
    ImageDraw.Draw(picture).polygon([tuple(corner) for corner in corners.tolist()], fill=255)
    gray = picture.resize((width, height), Image.Resampling.BOX)
    return torch.from_numpy(np.array(gray)).expand(3, -1, -1).contiguous()


def boxes_like(box: list[float], oriented: bool, height: int, width: int):
    five = torch.tensor([box])
    data = corners_of(five).flatten(1) if oriented else horizontal_of(five)
    kind = "XYXYXYXY" if oriented else "XYXY"
    return tv_tensors.BoundingBoxes(data, format=kind, canvas_size=(height, width))


def measured(image: torch.Tensor) -> torch.Tensor:
    """The drawn rectangle as the moments of its pixels have it: cx, cy, w, h, angle."""
    mass = image[0].double().numpy() / 255
    rows, columns = np.mgrid[: mass.shape[0], : mass.shape[1]] + 0.5
    total = mass.sum()
    cx, cy = (columns * mass).sum() / total, (rows * mass).sum() / total
    x, y = columns - cx, rows - cy
    spread = [[(a * b * mass).sum() / total for a in (x, y)] for b in (x, y)]
    (short, long), axes = np.linalg.eigh(spread)
    angle = math.atan2(axes[1, 1], axes[0, 1]) % math.pi
    return torch.tensor([cx, cy, math.sqrt(12 * long), math.sqrt(12 * short), angle])


def view(
    flips="all", scale=(0.5, 2.0), min_visibility=0.3, min_box_size=0.0, resize=True, **options
):
    return box_transform(
        SIZE, resize, scale, flips, options.get("color_jitter", False), min_visibility, min_box_size
    )


def run(transform, seed, image, boxes, labels=None, ignored=None):
    count = len(boxes)
    labels = torch.arange(count) if labels is None else labels
    ignored = torch.zeros(count, dtype=torch.bool) if ignored is None else ignored
    with seeded(seed):
        return transform(tv_tensors.Image(image), boxes, labels, ignored)


@pytest.mark.parametrize("oriented", [True, False])
@pytest.mark.parametrize("angle", [0.0, 0.4, 1.1, math.pi / 2, 2.0, 2.9])
def test_a_box_stays_on_its_object_through_every_flip_turn_and_resize(oriented, angle):
    box = [75.0, 52.0, 40.0, 16.0, angle]
    image, transform = draw(box, 110, 150), view(scale=(0.55, 0.95))
    turned = set()
    for seed in range(24):
        crop, boxes, labels, _ = run(transform, seed, image, boxes_like(box, oriented, 110, 150))
        assert crop.shape == (3, SIZE, SIZE)
        assert crop.dtype == torch.uint8
        assert boxes.dtype == torch.float32
        assert labels.tolist() == [0]
        truth = measured(crop)
        if oriented:
            (found,) = oriented_of(boxes.as_subclass(torch.Tensor).unflatten(1, (4, 2)))
            apart = (found[4] - truth[4] + math.pi / 2) % math.pi - math.pi / 2
            assert abs(apart) < math.radians(1.5)
            assert (found[:4] - truth[:4]).abs().max() < 0.5
            turned.add(round(math.degrees(float(found[4])) / 10) % 18)
        else:
            rows, columns = (crop[0] > 127).nonzero().unbind(1)
            x0, y0, x1, y1 = boxes[0].tolist()
            sides = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            # The tip of a turned rectangle covers less than half of its pixel.
            assert np.abs(np.array([x0, y0, x1, y1]) - np.array(sides)).max() < 1.6
    if oriented:
        # All 8 symmetries give 4 directions, 2 of a box along the rows or columns.
        assert len(turned) == (2 if angle in (0.0, math.pi / 2) else 4)


@pytest.mark.parametrize(("flips", "count"), [("horizontal", 2), ("both", 4), ("all", 8)])
def test_flips_are_those_that_were_asked_for_and_equally_likely(flips, count):
    image = torch.arange(3 * SIZE * SIZE).remainder(251).reshape(3, SIZE, SIZE).to(torch.uint8)
    boxes = boxes_like([30.0, 50.0, 20.0, 10.0, 0.3], True, SIZE, SIZE)
    transform = view(flips, scale=(1.0, 1.0))
    seen: dict[bytes, int] = {}
    for seed in range(400):
        crop = run(transform, seed, image, boxes)[0]
        seen[crop.numpy().tobytes()] = seen.get(crop.numpy().tobytes(), 0) + 1
    mirrored = [image, image.flip(-1), image.flip(-2), image.flip(-1, -2)]
    every = [*mirrored, *(each.mT for each in mirrored)][:count]
    assert set(seen) == {each.contiguous().numpy().tobytes() for each in every}
    assert min(seen.values()) > 0.6 * 400 / count


def test_a_crop_depends_on_its_seed_alone():
    box = [75.0, 52.0, 40.0, 16.0, 0.4]
    image, boxes = draw(box, 110, 150), boxes_like(box, True, 110, 150)
    transform = view(color_jitter=True)
    first = [run(transform, seed, image, boxes) for seed in (1, 2)]
    torch.rand(5)
    again = [run(transform, seed, image, boxes) for seed in (2, 1)][::-1]
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(first[0][0], first[1][0])


def test_what_is_given_is_not_changed():
    box = [75.0, 52.0, 40.0, 16.0, 0.4]
    image, boxes = draw(box, 110, 150), boxes_like(box, True, 110, 150)
    before = image.clone(), boxes.clone()
    for seed in range(8):
        run(view(color_jitter=True), seed, image, boxes)
    assert torch.equal(image, before[0])
    assert torch.equal(boxes, before[1])


# Boxes that a crop cuts

NUMBERS = st.floats(-60, 160)
SIDES = st.floats(1, 120)
FIVES = st.tuples(NUMBERS, NUMBERS, SIDES, SIDES, st.floats(0, 3.1))
WIDE, HIGH = 100, 70
CANVAS = shapely.box(0, 0, WIDE, HIGH)


def polygon(corners: torch.Tensor) -> shapely.Polygon:
    return shapely.Polygon(corners.double().reshape(4, 2).numpy())


@settings(deadline=None, max_examples=150)
@given(st.lists(FIVES, min_size=1, max_size=6))
def test_a_cut_rectangle_is_the_smallest_of_its_direction_around_what_is_seen(fives):
    boxes = torch.tensor(fives)
    corners = corners_of(boxes)
    cut, share = cut_boxes(corners.flatten(1), HIGH, WIDE)
    for five, before, after, seen in zip(boxes, corners, cut, share, strict=True):
        whole, angle = polygon(before), float(five[4])
        part = whole.intersection(CANVAS)
        assert seen == pytest.approx(part.area / whole.area, abs=1e-4)
        if seen < 1e-3:
            continue
        # Turned along the axes, the smallest is the bounds.
        upright = [
            shapely.affinity.rotate(shape, -angle, origin=(0, 0), use_radians=True)
            for shape in (polygon(after), part)
        ]
        assert upright[0].bounds == pytest.approx(upright[1].bounds, abs=2e-3)
        assert polygon(after).area <= whole.area * 1.001
        center = after.reshape(4, 2).mean(0)
        assert -1e-3 <= center[0] <= WIDE + 1e-3
        assert -1e-3 <= center[1] <= HIGH + 1e-3


@settings(deadline=None, max_examples=100)
@given(st.lists(FIVES, min_size=1, max_size=6))
def test_a_cut_horizontal_box_is_what_is_seen(fives):
    boxes = horizontal_of(torch.tensor(fives))
    cut, share = cut_boxes(boxes, HIGH, WIDE)
    for before, after, seen in zip(boxes, cut, share, strict=True):
        whole = shapely.box(*before.double().tolist())
        part = whole.intersection(CANVAS)
        assert seen == pytest.approx(part.area / whole.area, abs=1e-4)
        if part.area > 1e-3:
            assert after.tolist() == pytest.approx(part.bounds, abs=1e-4)


def test_boxes_without_area_are_never_seen():
    flat = torch.tensor([[10.0, 10, 30, 10, 30, 10, 10, 10], [5, 5, 5, 5, 5, 5, 5, 5]])
    line = torch.tensor([[-5.0, 20, 30, 20, 30, 20, -5, 20]])
    for boxes in (flat, line, flat[:, :4], torch.tensor([[300.0, 300, 300, 300]])):
        assert (cut_boxes(boxes, HIGH, WIDE)[1] == 0).all()
    for width in (4, 8):
        cut, share = cut_boxes(torch.zeros(0, width), HIGH, WIDE)
        assert cut.shape == (0, width)
        assert share.shape == (0,)


@settings(deadline=None, max_examples=60)
@given(st.lists(FIVES, max_size=6), st.integers(0, 2**31), st.booleans())
def test_a_crop_keeps_what_is_visible_and_large_enough(fives, seed, oriented):
    """Every box of a crop was there before, is within, and none that is seen is missing."""
    boxes = torch.tensor(fives).reshape(-1, 5)
    data = corners_of(boxes).flatten(1) if oriented else horizontal_of(boxes)
    kind = "XYXYXYXY" if oriented else "XYXY"
    given_boxes = tv_tensors.BoundingBoxes(data, format=kind, canvas_size=(HIGH, WIDE))
    transform = view(min_visibility=0.5, min_box_size=6.0, resize=False)
    ignored = torch.arange(len(boxes)) % 2 == 1
    crop, kept, labels, flags = run(
        transform, seed, torch.zeros(3, HIGH, WIDE, dtype=torch.uint8), given_boxes, None, ignored
    )
    assert crop.shape == (3, SIZE, SIZE)
    assert kept.canvas_size == (SIZE, SIZE)
    assert kept.format.name == kind
    assert len(kept) == len(labels) == len(flags)
    assert torch.equal(flags, ignored[labels])
    points = kept.as_subclass(torch.Tensor).unflatten(1, (-1, 2))
    if oriented:
        centers, sides = points.mean(1), (points[:, 1:3] - points[:, :2]).norm(dim=2)
    else:
        centers, sides = points.mean(1), points[:, 1] - points[:, 0]
        assert (points >= 0).all()
        assert (points <= SIZE).all()
    assert (centers >= -1e-2).all()
    assert (centers <= SIZE + 1e-2).all()
    assert (sides >= 6.0 - 1e-3).all()
    # Of the same crop with all that it shows, the rest is small or mostly hidden.
    everything = view(min_visibility=0.0, min_box_size=0.0, resize=False)
    image = torch.zeros(3, HIGH, WIDE, dtype=torch.uint8)
    _, seen, names, _ = run(everything, seed, image, given_boxes, None, ignored)
    stayed = torch.isin(names, labels)
    assert torch.equal(seen[stayed], kept)
    with seeded(seed):
        factor = uniform(0.5, 2.0)  # the first that is drawn
    if not oriented:  # whose share is not that of what is left of the rectangle
        left = seen[~stayed].as_subclass(torch.Tensor)
        shortest = (left[:, 2:] - left[:, :2]).amin(1)
        whole = (data[:, 2:] - data[:, :2]).prod(1)[names[~stayed]] * factor**2
        assert ((shortest < 6.1) | ((left[:, 2:] - left[:, :2]).prod(1) < 0.55 * whole)).all()


def test_the_share_and_the_side_decide_what_stays():
    image = torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)
    rows = [[-6.0, 10, 14, 30], [-14.0, 40, 6, 60], [50.0, 50, 90, 53], [60.0, 70, 80, 90]]
    boxes = tv_tensors.BoundingBoxes(torch.tensor(rows), format="XYXY", canvas_size=(SIZE, SIZE))
    options = {"flips": "horizontal", "scale": (1.0, 1.0)}
    assert run(view(**options, min_visibility=0.5, min_box_size=4.0), 0, image, boxes)[
        2
    ].tolist() == [0, 3]
    assert run(view(**options, min_visibility=0.1, min_box_size=0), 0, image, boxes)[
        2
    ].tolist() == [
        0,
        1,
        2,
        3,
    ]


# What a test sees


@pytest.mark.parametrize(("height", "width"), [(50, 80), (300, 200), (112, 112), (1, 400)])
def test_a_test_sees_the_whole_image_resized_and_padded(height, width):
    image = torch.full((3, height, width), 200, dtype=torch.uint8)
    seen, scale = eval_view(image, SIZE, resize=True), eval_scale(height, width, SIZE, True)
    assert seen.shape == (3, SIZE, SIZE)
    assert scale == SIZE / max(height, width)
    high, wide = (max(1, round(side * scale)) for side in (height, width))
    assert (seen[:, :high, :wide] == 200).all()
    assert (seen[:, high:] == 0).all()
    assert (seen[:, :, wide:] == 0).all()


def test_a_test_at_its_own_scale_sees_the_image_as_it_is():
    image = torch.randint(256, (3, 300, 200), dtype=torch.uint8)
    assert torch.equal(eval_view(image, SIZE, resize=False), image)
    assert eval_scale(300, 200, SIZE, False) == 1
