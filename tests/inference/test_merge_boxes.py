import numpy as np
import pytest
import shapely
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from toy_detector import reach, scatter

from cgeartheye.boxes import Detections, corners_of, from_horizontal, oriented_around, overlap
from cgeartheye.inference.merge_boxes import (
    MARGIN,
    Tiling,
    borders,
    largest_object,
    merge_windows,
    required_overlap,
)
from cgeartheye.inference.sliding_window import count_windows
from cgeartheye.inference.windows import window_offsets


def polygon(box: torch.Tensor) -> shapely.Polygon:
    five = box if len(box) == 5 else from_horizontal(box)
    return shapely.Polygon(corners_of(five.double()).numpy())


def seen_in(
    left: int, top: int, side: int, boxes: torch.Tensor, labels: list[int], noise: float
) -> Detections:
    """A perfect detector's boxes in a window: the visible parts, a little off."""
    rng = np.random.default_rng([left, top, side])
    window = shapely.box(left, top, left + side, top + side)
    preds, kept = [], []
    for box, label in zip(boxes, labels, strict=True):
        part = polygon(box).intersection(window)
        if part.area < 2:
            continue
        if len(box) == 5:
            (visible,) = oriented_around([torch.tensor(part.exterior.coords[:-1])])
            off = torch.tensor([left, top, 0, 0, 0])
        else:
            visible, off = torch.tensor(part.bounds), torch.tensor([left, top, left, top])
        jitter = torch.from_numpy(rng.uniform(-noise, noise, len(box)))
        if len(box) == 5:
            jitter[4] *= 0.02
        preds.append(visible - off + jitter)
        kept.append(label)
    if not preds:
        return Detections.none(boxes.shape[1])
    scores = torch.from_numpy(rng.uniform(0.3, 1, len(preds))).float()
    return Detections(torch.stack(preds).float(), scores, torch.tensor(kept))


def seen(
    shape: tuple[int, int], side: int, share: float, boxes: torch.Tensor, labels: list[int],
    noise: float = 0.0,
) -> list[tuple[int, int, Detections]]:  # fmt: skip
    return [
        (left, top, seen_in(left, top, side, boxes, labels, noise))
        for top in window_offsets(shape[0], side, share)
        for left in window_offsets(shape[1], side, share)
    ]


@settings(max_examples=12, deadline=None)
@given(
    st.tuples(st.integers(40, 400), st.integers(40, 400)),
    st.integers(2, 8).map(lambda n: 14 * n),
    st.floats(4, 45),
    st.booleans(),
    st.integers(0, 10**6),
    st.floats(0, 1),
)
def test_every_object_once_and_whole(
    shape: tuple[int, int], side: int, largest: float, oriented: bool, seed: int, noisy: float
) -> None:
    """Whatever the image, the windows and the objects: as long as the overlap is enough."""
    share = required_overlap(reach(largest, oriented), side)
    assume(share <= 0.9 and 2 * largest < min(shape))
    assume(count_windows(*shape, side, share) < 150)  # up to 10,000 otherwise, minutes of tests
    boxes, labels = scatter(*shape, 25, largest, oriented, seed)
    noise = min(noisy * side * MARGIN / 4, 0.15 * largest / 2)
    preds = merge_windows(seen(shape, side, share, boxes, labels, noise), side)
    assert len(preds) == len(boxes)
    assert (preds.scores.diff() <= 0).all()
    iou = overlap(preds.boxes, boxes) * (preds.labels[:, None] == torch.tensor(labels)[None])
    best = iou.max(dim=1)
    assert sorted(best.indices.tolist()) == list(range(len(boxes)))
    assert (best.values > (0.999 if noise == 0 else 0.25)).all()


@given(st.floats(0.07, 0.9), st.integers(2, 60).map(lambda n: 14 * n))
def test_overlap_and_largest_object_agree(share: float, side: int) -> None:
    assert required_overlap(largest_object(share, side), side) == pytest.approx(share)


def test_zones_partition_and_lie_inside_their_windows() -> None:
    for length in range(1, 400, 7):
        tops = window_offsets(length, 56, 0.4)
        inner = borders(tops, 56)
        assert list(inner) == sorted(inner)
        for border, first, second in zip(inner, tops, tops[1:], strict=False):
            assert border - second >= 0.2 * 56 - 1
            assert first + 56 - border >= 0.2 * 56 - 1


