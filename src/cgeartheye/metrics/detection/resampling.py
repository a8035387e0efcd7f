"""Average precision of tested images that are drawn anew: matches are kept, not made again.

Whether a box is right depends on its own image alone, so an image that is drawn twice counts its
boxes twice, and one that is not drawn does not count them.
"""

from dataclasses import dataclass

import numpy as np

from cgeartheye.metrics.detection.average_precision import COCO_RECALLS, VOC_RECALLS
from cgeartheye.metrics.detection.coco import coco_matches
from cgeartheye.metrics.detection.matching import RIGHT, UNCOUNTED
from cgeartheye.metrics.detection.metrics import THRESHOLDS, DetectionMetrics

Array = np.ndarray

_AT = {"ap": range(len(THRESHOLDS)), "ap50": range(1), "ap75": range(5, 6)}
_AT |= {"ap_11": _AT["ap"], "ap50_11": _AT["ap50"]}


@dataclass(frozen=True)
class BoxOutcomes:
    """Outcomes of the N boxes that were found in I images, class by class and best first.

    Attributes:
        oriented: whether figures are DOTA's, else they are COCO's.
        images: place of the image of each box, int32 `[N]`, 0..I-1.
        labels: int32 `[N]`, ascending.
        outcomes: `WRONG`, `RIGHT` or `UNCOUNTED` at `THRESHOLDS`, int8 `[T, N]`.
        scores: float32 `[N]`, descending in each class.
        support: true boxes that count, of each image and class, int32 `[I, K]`.
    """

    oriented: bool
    images: Array
    labels: Array
    outcomes: Array
    scores: Array
    support: Array

    @classmethod
    def of(cls, metrics: DetectionMetrics) -> "BoxOutcomes":
        """Return the outcomes of a test.

        Args:
            metrics: of all its images.
        """
        tested, places, outcomes = metrics.tested, [], []
        for label, one in enumerate(metrics.outcomes):
            places.append(one.where)
            if metrics.oriented:
                outcomes.append(one.outcomes)
            else:
                by_image = np.sort(one.where)
                found = coco_matches(tested, label, by_image, THRESHOLDS)
                outcomes.append(found[:, np.searchsorted(by_image, one.where)])
        where = np.concatenate(places)
        counted = ~tested.ignored
        support = np.zeros((len(tested.images), metrics.classes), np.int32)
        np.add.at(support, (tested.true_images[counted], tested.true_labels[counted]), 1)
        return cls(
            metrics.oriented,
            tested.found_images[where].astype(np.int32),
            tested.labels[where],
            np.concatenate(outcomes, axis=1),
            tested.scores[where],
            support,
        )

    def __len__(self) -> int:
        return len(self.support)

    @property
    def figures(self) -> tuple[str, ...]:
        """Keys of the figures that follow from these outcomes."""
        return ("ap", "ap50", "ap75", "ap_11", "ap50_11") if self.oriented else tuple(_AT)[:3]

    def beside(self, other: "BoxOutcomes") -> "BoxOutcomes":
        """Return the outcomes of one behind those of another, as if of twice as many images."""
        images = np.concatenate([self.images, len(self) + other.images])
        labels = np.concatenate([self.labels, other.labels])
        scores = np.concatenate([self.scores, other.scores])
        outcomes = np.concatenate([self.outcomes, other.outcomes], axis=1)
        order = np.lexsort((-scores, labels))  # which keeps the order of equals
        return BoxOutcomes(
            self.oriented,
            images[order],
            labels[order],
            outcomes[:, order],
            scores[order],
            np.concatenate([self.support, other.support]),
        )

    def score(self, figure: str, weights: Array) -> Array:
        """Return a figure in percent, `[draws]`; NaN without true boxes that count.

        Args:
            figure: one of `figures`.
            weights: how often each image counts in each draw, `[draws, I]`.
        """
        recalls = None if self.oriented else COCO_RECALLS
        if figure.endswith("_11"):
            recalls = VOC_RECALLS
        starts = np.searchsorted(self.labels, np.arange(self.support.shape[1] + 1))
        support = weights @ self.support.astype(np.float64)
        found = np.full((len(weights), len(_AT[figure]), self.support.shape[1]), np.nan)
        for label in np.flatnonzero(self.support.any(0)):
            there = np.flatnonzero(support[:, label])
            for place, threshold in enumerate(_AT[figure]):
                outcomes = self.outcomes[threshold, starts[label] : starts[label + 1]]
                last = int(np.flatnonzero(outcomes == RIGHT).max(initial=-1)) + 1
                outcomes = outcomes[:last]  # of boxes behind it none adds to the area
                images = self.images[starts[label] : starts[label] + last]
                drawn = weights[np.ix_(there, images)].astype(np.float64)
                found[there, place, label] = _precision(
                    drawn * (outcomes == RIGHT),
                    drawn * (outcomes != UNCOUNTED),
                    support[there, label],
                    recalls,
                )
        with np.errstate(invalid="ignore"):
            known = ~np.isnan(found)
            total = np.where(known, found, 0).sum((1, 2))
            return np.asarray(100 * total / known.sum((1, 2)))


def _precision(right: Array, counted: Array, support: Array, recalls: Array | None) -> Array:
    """Return the area under the best precision, or its mean at recalls, 0..1 `[draws]`.

    Args:
        right: right boxes, best first, `[draws, n]`.
        counted: right and wrong ones, `[draws, n]`.
        support: true boxes that count, above 0, `[draws]`.
        recalls: at which it is looked at; none: the area.
    """
    hits = right.cumsum(1)
    precision = hits / np.maximum(counted.cumsum(1), 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    if recalls is None:
        return np.asarray((right * best).sum(1) / support)
    padded = np.pad(best, ((0, 0), (0, 1)))  # 0 where a recall is not reached
    rows = hits / support[:, None]
    found = [b[np.searchsorted(r, recalls)].mean() for r, b in zip(rows, padded, strict=True)]
    return np.array(found)
