"""Errors of the boxes that a detector found, by kind, and the objects it missed."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
import torch

from cgeartheye.boxes import areas_of, overlap
from cgeartheye.metrics.detection.coco import SIZES
from cgeartheye.metrics.detection.matching import NOBODY, RIGHT, WRONG
from cgeartheye.metrics.detection.metrics import DetectionMetrics

Array = np.ndarray

NEAR, FAR = 0.5, 0.1  # overlaps: on an object, and beside one


class Kind(IntEnum):
    """Kind of a found box after Bolya et al. 2020 (TIDE), whose names are in brackets."""

    RIGHT = 0
    CLASS = 1  # on an object of another class (classification)
    PLACE = 2  # beside an object of its class, or too large, or too small (localisation)
    DUPLICATE = 3  # on an object of its class that a better box found (duplicate)
    BACKGROUND = 4  # the rest (background; also both class and place)


KINDS = {
    Kind.RIGHT: "right",
    Kind.CLASS: "wrong class",
    Kind.PLACE: "wrong place",
    Kind.DUPLICATE: "duplicate",
    Kind.BACKGROUND: "background",
}
NOT_SHOWN = -1


@dataclass(frozen=True)
class BoxErrors:
    """Errors at an overlap of 0.5 and the score threshold of `metrics`.

    Attributes:
        metrics: of the N found and M true boxes.
        kinds: a `Kind` of each found box; `NOT_SHOWN` under the threshold, or where it does not
            count, int8 `[N]`.
        partners: index of the true box that a box is assigned to: the one it matches, overlaps or
            is beside; `NOBODY` for background, `[N]`.
        missed: true boxes that count and that no box found, bool `[M]`.
    """

    metrics: DetectionMetrics
    kinds: Array
    partners: Array
    missed: Array

    @cached_property
    def by_class(self) -> Array:
        """Found boxes of each class and kind, int `[K, 5]`."""
        shown = self.kinds != NOT_SHOWN
        places = self.metrics.tested.labels[shown].astype(int) * len(Kind) + self.kinds[shown]
        counts = np.bincount(places, minlength=self.metrics.classes * len(Kind))
        return counts.reshape(-1, len(Kind))

    @cached_property
    def missed_by_class(self) -> Array:
        """Missed true boxes of each class, int `[K]`."""
        labels = self.metrics.tested.true_labels[self.missed]
        return np.bincount(labels, minlength=self.metrics.classes)

    def by_size(self) -> dict[str, tuple[int, int]]:
        """Return the true boxes found and missed of each of `SIZES`."""
        tested = self.metrics.tested
        areas = areas_of(torch.from_numpy(tested.true_boxes)).numpy()
        found = ~self.missed & ~tested.ignored
        # The upper edge belongs to the smaller size here, so that none counts twice.
        size = np.searchsorted([high for _, high in SIZES.values()], areas)
        return {
            name: (int((found & (size == k)).sum()), int((self.missed & (size == k)).sum()))
            for k, name in enumerate(SIZES)
        }

    @cached_property
    def by_image(self) -> Array:
        """Right, false and missed boxes of each image, int `[I, 3]`."""
        tested = self.metrics.tested
        right, false = self.kinds == Kind.RIGHT, self.kinds > Kind.RIGHT
        parts = (
            (tested.found_images, right),
            (tested.found_images, false),
            (tested.true_images, self.missed),
        )
        counts = [np.bincount(i[which], minlength=len(tested.images)) for i, which in parts]
        return np.stack(counts, axis=1)

    def confusions(self) -> Array:
        """Return the boxes on objects of another class, int `[K, K]`, a row for each true class."""
        tested, classes = self.metrics.tested, self.metrics.classes
        wrong = self.kinds == Kind.CLASS
        true = tested.true_labels[self.partners[wrong]].astype(int)
        places = true * classes + tested.labels[wrong]
        return np.bincount(places, minlength=classes**2).reshape(classes, classes)


def find_errors(metrics: DetectionMetrics) -> BoxErrors:
    """Classify the boxes found with the score threshold or more by their error.

    A false box is a duplicate if it overlaps an object of its class by 0.5 or more, else of the
    wrong class if it does so with an object of another class, else in the wrong place if it
    overlaps an object of its class by 0.1 or more, else background.

    Args:
        metrics: what was measured.
    """
    tested = metrics.tested
    kinds = np.full(len(tested.scores), NOT_SHOWN, np.int8)
    partners = np.full(len(tested.scores), NOBODY)
    for outcome in metrics.outcomes:
        shown = outcome.scores >= metrics.score_threshold
        where, at_half = outcome.where[shown], outcome.outcomes[0, shown]
        kinds[where[at_half == RIGHT]] = Kind.RIGHT
        kinds[where[at_half == WRONG]] = Kind.BACKGROUND
        partners[where] = outcome.partners[shown]
    missed = ~tested.ignored
    missed[partners[partners != NOBODY]] = False

    false = np.flatnonzero(kinds == Kind.BACKGROUND)
    for rows in np.split(false, np.flatnonzero(np.diff(tested.found_images[false])) + 1):
        if not len(rows):
            continue
        true = tested.true_of(int(tested.found_images[rows[0]]))
        if true.start == true.stop:
            continue
        boxes = (torch.from_numpy(x) for x in (tested.boxes[rows], tested.true_boxes[true]))
        overlaps = overlap(*boxes).numpy()
        alike = tested.labels[rows, None] == tested.true_labels[true]
        rules = (
            # The last that holds decides.
            (Kind.PLACE, alike, FAR),
            (Kind.CLASS, ~alike, NEAR),
            (Kind.DUPLICATE, alike, NEAR),
        )
        for kind, which, least in rules:
            best = np.where(which, overlaps, -1.0)
            holds = best.max(1) >= least
            kinds[rows[holds]] = kind
            partners[rows[holds]] = true.start + best.argmax(1)[holds]
    return BoxErrors(metrics, kinds, partners, missed)