@pytest.mark.parametrize("oriented", [False, True])
def test_equal_objects_side_by_side_are_not_merged(oriented: bool) -> None:
    """Rows of berths across every border, a pixel apart, each window a little off."""
    shape, side = (200, 200), 84
    centers = [(x, y) for y in range(15, 190, 30) for x in range(6, 196, 7)]
    boxes = torch.tensor([[x, y, 24, 6, np.pi / 2] for x, y in centers], dtype=torch.float64)
    if not oriented:
        boxes = torch.tensor([[x - 3, y - 12, x + 3, y + 12] for x, y in centers]).double()
    share = required_overlap(reach(24, oriented), side)
    preds = merge_windows(seen(shape, side, share, boxes, [0] * len(boxes), 0.7), side)
    assert len(preds) == len(boxes)
    assert sorted(overlap(preds.boxes, boxes).argmax(1).tolist()) == list(range(len(boxes)))


def test_boxes_that_overlap_in_one_window_are_its_own_affair() -> None:
    """Horizontal boxes of oblique ships: two windows detect both, each is kept once."""
    boxes = torch.tensor([[40, 20, 70, 50], [46, 26, 76, 56], [52, 32, 82, 62.0]])
    preds = merge_windows(seen((84, 126), 84, 0.5, boxes, [0, 0, 0], 1.0), 84)
    assert sorted(overlap(preds.boxes, boxes).argmax(1).tolist()) == [0, 1, 2]


def test_two_classes_at_one_place_both_stay() -> None:
    boxes = torch.tensor([[50, 20, 70, 40], [50, 20, 70, 40.0]])
    preds = merge_windows(seen((84, 126), 84, 0.5, boxes, [0, 1]), 84)
    assert sorted(preds.labels.tolist()) == [0, 1]


@pytest.mark.parametrize("oriented", [False, True])
@pytest.mark.parametrize("shift", range(-40, 41, 8))
def test_larger_than_the_overlap_but_whole_in_a_window_is_found_once(
    oriented: bool, shift: int
) -> None:
    """Of 70 pixels in windows of 84 that overlap by 42: pieces in all but one window or two."""
    left = 84 - 35 + shift
    boxes = torch.tensor([[left, 30, left + 70, 60.0]])
    windows = seen((84, 210), 84, 0.5, from_horizontal(boxes) if oriented else boxes, [0])
    truth = polygon(boxes[0])
    whole = any(left >= at + 2 and left + 70 <= at + 82 for at, _, _ in windows)
    preds = merge_windows(windows, 84)
    if whole:
        assert len(preds) == 1
        assert polygon(preds.boxes[0]).intersection(truth).area > 0.99 * truth.area


def test_the_better_of_two_stays() -> None:
    one = Detections(torch.tensor([[50.0, 20, 70, 40]]), torch.tensor([0.6]), torch.tensor([0]))
    other = Detections(torch.tensor([[9.0, 20, 29, 40]]), torch.tensor([0.9]), torch.tensor([0]))
    preds = merge_windows([(0, 0, one), (42, 0, other)], 84)
    assert preds.scores.tolist() == [pytest.approx(0.9)]
    assert preds.boxes.tolist() == [[51, 20, 71, 40]]


@given(st.permutations(range(9)))
@settings(max_examples=10, deadline=None)
def test_the_order_of_windows_does_not_matter(order: list[int]) -> None:
    boxes, labels = scatter(150, 150, 30, 14, True, 3)
    windows = seen((150, 150), 84, required_overlap(reach(14, True), 84), boxes, labels, 1.0)[:9]
    assert len(windows) == 9
    preds = [merge_windows(each, 84) for each in (windows, [windows[n] for n in order])]
    assert torch.equal(preds[0].boxes, preds[1].boxes)


def test_an_image_smaller_than_the_window_is_as_it_was_found() -> None:
    boxes = torch.tensor([[0.0, 0, 30, 30], [5, 5, 12, 12], [5, 5, 12, 12]])
    preds = Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64))
    merged = merge_windows([(0, 0, preds)], 84)
    assert torch.equal(merged.boxes, boxes)
    assert len(merge_windows([(0, 0, Detections.none(5))], 84)) == 0


def test_a_piece_counts_in_its_own_zone_alone_and_what_is_whole_a_little_beyond() -> None:
    """Zones meet at 63; half a margin is 2.6 pixels."""
    tiling = Tiling((0,), (0, 42), 84)
    spans = [(60, 84), (50, 70), (40, 84), (45, 84), (54, 75), (57, 76)]
    boxes = torch.tensor([[left, 20.0, right, 40] for left, right in spans])
    preds = Detections(boxes, torch.ones(len(boxes)), torch.zeros(len(boxes), dtype=torch.int64))
    assert tiling.cut(0, 0, preds).tolist() == [True, False, True, True, False, False]
    kept = tiling.candidates(0, 0, preds).boxes
    assert [tuple(box[[0, 2]].tolist()) for box in kept] == [(50, 70), (40, 84), (54, 75)]
