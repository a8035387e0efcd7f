from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.table import Table

from cgeartheye.metrics.classification import ClassificationMetrics
from cgeartheye.reports import charts, scene
from cgeartheye.reports.scene import class_table, scene_report, summary_table

Read = Callable[[dict[str, Any]], Any]

HISTORY = [
    {"kind": "train", "step": 1, "epoch": 0.5, "loss": 2.0, "lr": 1e-4, "images_per_s": 9.0},
    {"kind": "train", "step": 2, "epoch": 1.0, "loss": 1.0, "lr": 1e-4, "images_per_s": 9.0},
    {"kind": "val", "step": 2, "epoch": 1, "top1": 61.234, "macro_f1": 60.0},
    {"kind": "val", "step": 4, "epoch": 2, "top1": 60.0, "macro_f1": 61.0},
]


def made(classes: int, samples: int, **others: Any) -> dict[str, Any]:
    """Arguments of a report in which image i has the colour i."""
    random = np.random.default_rng(classes)
    labels = random.integers(0, classes, samples)
    logits = random.normal(size=(samples, classes)) + 3 * np.eye(classes)[labels]
    probabilities = torch.from_numpy(logits).softmax(1)
    metrics = ClassificationMetrics(classes)
    metrics.update(probabilities, torch.from_numpy(labels))
    return {
        "title": "run <1>",
        "classes": [f"class <{k}>" for k in range(classes)],
        "metrics": metrics,
        "history": HISTORY,
        "probabilities": probabilities.numpy(),
        "labels": labels,
        "names": [f"folder/{i}.jpg" for i in range(samples)],
        "load_image": lambda index: np.full((20, 30, 3), index, np.uint8),
        "embedding": random.normal(size=(samples, 8)).astype(np.float32),
        "feature_views": random.integers(0, 255, (2, 28, 28, 3)).astype(np.uint8),
        "feature_maps": random.normal(size=(2, 8, 2, 2)).astype(np.float32),
        "config_yaml": "data:\n  root: <here>\n",
        "environment": {"device": "cpu & co"},
        **others,
    }


@pytest.fixture
def read(parse: Callable[[str], Any], tmp_path: Path) -> Read:
    """Write a report with these arguments and read it again."""

    def written(arguments: dict[str, Any]) -> Any:
        scene_report(tmp_path / "report.html", **arguments)
        return parse((tmp_path / "report.html").read_text(encoding="utf-8"))

    return written


@pytest.mark.parametrize(("classes", "samples"), [(3, 40), (5, 40), (6, 40), (45, 90)])
def test_report_contains_everything(read: Read, classes: int, samples: int) -> None:
    arguments = made(classes, samples)
    page = read(arguments)
    assert page.texts["h1"] == ["run <1>"]
    assert page.texts["p"][0] == f"Scene classification · {samples} images · {classes} classes"
    assert page.texts["h2"] == [
        *("Training", "Classes", "Confusions", "Calibration", "Examples", "Class tokens"),
        *("Patch features", "Run"),
    ]
    figures = arguments["metrics"].compute()
    assert f"{figures['top1']:.2f} %" in page.texts["dd"]
    assert ("top-5 accuracy" in page.texts["dt"]) == (classes > 5)
    captions = page.texts["figcaption"]
    assert "Validation: best top-1 61.23 % after epoch 1" in captions
    assert page.texts["pre"] == [arguments["config_yaml"]]
    assert "cpu & co" in page.texts["dd"]
    ids = page.values("id")
    assert len(set(ids)) == len(ids)
    used = [clip[5:-1] for clip in page.values("clip-path")]
    used += [address[1:] for address in page.values("xlink:href")]
    assert set(used) <= set(ids)
    assert len(used) > samples


def test_what_is_not_there_is_left_out(read: Read) -> None:
    arguments = made(3, 2, history=[], embedding=None)
    arguments["feature_views"] = arguments["feature_views"][:0]
    arguments["feature_maps"] = arguments["feature_maps"][:0]
    assert read(arguments).texts["h2"] == [
        *("Classes", "Confusions", "Calibration", "Examples", "Run")
    ]


def test_of_many_images_some_are_laid_out(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "EMBEDDED", 12)
    page = read(made(3, 40))
    assert "Class tokens of 12 images" in page.texts["figcaption"]


@pytest.mark.parametrize("history", [HISTORY[:2], HISTORY[2:], HISTORY[:1]])
def test_a_training_that_ended_early(read: Read, history: list[dict[str, Any]]) -> None:
    assert "Training" in read(made(3, 5, history=history)).texts["h2"]


