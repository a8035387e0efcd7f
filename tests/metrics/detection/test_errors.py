import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_boxes import draw, measured

from cgeartheye.boxes import Detections, from_horizontal, overlap
from cgeartheye.metrics.detection.errors import NOT_SHOWN, Kind, find_errors
from cgeartheye.metrics.detection.matching import NOBODY, RIGHT, UNCOUNTED
from cgeartheye.metrics.detection.metrics import DetectionMetrics

SHIP, PLANE = 0, 1


def box(left: float, top: float = 0.0, side: float = 40.0) -> list[float]:
    return [left, top, left + side, top + side]


TRUE = [
    (box(0), SHIP),
    (box(200), SHIP),
    (box(400), PLANE),
    (box(600), SHIP),
    (box(800, side=20), SHIP),
    (box(0, 900, 120), PLANE),
]
FOUND = [
    (box(2), SHIP, 0.95, Kind.RIGHT, 0),
    (box(4), SHIP, 0.90, Kind.DUPLICATE, 0),
    (box(402), SHIP, 0.89, Kind.CLASS, 2),
    (box(622), SHIP, 0.88, Kind.PLACE, 3),
    (box(0, 500), PLANE, 0.87, Kind.BACKGROUND, NOBODY),
    (box(638), SHIP, 0.86, Kind.BACKGROUND, NOBODY),  # overlaps by less than 0.1
    (box(203), SHIP, 0.85, Kind.RIGHT, 1),
    (box(402, 1), PLANE, 0.84, Kind.RIGHT, 2),
    (box(2, 901, 118), PLANE, 0.83, Kind.RIGHT, 5),
    (box(900, 900), PLANE, 0.10, NOT_SHOWN, NOBODY),
]


@pytest.mark.parametrize("oriented", [False, True])
def test_each_error_has_its_kind(oriented: bool) -> None:
    found = torch.tensor([each[0] for each in FOUND])
    true = torch.tensor([each[0] for each in TRUE])
    if oriented:
        found, true = from_horizontal(found), from_horizontal(true)
    metrics = DetectionMetrics(2, oriented)
    metrics.update(
        5,
        Detections(
            found,
            torch.tensor([each[2] for each in FOUND]),
            torch.tensor([each[1] for each in FOUND]),
        ),
        true,
        torch.tensor([each[1] for each in TRUE]),
        torch.zeros(len(TRUE), dtype=torch.bool),
    )
    assert metrics.score_threshold == pytest.approx(0.83)
    errors = find_errors(metrics)
    assert errors.kinds.tolist() == [each[3] for each in FOUND]
    assert errors.partners.tolist() == [each[4] for each in FOUND]
    assert errors.missed.tolist() == [False, False, False, True, True, False]
    assert errors.by_class.tolist() == [[2, 1, 1, 1, 1], [2, 0, 0, 0, 1]]
    assert errors.missed_by_class.tolist() == [2, 0]
    assert errors.by_size() == {"small": (0, 1), "medium": (3, 1), "large": (1, 0)}
    assert errors.by_image.tolist() == [[4, 5, 2]]
    assert errors.confusions().tolist() == [[0, 0], [1, 0]]


@pytest.mark.parametrize("oriented", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_errors_account_for_every_box(seed: int, oriented: bool) -> None:
    metrics = measured(dict(enumerate(draw(seed, oriented, images=8))), 4, oriented)
    errors, tested = find_errors(metrics), metrics.tested
    outcomes = np.full(len(tested.scores), UNCOUNTED)
    for outcome in metrics.outcomes:
        outcomes[outcome.where] = outcome.outcomes[0]
    shown = (tested.scores >= metrics.score_threshold) & (outcomes != UNCOUNTED)
    np.testing.assert_array_equal(errors.kinds != NOT_SHOWN, shown)
    np.testing.assert_array_equal(errors.kinds == Kind.RIGHT, shown & (outcomes == RIGHT))
    # A right box found an object of its class, no two the same one, and the others are missed.
    found = errors.partners[errors.kinds == Kind.RIGHT]
    assert len(set(found.tolist())) == len(found)
    assert not tested.ignored[found].any()
    np.testing.assert_array_equal(
        np.sort(np.concatenate([found, np.flatnonzero(errors.missed)])),
        np.flatnonzero(~tested.ignored),
    )
    for place in np.flatnonzero(errors.partners != NOBODY).tolist():
        partner = errors.partners[place]
        pair = tested.boxes[place], tested.true_boxes[partner]
        shared = float(overlap(*(torch.from_numpy(each)[None] for each in pair)))
        alike = tested.labels[place] == tested.true_labels[partner]
        kind = errors.kinds[place]
        assert alike == (kind != Kind.CLASS)
        assert 0.1 <= shared < 0.5 if kind == Kind.PLACE else shared >= 0.5
    assert errors.by_class.sum() == shown.sum() == errors.by_image[:, :2].sum()
    assert errors.by_image[:, 2].sum() == errors.missed.sum() == errors.missed_by_class.sum()
    assert sum(map(sum, errors.by_size().values())) == (~tested.ignored).sum()


def test_nothing_measured_has_no_errors() -> None:
    errors = find_errors(DetectionMetrics(3, oriented=True))
    assert errors.by_class.shape == (3, len(Kind))
    assert not errors.by_class.any()
    assert errors.by_image.shape == (0, 3)
