from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cgeartheye.metrics.classification import SegmentationMetrics
from cgeartheye.reports import examples as module
from cgeartheye.reports.examples import GALLERY, GAP, PANEL, UNKNOWN, Example
from cgeartheye.reports.segmentation import WRONG, four_panels, segmentation_report

COLORS = [(255, 0, 0), (0, 200, 0), (0, 0, 255)]
CLASSES = ["built <up>", "wood", "water"]

HISTORY = [
    {"kind": "train", "step": 1, "epoch": 0.5, "loss": 2.0, "lr": 1e-4, "images_per_s": 9.0},
    {"kind": "val", "step": 2, "epoch": 1, "miou": 41.5, "mf1": 50.0, "accuracy": 70.0},
    {"kind": "val", "step": 4, "epoch": 2, "miou": 40.0, "mf1": 51.0, "accuracy": 71.0},
]


def example(index: int) -> Example:
    random = np.random.default_rng(index)
    truth = random.integers(0, 3, (20, 30)).astype(np.uint8)
    predicted = np.where(random.random(truth.shape) < 0.1 * index, 0, truth).astype(np.uint8)
    truth[:3] = 255
    return Example((np.full((20, 30, 3), index, np.uint8),), truth, predicted)


def made(images: int, **others: Any) -> dict[str, Any]:
    metrics = SegmentationMetrics(3)
    ious = []
    for index in range(images):
        pair = [torch.from_numpy(x) for x in (example(index).predicted, example(index).truth)]
        metrics.update(*pair)
        own = SegmentationMetrics(3)
        own.update(*pair)
        ious.append(own.confusion.mean_iou)
    return {
        "title": "run <1>",
        "classes": CLASSES,
        "colors": COLORS,
        "metrics": metrics,
        "history": HISTORY,
        "names": [f"folder/{i}.png" for i in range(images)],
        "ious": np.array(ious),
        "load_example": example,
        "config_yaml": "data:\n  root: <here>\n",
        "environment": {"device": "cpu & co"},
        **others,
    }


@pytest.fixture
def read(parse: Callable[[str], Any], tmp_path: Path) -> Callable[[dict[str, Any]], Any]:
    """Write a report with these arguments and read it again."""

    def written(arguments: dict[str, Any]) -> Any:
        segmentation_report(tmp_path / "report.html", **arguments)
        return parse((tmp_path / "report.html").read_text(encoding="utf-8"))

    return written


def test_report_contains_everything(read: Callable[[dict[str, Any]], Any]) -> None:
    arguments = made(9)
    page = read(arguments)
    assert page.texts["h1"] == ["run <1>"]
    assert page.texts["p"][0] == "Semantic segmentation · 9 images · 4,590 pixels · 3 classes"
    assert page.texts["h2"] == ["Training", "Classes", "Confusions", "Examples", "Run"]
    assert page.texts["h3"] == ["Most frequent confusions", "Worst", "Typical", "Best"]
    figures = arguments["metrics"].compute()
    shown = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    assert shown["mean IoU"] == f"{figures['miou']:.2f} %"
    assert shown["boundary F1"] == f"{figures['boundary_f1']:.2f} %"
    assert shown["device"] == "cpu & co"
    captions = page.texts["figcaption"]
    assert "Validation: best mIoU 41.50 % after epoch 1" in captions
    # The higher its number, the more of an image is wrong.
    shown_names = "".join(page.texts["small"])
    assert shown_names == "".join(f"folder/{i}.png" for i in (8, 7, 6, 5, 4, 3, 0, 1, 2))
    ious = [100 * arguments["ious"][i] for i in (8, 7)]
    assert [text for text in captions if text.startswith("IoU")][:2] == [
        f"IoU {iou:.1f}\u00a0%" for iou in ious
    ]
    assert page.texts["li"] == [*CLASSES, "not labelled"]
    assert "background: rgb(0, 200, 0)" in page.values("style")
    assert page.texts["pre"] == [arguments["config_yaml"]]


