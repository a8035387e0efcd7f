import contextlib
import io
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

sys.path.insert(0, str(Path(__file__).parent))
from toy_boxes import Drawn, draw, measured

from cgeartheye.boxes import Detections, corners_of, from_horizontal
from cgeartheye.metrics.detection.matching import NOBODY, RIGHT, UNCOUNTED, WRONG
from cgeartheye.metrics.detection.metrics import THRESHOLDS, DetectionMetrics
from cgeartheye.utils.errors import UserError

CLASSES = 4
CASES = 200


def box_of(corners: list[float]) -> list[float]:
    x0, y0, x1, y1 = corners
    return [x0, y0, x1 - x0, y1 - y0]


def by_pycocotools(images: list[Drawn]) -> COCOeval:
    """Evaluate the images with COCO's own program."""
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i} for i in range(len(images))],
        "categories": [{"id": k} for k in range(CLASSES)],
        "annotations": [
            {
                "id": 0,
                "image_id": i,
                "category_id": int(label),
                "bbox": box_of(box),
                "area": box_of(box)[2] * box_of(box)[3],
                "iscrowd": int(crowd),
            }
            for i, one in enumerate(images)
            for box, label, crowd in zip(one.boxes.tolist(), one.labels, one.ignored, strict=True)
        ],
    }
    for number, annotation in enumerate(truth.dataset["annotations"], start=1):
        annotation["id"] = number
    preds = [
        {"image_id": i, "category_id": int(label), "bbox": box_of(box), "score": float(score)}
        for i, one in enumerate(images)
        for box, label, score in zip(
            one.preds.boxes.tolist(), one.preds.labels, one.preds.scores, strict=True
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        results = truth.loadRes(preds) if preds else COCO()
        if not preds:
            results.dataset = truth.dataset | {"annotations": []}
            results.createIndex()
        evaluation = COCOeval(truth, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


COCO_NAMES = {
    "ap": 0,
    "ap50": 1,
    "ap75": 2,
    "ap_small": 3,
    "ap_medium": 4,
    "ap_large": 5,
    "ar": 8,
}


@pytest.mark.parametrize("first", range(0, CASES, 20))
def test_horizontal_figures_are_those_of_pycocotools(first: int) -> None:
    for seed in range(first, first + 20):
        images = draw(seed, oriented=False, images=1 + seed % 7)
        metrics = measured(dict(enumerate(images)), CLASSES, oriented=False)
        oracle = by_pycocotools(images)
        expected = {
            name: np.nan if oracle.stats[place] < 0 else 100 * oracle.stats[place]
            for name, place in COCO_NAMES.items()
        }
        assert metrics.compute() == pytest.approx(expected, abs=1e-6, nan_ok=True), seed
        # Of each class, too.
        precision = oracle.eval["precision"][:, :, :, 0, 2]
        for label, row in enumerate(metrics.per_class("abcd")):
            own = precision[:, :, label]
            if (own < 0).all():
                assert np.isnan([row["AP"], row["AP50"]]).all()
            else:
                assert row["AP"] == pytest.approx(100 * own.mean(), abs=1e-6)
                assert row["AP50"] == pytest.approx(100 * own[0].mean(), abs=1e-6)


def test_the_best_hundred_of_a_class_in_an_image_count() -> None:
    images = draw(4, oriented=False, images=5, most=130)  # of one class
    assert max(len(one.preds) for one in images) > 150
    figures = measured(dict(enumerate(images)), CLASSES, oriented=False).compute()
    stats = 100 * by_pycocotools(images).stats
    expected = {name: stats[place] for name, place in COCO_NAMES.items()}
    assert figures == pytest.approx(expected, abs=1e-6)


def polygons(boxes: torch.Tensor) -> list[shapely.Polygon]:
    return [shapely.Polygon(corners) for corners in corners_of(boxes.double()).tolist()]


Overlaps = list[np.ndarray]


def shapely_overlaps(images: list[Drawn]) -> Overlaps:
    overlaps = []
    for one in images:
        preds, true = polygons(one.preds.boxes), polygons(one.boxes)
        shared = np.array([[a.intersection(b).area for b in true] for a in preds])
        union = np.array([[a.union(b).area for b in true] for a in preds])
        overlaps.append(shared / union)
    return overlaps


def by_voc(
    images: list[Drawn],
    overlaps: Overlaps,
    label: int,
    threshold: float,
    average: Callable[[list[float], list[float]], float],
) -> float | None:
    """Average precision of a class, box by box, as PASCAL VOC and DOTA describe it."""
    total = sum(int(((one.labels == label) & ~one.ignored).sum()) for one in images)
    if not total:
        return None
    candidates = [
        (-float(one.preds.scores[j]), i, j)
        for i, one in enumerate(images)
        for j in range(len(one.preds))
        if one.preds.labels[j] == label
    ]
    used: set[tuple[int, int]] = set()
    right = wrong = 0
    recalls, precisions = [], []
    for _, i, j in sorted(candidates):
        best, which = 0.0, -1
        for truth in range(len(images[i].boxes)):
            if images[i].labels[truth] == label and overlaps[i][j, truth] > best:
                best, which = overlaps[i][j, truth], truth
        if best > threshold:
            if not images[i].ignored[which]:
                if (i, which) in used:
                    wrong += 1
                else:
                    right += 1
                    used.add((i, which))
        else:
            wrong += 1
        recalls.append(right / total)
        precisions.append(right / max(right + wrong, 1))
    return average(recalls, precisions)


def eleven_points(recalls: list[float], precisions: list[float]) -> float:
    pairs = list(zip(recalls, precisions, strict=True))
    best = [
        max((p for r, p in pairs if r >= level), default=0.0) for level in np.arange(0.0, 1.1, 0.1)
    ]
    return sum(best) / 11


def area(recalls: list[float], precisions: list[float]) -> float:
    recall, precision = [0.0, *recalls, 1.0], [0.0, *precisions, 0.0]
    for place in range(len(precision) - 2, -1, -1):
        precision[place] = max(precision[place], precision[place + 1])
    steps = range(len(recall) - 1)
    return sum((recall[i + 1] - recall[i]) * precision[i + 1] for i in steps)


def mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return 100 * float(np.mean(known)) if known else np.nan


@pytest.mark.parametrize("first", range(0, CASES, 20))
def test_oriented_figures_are_those_of_dota(first: int) -> None:
    for seed in range(first, first + 20):
        images = draw(seed, oriented=True, images=1 + seed % 4, most=6)
        overlaps = shapely_overlaps(images)
        metrics = measured(dict(enumerate(images)), CLASSES, oriented=True)
        areas = [
            [by_voc(images, overlaps, label, t, area) for t in THRESHOLDS]
            for label in range(CLASSES)
        ]
        points = [
            [by_voc(images, overlaps, label, t, eleven_points) for label in range(CLASSES)]
            for t in THRESHOLDS
        ]
        expected = {
            "ap": mean([value for row in areas for value in row]),
            "ap50": mean([row[0] for row in areas]),
            "ap75": mean([row[5] for row in areas]),
            "ap_11": mean([value for row in points for value in row]),
            "ap50_11": mean(points[0]),
        }
        assert metrics.compute() == pytest.approx(expected, abs=1e-6, nan_ok=True), seed
        for row, own in zip(metrics.per_class("abcd"), areas, strict=True):
            assert row["AP50"] == pytest.approx(mean(own[:1]), abs=1e-6, nan_ok=True)
            assert row["AP"] == pytest.approx(mean(own), abs=1e-6, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    oriented=st.booleans(),
    ranks=st.integers(1, 5),
    data=st.data(),
)
def test_any_split_over_ranks_gives_the_same_figures(
    seed: int, oriented: bool, ranks: int, data: st.DataObject
) -> None:
    images = dict(enumerate(draw(seed, oriented, images=9)))
    whole = measured(images, CLASSES, oriented)
    order = data.draw(st.permutations(list(images)))
    owners = [data.draw(st.integers(0, ranks - 1)) for _ in order]
    # A rank may have got nothing.
    shares = [
        {index: images[index] for index, owner in zip(order, owners, strict=True) if owner == rank}
        for rank in range(ranks)
    ]
    states = [measured(share, CLASSES, oriented).state() for share in shares]
    merged = DetectionMetrics(CLASSES, oriented)
    merged.load_states(pickle.loads(pickle.dumps(states)))
    assert repr(merged.compute()) == repr(whole.compute())
    assert repr(merged.per_class("abcd")) == repr(whole.per_class("abcd"))
    assert merged.score_threshold == whole.score_threshold


def square(score: float, left: float = 0.0, label: int = 0) -> Detections:
    return Detections(
        torch.tensor([[left, 0.0, left + 40, 40.0]]), torch.tensor([score]), torch.tensor([label])
    )


def test_precision_and_recall_are_those_at_the_best_threshold() -> None:
    """Two right boxes with 0.9 and 0.8, two wrong ones with 0.85 and 0.3; a third box missed."""
    metrics = DetectionMetrics(2, oriented=False)
    true = torch.tensor([[0.0, 0, 40, 40], [100, 0, 140, 40], [0, 300, 40, 340]])
    preds = [square(0.3, 500), square(0.8, 100), square(0.9), square(0.85, 700)]
    metrics.update(
        3, Detections.concatenate(preds), true, torch.zeros(3).long(), torch.zeros(3).bool()
    )
    assert metrics.score_threshold == pytest.approx(0.8)
    row, other = metrics.per_class(["ship", "plane"])
    assert (row["objects"], other["objects"]) == (3, 0)
    assert row["precision"] == pytest.approx(200 / 3)
    assert row["recall"] == pytest.approx(200 / 3)
    assert all(np.isnan(value) for name, value in other.items() if name not in ("class", "objects"))
    found_curve, nothing = metrics.curves()
    assert nothing is None
    assert found_curve is not None
    assert found_curve.recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert found_curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])


def test_a_crowd_takes_what_is_on_no_object() -> None:
    """An object and a crowd around it; boxes on both, in the crowd alone, and on neither."""
    metrics = DetectionMetrics(1, oriented=False)
    true = torch.tensor([[0.0, 0, 40, 40], [0, 0, 400, 400]])
    places = [(0.9, 0), (0.8, 300), (0.7, 600), (0.6, 6), (0.5, 300)]
    preds = Detections.concatenate([square(score, left) for score, left in places])
    metrics.update(0, preds, true, torch.zeros(2).long(), torch.tensor([False, True]))
    (outcome,) = metrics.outcomes
    assert outcome.outcomes[0].tolist() == [RIGHT, UNCOUNTED, WRONG, WRONG, UNCOUNTED]
    assert outcome.partners.tolist() == [0, NOBODY, NOBODY, NOBODY, NOBODY]
    assert outcome.support == 1


@pytest.mark.parametrize("oriented", [False, True])
def test_an_overlap_of_exactly_a_half(oriented: bool) -> None:
    """It is enough for COCO, and not for DOTA."""
    metrics = DetectionMetrics(1, oriented)
    true = torch.tensor([[0.0, 0, 80, 40]])
    preds = square(0.9)
    if oriented:
        true = from_horizontal(true)
        preds = Detections(from_horizontal(preds.boxes), preds.scores, preds.labels)
    metrics.update(0, preds, true, torch.zeros(1).long(), torch.zeros(1).bool())
    assert metrics.outcomes[0].outcomes[0].tolist() == [WRONG if oriented else RIGHT]
    assert metrics.compute()["ap50"] == pytest.approx(0 if oriented else 100)


@pytest.mark.parametrize("oriented", [False, True])
def test_nothing_measured_is_not_a_number(oriented: bool) -> None:
    metrics = DetectionMetrics(3, oriented)
    assert all(np.isnan(value) for value in metrics.compute().values())
    assert metrics.score_threshold == 1
    assert all(row["objects"] == 0 for row in metrics.per_class("abc"))


def test_nothing_found_is_zero() -> None:
    metrics = DetectionMetrics(1, oriented=True)
    true = torch.tensor([[50.0, 50, 20, 10, 0.5]])
    metrics.update(0, Detections.none(5), true, torch.zeros(1).long(), torch.zeros(1).bool())
    assert set(metrics.compute().values()) == {0.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_boxes_that_are_not_finite_are_an_error(value: float) -> None:
    nothing = torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).bool()
    for preds in (square(value), square(0.5, value)):
        with pytest.raises(UserError, match="diverged"):
            DetectionMetrics(2, oriented=False).update(0, preds, *nothing)


def test_a_class_that_does_not_exist_is_an_error() -> None:
    nothing = torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).bool()
    with pytest.raises(ValueError, match=r"predicted classes .* 0\.\.1"):
        DetectionMetrics(2, oriented=False).update(0, square(0.5, label=2), *nothing)


def test_an_image_counts_once() -> None:
    metrics = measured(dict(enumerate(draw(1, oriented=False, images=2))), CLASSES, False)
    merged = DetectionMetrics(CLASSES, oriented=False)
    merged.load_states([metrics.state(), metrics.state()])
    with pytest.raises(AssertionError, match="measured twice"):
        merged.compute()
