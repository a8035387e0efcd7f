"""Boxes drawn at random, found more or less where they are."""

from dataclasses import dataclass
from math import pi

import numpy as np
import torch

from cgeartheye.boxes import Detections, canonical
from cgeartheye.metrics.detection.metrics import DetectionMetrics


@dataclass(frozen=True)
class Drawn:
    """An image: what was found, the true boxes, and which of those count neither way."""

    preds: Detections
    boxes: torch.Tensor
    labels: torch.Tensor
    ignored: torch.Tensor


def horizontal(random: np.random.Generator, number: int, whole: bool) -> np.ndarray:
    """Boxes of all sizes; `whole`: on whole pixels, so that overlaps are often equal."""
    sides = np.exp(random.uniform(np.log(6), np.log(160), (number, 2)))
    corner = random.uniform(0, 200, (number, 2))
    boxes = np.concatenate([corner, corner + sides], axis=1)
    return np.round(boxes / 8) * 8 + [0, 0, 8, 8] if whole else boxes


def draw(seed: int, oriented: bool, images: int, most: int = 8) -> list[Drawn]:
    random = np.random.default_rng(seed)
    whole, classes = seed % 3 == 0, 1 + seed % 4
    return [image(random, oriented, whole, classes, most) for _ in range(images)]


def image(
    random: np.random.Generator, oriented: bool, whole: bool, classes: int, most: int
) -> Drawn:
    # Every fourth is empty, and in every fourth nothing is found.
    number = int(random.integers(0, most + 1)) * bool(random.random() > 0.25)
    true = horizontal(random, number, whole)
    labels = random.integers(0, classes, number)
    copies = int(random.integers(0, 3)) if random.random() > 0.25 else 0
    chosen = np.repeat(np.arange(number), copies)
    chosen = chosen[random.random(len(chosen)) < 0.8]
    sides = np.tile(true[chosen, 2:] - true[chosen, :2], 2)
    near = true[chosen] + random.normal(0, 0.08, sides.shape) * sides
    stray = horizontal(random, int(random.integers(0, most)) * bool(copies), whole)
    found = np.concatenate([near, stray])
    found = np.concatenate([found[:, :2], np.maximum(found[:, 2:], found[:, :2] + 1)], axis=1)
    found = np.round(found / 8) * 8 + [0, 0, 8, 8] if whole else found
    names = np.concatenate([labels[chosen], random.integers(0, classes, len(stray))])
    other = random.random(len(names)) < 0.15
    names[other] = random.integers(0, classes, other.sum())
    scores = random.random(len(found)).round(1 if random.random() < 0.5 else 6)
    order = random.permutation(len(found))
    boxes = [torch.from_numpy(each).float() for each in (found[order], true)]
    if oriented:
        angles = random.uniform(0, pi, number)
        turned = np.concatenate([angles[chosen] + random.normal(0, 0.1, len(chosen))])
        of_found = np.concatenate([turned, random.uniform(0, pi, len(stray))])[order]
        pairs = zip(boxes, (of_found, angles), strict=True)
        boxes = [rotated(each, torch.from_numpy(angle).float()) for each, angle in pairs]
    return Drawn(
        Detections(
            boxes[0],
            torch.from_numpy(scores[order]).float(),
            torch.from_numpy(names[order]).long(),
        ),
        boxes[1],
        torch.from_numpy(labels),
        torch.from_numpy(random.random(number) < 0.2),
    )


def rotated(boxes: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Turn horizontal boxes around their centres."""
    middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return canonical(torch.cat([middle, sides, angles[:, None]], dim=1))


def measured(images: dict[int, Drawn], classes: int, oriented: bool) -> DetectionMetrics:
    """Measure images by their numbers, in this order."""
    metrics = DetectionMetrics(classes, oriented)
    for index, one in images.items():
        metrics.update(index, one.preds, one.boxes, one.labels, one.ignored)
    return metrics