def test_a_perfect_model_has_no_mistakes_to_show(read: Read) -> None:
    labels = np.arange(6)
    metrics = ClassificationMetrics(6)
    metrics.update(torch.eye(6), torch.arange(6))
    arguments = made(6, 6, metrics=metrics, probabilities=np.eye(6), labels=labels)
    page = read(arguments)
    assert page.texts["h3"] == ["Least certain", "Most certain"]
    assert "wrong" not in page.values("class")


def test_classes_are_listed_worst_first(read: Read) -> None:
    metrics = ClassificationMetrics(4)
    truth = torch.tensor([0, 0, 2, 2, 3, 3])  # none of class 1
    metrics.update(torch.eye(4)[torch.tensor([0, 0, 2, 3, 0, 2])], truth)
    arguments = made(4, 6, metrics=metrics)
    arguments["classes"] = list("abcd")
    cells = read(arguments).texts["td"]
    rows = np.reshape(cells[:20], (4, 5)).tolist()
    assert [row[0] for row in rows] == ["d", "c", "a", "b"]
    assert rows[3] == ["b", "0", "–", "–", "–"]
    pairs = np.reshape(cells[20:], (-1, 4)).tolist()
    assert pairs == [
        ["c", "d", "1", "50.00"],
        ["d", "a", "1", "50.00"],
        ["d", "c", "1", "50.00"],
    ]


def test_examples_agree_with_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "GALLERY", 4)
    arguments = made(3, 60)
    probabilities, labels = arguments["probabilities"], arguments["labels"]
    score, right = probabilities.max(1), probabilities.argmax(1) == labels
    by_score = sorted(range(60), key=lambda i: -score[i])
    best = {}
    for i in by_score:
        if right[i]:
            best.setdefault(int(labels[i]), i)
    kinds = scene._examples(probabilities, labels)
    mistakes = [i for i in by_score if not right[i]][:4]
    assert {name: indices.tolist() for (name, _), indices in kinds.items()} == {
        "Most certain mistakes": mistakes,
        "Least certain": [i for i in by_score[::-1] if i not in mistakes][:4],  # each image once
        "Most certain": list(best.values()),
    }


@pytest.mark.parametrize(
    ("confidence", "words"), [(0.9, "doubtful label"), (0.07, "None above 50 %")]
)
def test_a_label_is_doubted_only_where_the_model_is_certain(confidence: float, words: str) -> None:
    probabilities = np.full((4, 21), (1 - confidence) / 20)
    probabilities[:, 3] = confidence
    (_, note), *_ = scene._examples(probabilities, np.array([3, 3, 5, 6]))
    assert words in note


def test_examples_say_what_was_taken_for_what(read: Read) -> None:
    loaded: list[int] = []

    def load(index: int) -> np.ndarray:
        loaded.append(index)
        return np.zeros((20, 30, 3), np.uint8)

    metrics = ClassificationMetrics(2)
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7]])
    metrics.update(torch.from_numpy(probabilities), torch.tensor([0, 0]))
    arguments = made(2, 2, metrics=metrics, probabilities=probabilities, labels=np.array([0, 0]))
    arguments |= {"classes": ["sea", "ice"], "names": ["x", "y"], "load_image": load}
    page = read(arguments)
    wrong, right = "ice 70.0\u00a0% · is sea", "sea 90.0\u00a0%"
    captions = [text for text in page.texts["figcaption"] if "\u00a0" in text]
    assert captions == [wrong, right, right]
    assert page.texts["small"] == ["y", "x", "x"]
    assert loaded == [1, 0, 0]
    assert [kind for kind in page.values("class") if kind in ("right", "wrong")] == [
        *("wrong", "right", "right")
    ]


def rendered(table: Table) -> str:
    console = Console(width=120, no_color=True)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_tables_for_the_terminal() -> None:
    text = rendered(summary_table({"top1": 97.561, "new": 5.0}))
    for part in ("top-1 accuracy", "97.56 %", "new", "5.00 %"):
        assert part in text
    metrics = ClassificationMetrics(2)
    metrics.update(torch.eye(2), torch.tensor([0, 0]))
    text = rendered(class_table(metrics.per_class(["[bold]sea", "ice"])))
    for part in ("class", "images", "[bold]sea", "50.00", "66.67", "–"):
        assert part in text


def test_damaged_records_are_left_out_of_the_curves(tmp_path: Path) -> None:
    damaged = [{"kind": "train", "step": 3, "loss": 1.0}, {"kind": "val", "step": 3, "epoch": 2}]
    pages = []
    for history in (HISTORY, [*HISTORY, *damaged]):
        scene_report(tmp_path / "report.html", **made(3, 9, history=history))
        pages.append((tmp_path / "report.html").read_bytes())
    assert pages[0] == pages[1]
