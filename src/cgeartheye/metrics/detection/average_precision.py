"""Precision and recall over scores, and the area under that curve by the rules of PASCAL VOC."""

from dataclasses import dataclass

import numpy as np

from cgeartheye.metrics.detection.matching import RIGHT, UNCOUNTED

Array = np.ndarray

COCO_RECALLS = np.linspace(0.0, 1.0, 101)
VOC_RECALLS = np.arange(0.0, 1.1, 0.1)  # as DOTA's evaluation has them, to the last bit


@dataclass(frozen=True)
class Curve:
    """Precision and recall of the boxes down to each score, best first.

    Attributes:
        scores: `[n]`, descending.
        recall: 0..1 `[n]`.
        precision: 0..1 `[n]`.
    """

    scores: Array
    recall: Array
    precision: Array

    @property
    def best_precision(self) -> Array:
        """Highest precision at this recall or more, `[n]`: the curve without its teeth."""
        best: Array = np.maximum.accumulate(self.precision[::-1])[::-1]
        return best


def curve(scores: Array, outcomes: Array, support: int) -> Curve:
    """Return the curve of one class.

    Args:
        scores: `[n]`, descending.
        outcomes: `WRONG`, `RIGHT` or `UNCOUNTED`, `[n]`.
        support: true boxes that count, one or more.
    """
    assert support > 0
    counted = np.flatnonzero(outcomes != UNCOUNTED)
    right = np.cumsum(outcomes[counted] == RIGHT)
    return Curve(scores[counted], right / support, right / np.arange(1, len(counted) + 1))


def eleven_point_precision(found: Curve) -> float:
    """Return the mean of the best precision at 11 recalls (PASCAL VOC 2007), 0..1."""
    return float(precision_at(found, VOC_RECALLS).mean())


def area_precision(found: Curve) -> float:
    """Return the area under the best precision (PASCAL VOC from 2010), 0..1."""
    return float((np.diff(found.recall, prepend=0.0) * found.best_precision).sum())


def precision_at(found: Curve, recalls: Array) -> Array:
    """Return the best precision at these recalls or more, 0..1; 0 where none is reached."""
    places = np.searchsorted(found.recall, recalls)
    return np.append(found.best_precision, 0.0)[places]
