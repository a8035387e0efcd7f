import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "metrics" / "detection"))
from toy_boxes import draw, measured

from cgeartheye.metrics.detection.errors import KINDS, Kind, find_errors
from cgeartheye.metrics.detection.metrics import DetectionMetrics
from cgeartheye.reports.detection import GALLERY, detection_report
from cgeartheye.utils import fonts

CLASSES = ["ship <1>", "plane", "harbor", "bridge & co"]

HISTORY = [
    {"kind": "train", "step": 1, "epoch": 0.5, "loss": 2.0, "lr": 1e-4, "images_per_s": 9.0},
    {"kind": "val", "step": 2, "epoch": 1, "ap": 41.5, "ap50": 50.0, "ap75": 45.0},
    {"kind": "val", "step": 4, "epoch": 2, "ap": 42.0, "ap50": 49.0, "ap75": 45.0},
]


def image(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (240 + index, 300, 3)).astype(np.uint8)


def made(metrics: DetectionMetrics, images: int, **others: Any) -> dict[str, Any]:
    return {
        "title": "run <1>",
        "classes": CLASSES,
        "metrics": metrics,
        "history": HISTORY,
        "names": [f"folder/{i}.png" for i in range(images)],
        "load_image": image,
        "config_yaml": "data:\n  root: <here>\n",
        "environment": {"device": "cpu & co"},
        **others,
    }


@pytest.fixture
def read(parse: Callable[[str], Any], tmp_path: Path) -> Callable[[dict[str, Any]], Any]:
    """Write a report with these arguments and read it again."""

    def written(arguments: dict[str, Any]) -> Any:
        detection_report(tmp_path / "report.html", **arguments)
        return parse((tmp_path / "report.html").read_text(encoding="utf-8"))

    return written


@pytest.mark.parametrize("oriented", [False, True])
def test_report_contains_everything(oriented: bool, read: Callable[[dict[str, Any]], Any]) -> None:
    metrics = measured(dict(enumerate(draw(27, oriented, images=12))), 4, oriented)
    page = read(made(metrics, 12))
    assert page.texts["h1"] == ["run <1>"]
    objects = int((~metrics.tested.ignored).sum())
    form = "oriented" if oriented else "horizontal"
    counted = f"12 images · {objects} objects · 4 classes"
    assert page.texts["p"][0] == f"Object detection, {form} boxes · {counted}"
    sections = ["Training", "Classes", "Precision and recall", "Errors", "Examples"]
    assert page.texts["h2"] == [*sections, "Errors from near", "Run"]
    figures = metrics.compute()
    shown = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    assert shown["AP at 0.5"] == f"{figures['ap50']:.2f} %"
    assert ("AP at 0.5, 11 points" in shown) == oriented
    assert ("AP of small objects" in shown) != oriented
    captions = page.texts["figcaption"]
    assert "Validation: best AP at 0.5 50.00 % after epoch 1" in captions
    errors = find_errors(metrics)
    counts = errors.by_image[errors.by_image.sum(1) > 0]
    expected = [
        f"{right} right · {false} false · {missed} missed" for right, false, missed in counts
    ]
    of_images = [text for text in captions if "right · " in text]
    assert sorted(of_images) == sorted(expected)
    worst = expected[np.lexsort((counts[:, 0], -counts[:, 1:].sum(1)))[0]]
    assert of_images[0] == worst
    present = {KINDS[Kind(kind)].capitalize() for kind in errors.kinds[errors.kinds > Kind.RIGHT]}
    assert len(present) > 2
    assert {"Missed", *present} <= set(page.texts["h3"])
    taken = (errors.kinds == Kind.CLASS).sum()
    assert len([text for text in captions if " · is " in text]) == min(taken, GALLERY) > 0
    assert page.texts["pre"] == ["data:\n  root: <here>\n"]


@pytest.mark.parametrize("oriented", [False, True])
def test_a_report_without_boxes(oriented: bool, read: Callable[[dict[str, Any]], Any]) -> None:
    page = read(made(DetectionMetrics(4, oriented), 0, history=[]))
    assert page.texts["h2"] == ["Classes", "Errors", "Examples", "Errors from near", "Run"]
    assert "AP at 0.5" not in page.texts["dt"]


def test_a_report_of_a_model_that_finds_nothing(read: Callable[[dict[str, Any]], Any]) -> None:
    images = dict(enumerate(draw(3, False, images=6)))
    metrics = DetectionMetrics(4, oriented=False)
    for index, one in images.items():
        none = one.preds[:0]
        metrics.update(index, none, one.boxes, one.labels, torch.zeros(len(one.boxes)).bool())
    page = read(made(metrics, 6))
    assert "Missed" in page.texts["h3"]
    assert "Wrong place" not in page.texts["h3"]


def test_names_that_no_font_writes_are_listed_by_number(
    read: Callable[[dict[str, Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fonts, "_font_with", lambda beyond: None if beyond else fonts._OWN)
    metrics = measured(dict(enumerate(draw(27, True, images=3))), 4, True)
    page = read(made(metrics, 3, classes=["ship", "飞机", "harbor", "桥"]))
    assert "Names by number" in page.texts["h3"]
    shown = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    assert (shown["#1"], shown["#3"]) == ("飞机", "桥")
    assert "#0" not in shown
