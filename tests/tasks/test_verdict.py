"""Verdicts on confusions that are made up, and on what a test writes of them."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from cgeartheye.config import (
    Backbone,
    ChangeData,
    ChangeDetection,
    SceneClassification,
    SceneData,
    Training,
)
from cgeartheye.metrics.classification import ConfusionMatrix
from cgeartheye.tasks.verdict import advice, judge_labels, judge_pixels, name_some

CLASSES = ("wood", "road", "water")


def confusion(rows: list[list[int]]) -> ConfusionMatrix:
    made = ConfusionMatrix(len(rows))
    made.counts = torch.tensor(rows)
    return made


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[10, 0, 0], [1, 9, 0], [0, 0, 10]], []),
        (
            [[10, 0, 0], [10, 0, 0], [10, 0, 0]],
            [
                "at chance level: 33.3% mean class accuracy, guessing finds 33.3%",
                "everything is taken for wood",
            ],
        ),
        ([[10, 0, 0], [10, 0, 0], [0, 0, 10]], ["never predicted: road"]),
        # A class that the test does not have is not missed.
        ([[10, 0, 0], [0, 0, 0], [0, 0, 10]], []),
    ],
)
def test_labels(rows: list[list[int]], expected: list[str]) -> None:
    assert judge_labels(confusion(rows), CLASSES) == expected


def test_guesses_are_at_chance_level_and_good_answers_are_not() -> None:
    """Property: over random guesses, nearly all verdicts report it; over 60 % right, none does."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(300) % 10
    reported = 0
    for _ in range(50):
        made = ConfusionMatrix(10)
        made.update(torch.randint(10, (300,), generator=generator), truth)
        reported += any("chance" in s for s in judge_labels(made, [str(n) for n in range(10)]))
    assert reported >= 45
    right = torch.rand(300, generator=generator) < 0.6
    made = ConfusionMatrix(10)
    made.update(torch.where(right, truth, (truth + 1) % 10), truth)
    assert judge_labels(made, [str(n) for n in range(10)]) == []


def test_pixels() -> None:
    made = confusion([[900, 10, 0], [89, 1, 0], [0, 0, 100]])
    assert judge_pixels(made, CLASSES, False) == ["barely found, by their IoU: road 1.0%"]
    empty = confusion([[95, 0], [5, 0]])
    sentence = "no change is found anywhere: every map is empty"
    assert judge_pixels(empty, ("unchanged", "changed"), True) == [sentence]
    assert judge_pixels(confusion([[95, 0], [1, 4]]), ("unchanged", "changed"), True) == []


def history(losses: list[float], figures: list[float] | None = None) -> list[dict[str, Any]]:
    train = [{"kind": "train", "step": n + 1, "loss": loss} for n, loss in enumerate(losses)]
    val = [{"kind": "val", "step": n, "epoch": n, "top1": x} for n, x in enumerate(figures or [])]
    return train + val


def test_advice_names_two_causes_the_likeliest_first() -> None:
    random = SceneClassification(
        backbone=Backbone(name="tiny", weights="random"), data=SceneData(root=Path("x"))
    )
    text = advice(random, history([1.0] * 40), [1, 1, 1], CLASSES)
    assert text.startswith("likeliest causes: the tiny backbone is random and frozen")
    assert "40 steps are few (try training.epochs=1250)" in text
    change = ChangeDetection(backbone=Backbone(name="tiny"), data=ChangeData(root=Path("x")))
    text = advice(change, [], [98, 2], ("unchanged", "changed"))
    assert "changed covers 2.0% of the pixels (try decoder.dice=1.0" in text
    assert text.endswith("labels do not belong to their images (run cgeartheye check)")


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([3.0, 2.0, 1.0, 0.5], None),
        ([3.0, 2.9, 2.8, 2.7], "fell only from 3 to 2.7 (try training.lr=3e-03)"),
        ([3.0, 9.0, 5.0, 4.0], "rose from 3 to 4 (try training.lr=1e-04)"),
        ([3.0, 2.0, 1.0, math.nan], "rose from 3 to nan (try training.lr=1e-04)"),
        ([3.0, 2.9], None),
    ],
)
def test_another_learning_rate_is_advised_by_the_loss(
    losses: list[float], words: str | None
) -> None:
    config = SceneClassification(
        backbone=Backbone(name="tiny"), data=SceneData(root=Path("x")), training=Training(lr=1e-3)
    )
    longer = [loss for loss in losses for _ in range(200)] if len(losses) > 2 else losses
    text = advice(config, history(longer), [1, 1, 1], CLASSES)
    assert ("training.lr" in text) == (words is not None)
    assert words is None or words in text


def test_more_epochs_are_not_advised_after_the_best_one() -> None:
    config = SceneClassification(backbone=Backbone(name="tiny"), data=SceneData(root=Path("x")))
    for figures, few in (([50, 60, 70, 80], True), ([50, 80, 70, 60], False), ([50], True)):
        text = advice(config, history([3.0, 2.0, 1.0], figures), [1, 1, 1], CLASSES)
        assert ("steps are few" in text) == few


def test_names_that_are_left_out_are_counted() -> None:
    assert name_some(list("abc"), 3) == "a, b, c"
    assert name_some(list("abcde"), 3) == "a, b, c and 2 more"