def test_classes_are_listed_worst_first(read: Callable[[dict[str, Any]], Any]) -> None:
    metrics = SegmentationMetrics(3)
    truth = torch.tensor([[0, 0, 0, 0, 2, 2, 2, 255]])  # none of class 1
    metrics.update(torch.tensor([[0, 0, 0, 2, 2, 2, 2, 0]]), truth)
    cells = read(made(2, metrics=metrics)).texts["td"]
    assert np.reshape(cells[:21], (3, 7)).tolist() == [
        ["built <up>", "4", "75.00", "85.71", "100.00", "75.00", "100.00"],
        ["water", "3", "75.00", "85.71", "75.00", "100.00", "100.00"],
        ["wood", "0", "–", "–", "–", "–", "–"],
    ]
    assert cells[21:] == ["built <up>", "water", "1", "25.00"]


def test_without_a_training_and_without_labels(read: Callable[[dict[str, Any]], Any]) -> None:
    arguments = made(2, history=[], metrics=SegmentationMetrics(3), ious=np.full(2, np.nan))
    page = read(arguments)
    assert page.texts["h2"] == ["Classes", "Confusions", "Examples", "Run"]
    assert "h3" not in page.texts
    assert "mean IoU" not in page.texts["dt"]


@given(
    ious=st.lists(st.one_of(st.integers(0, 9), st.just(None)), max_size=40).map(
        lambda values: np.array([np.nan if v is None else v / 10 for v in values], float)
    )
)
def test_examples_are_the_worst_the_middle_and_the_best(ious: np.ndarray) -> None:
    kinds = module.worst_typical_best(ious)
    chosen = [index for indices in kinds.values() for index in indices]
    assert len(set(chosen)) == len(chosen)
    known = np.flatnonzero(~np.isnan(ious))
    assert set(chosen) <= set(known.tolist())
    assert len(chosen) == min(len(known), 3 * GALLERY)
    levels = np.sort(ious[known])
    worst, best = kinds.get("Worst", []), kinds.get("Best", [])
    assert ious[worst].tolist() == levels[: len(worst)].tolist()
    assert ious[best].tolist() == levels[::-1][: len(best)].tolist()
    if len(known) >= 3 * GALLERY:
        middle = ious[kinds["Typical"]]
        assert levels[GALLERY - 1] <= middle.min()
        assert abs(np.median(middle) - np.median(levels)) <= np.ptp(levels) / 2
        below = (levels < middle.min()).sum()
        above = (levels > middle.max()).sum()
        assert max(below, above) <= (len(known) - GALLERY) // 2 + 1


def test_panels_show_what_is_right_and_what_is_wrong() -> None:
    truth = np.array([[0, 1, 255], [2, 2, 1]], np.uint8)
    predicted = np.array([[0, 2, 0], [2, 0, 1]], np.uint8)
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    picture = four_panels(Example((image,), truth, predicted), COLORS)
    assert picture.shape == (2, 4 * 3 + 3 * GAP, 3)
    shown, true, guess, errors = (picture[:, i * (3 + GAP) :][:, :3] for i in range(4))
    np.testing.assert_array_equal(shown, image)
    assert true.tolist() == [
        [list(UNKNOWN if label == 255 else COLORS[label]) for label in row]
        for row in truth.tolist()
    ]
    assert guess.tolist() == [[list(COLORS[label]) for label in row] for row in predicted.tolist()]
    kinds = [
        ["wrong" if tuple(p) == WRONG else "unknown" if tuple(p) == UNKNOWN else "right" for p in r]
        for r in errors.tolist()
    ]
    assert kinds == [["right", "wrong", "unknown"], ["right", "wrong", "right"]]


@pytest.mark.parametrize("shape", [(1000, 400), (3, 2000), (350, 350)])
def test_large_panels_are_reduced(shape: tuple[int, int]) -> None:
    classes = np.zeros(shape, np.uint8)
    classes[:, shape[1] // 2 :] = 1
    picture = four_panels(Example((np.zeros((*shape, 3), np.uint8),), classes, classes), COLORS)
    height, width = picture.shape[0], (picture.shape[1] - 3 * GAP) // 4
    assert max(height, width) == PANEL
    assert abs(height / width - shape[0] / shape[1]) <= max(1 / width, shape[0] / shape[1])
    # Classes keep their colours: none is mixed.
    assert len(np.unique(picture[:, width + GAP :][:, :width].reshape(-1, 3), axis=0)) == 2
