"""A plain verdict on a model that learned nothing, or not all of its classes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cgeartheye.config import Config
from cgeartheye.metrics.classification import ConfusionMatrix
from cgeartheye.metrics.detection.metrics import DetectionMetrics

FEW_STEPS = 500  # optimizer steps in which little is learned
RARE = 0.05  # share of the samples below which a class is rare
BARELY = 0.05  # IoU or AP below which a class is as good as not found
NAMED = 5  # classes in a sentence
LITTLE = 0.7  # of the first loss, above which the last one shows that little was learned


def judge_labels(confusion: ConfusionMatrix, classes: Sequence[str]) -> list[str]:
    """Judge one label for each image.

    Args:
        confusion: over the images.
        classes: names by index.

    Returns:
        Sentences; none where nothing stands out.
    """
    predicted, support = confusion.counts.sum(0).numpy(), confusion.support
    tested, chance = int(support.sum()), 1 / max(1, int(np.count_nonzero(support)))
    found = float(np.nanmean(confusion.recall)) if tested else math.nan
    # Two standard errors above what guessing finds.
    limit = chance + 2 * math.sqrt(chance * (1 - chance) / max(1, tested))
    sentences = []
    if found <= limit and chance < 1:
        sentences.append(
            f"at chance level: {found:.1%} mean class accuracy, guessing finds {chance:.1%}"
        )
    return sentences + _never(predicted, support, classes)


def judge_pixels(confusion: ConfusionMatrix, classes: Sequence[str], change: bool) -> list[str]:
    """Judge a class for each pixel.

    Args:
        confusion: over the pixels.
        classes: names by index.
        change: whether they are unchanged and changed.

    Returns:
        Sentences; none where nothing stands out.
    """
    predicted, support = confusion.counts.sum(0).numpy(), confusion.support
    if change and not predicted[1]:
        return ["no change is found anywhere: every map is empty"]
    barely = (confusion.iou < BARELY) & (predicted > 0) & (support > 0)
    sentences = _never(predicted, support, classes)
    if barely.any():
        labels = np.flatnonzero(barely).tolist()
        named = name_some([f"{classes[n]} {confusion.iou[n]:.1%}" for n in labels])
        sentences.append(f"barely found, by their IoU: {named}")
    return sentences


def judge_boxes(metrics: DetectionMetrics, classes: Sequence[str]) -> list[str]:
    """Judge boxes; see `judge_pixels`."""
    rows = metrics.per_class(classes)
    known = [(str(row["class"]), float(row["AP50"])) for row in rows if row["AP50"] == row["AP50"]]
    barely = [f"{name} {ap:.1f} %" for name, ap in known if ap < 100 * BARELY]
    if known and not any(ap for _, ap in known):
        return ["no object is found: AP at 0.5 is 0 for every class"]
    return [f"barely found, by their AP at 0.5: {name_some(barely)}"] if barely else []


def advice(
    config: Config,
    history: Sequence[Mapping[str, Any]],
    support: Sequence[float],
    classes: Sequence[str],
) -> str:
    """Return the two likeliest causes of a bad verdict, and what to try.

    Args:
        config: of the run.
        history: records of its `metrics.jsonl`; none: not known.
        support: samples of each class in the test.
        classes: names by index.
    """
    causes = []
    training, name = config.training, config.backbone.name
    if config.backbone.weights == "random" and config.backbone.tuning == "frozen":
        causes.append(f"the {name} backbone is random and frozen (set backbone.weights)")
    steps = max((record["step"] for record in history), default=0)
    if 0 < steps < FEW_STEPS and _improved_to_the_end(history):
        more = max(2 * training.epochs, round(training.epochs * FEW_STEPS / steps))
        causes.append(f"{steps} steps are few (try training.epochs={more})")
    shares = np.asarray(support, float) / max(1.0, float(np.sum(support)))
    rare = [n for n in np.argsort(shares).tolist() if 0 < shares[n] < RARE]
    if rare and config.task in ("semantic_segmentation", "change_detection"):
        share = f"{classes[rare[0]]} covers {shares[rare[0]]:.1%} of the pixels"
        causes.append(f"{share} (try decoder.dice=1.0, or decoder.class_weights)")
    losses = [r["loss"] for r in history if r["kind"] == "train" and "loss" in r]
    causes += _learning_rate(losses, training.lr)
    causes.append("labels do not belong to their images (run cgeartheye check)")
    causes.append("there are too few labels of these classes (label more images)")
    return "likeliest causes: " + "; ".join(causes[:2])


def _improved_to_the_end(history: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the best epoch is in the second half, as far as epochs were evaluated."""
    tested = [record for record in history if record["kind"] == "val"]
    name = next((n for n in (tested or [{}])[0] if n not in ("kind", "step", "epoch")), "")
    figures = [record.get(name, math.nan) for record in tested]
    if len(figures) < 2 or np.isnan(figures).all():
        return True
    return int(np.nanargmax(figures)) >= len(figures) // 2


def _learning_rate(losses: Sequence[float], lr: float) -> list[str]:
    """Return another learning rate to try, where the training loss rose or hardly fell."""
    ends = max(1, len(losses) // 10)
    if len(losses) < 4:
        return []
    first, last = float(np.mean(losses[:ends])), float(np.mean(losses[-ends:]))
    course = f"from {first:.3g} to {last:.3g}"
    if not last <= first:
        return [f"the loss rose {course} (try training.lr={lr / 10:.0e})"]
    if last > LITTLE * first:
        return [f"the loss fell only {course} (try training.lr={3 * lr:.0e})"]
    return []


def _never(predicted: np.ndarray, support: np.ndarray, classes: Sequence[str]) -> list[str]:
    if np.count_nonzero(predicted) == 1 and np.count_nonzero(support) > 1:
        return [f"everything is taken for {classes[int(predicted.argmax())]}"]
    never = [classes[n] for n in np.flatnonzero((predicted == 0) & (support > 0)).tolist()]
    return [f"never predicted: {name_some(never)}"] if never else []


def name_some(names: Sequence[str], most: int = NAMED) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
