"""Metrics of a detector: average precision by the rules of COCO or of DOTA."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from cgeartheye.boxes import Detections, areas_of, overlap, paired_intersection
from cgeartheye.metrics.detection.average_precision import (
    Curve,
    area_precision,
    curve,
    eleven_point_precision,
)
from cgeartheye.metrics.detection.coco import SIZES, coco_precision
from cgeartheye.metrics.detection.matching import NOBODY, RIGHT, WRONG, match
from cgeartheye.metrics.detection.ragged import RaggedDetections
from cgeartheye.utils.errors import UserError

Array = np.ndarray

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of the overlap
_AT_75 = 5


@dataclass(frozen=True)
class ClassOutcome:
    """Outcomes of the boxes of a class, best first.

    Attributes:
        where: places of its boxes among those of all classes, `[n]`.
        scores: of its boxes, `[n]`.
        outcomes: `WRONG`, `RIGHT` or `UNCOUNTED` at `THRESHOLDS`, int8 `[T, n]`.
        support: true boxes that count.
        partners: places among all true boxes of those that the right ones found at the first
            threshold, `NOBODY` of the others, `[n]`.
    """

    where: Array
    scores: Array
    outcomes: Array
    support: int
    partners: Array

    def curve(self, threshold: int = 0) -> Curve:
        """Return precision and recall at one of the thresholds; it has support."""
        return curve(self.scores, self.outcomes[threshold], self.support)


class DetectionMetrics:
    """Metrics of a detector.

    Images are kept, not sums: whether a box is right depends on those of all images only through
    the order of scores, which no process knows alone.
    """

    def __init__(self, classes: int, oriented: bool):
        self.classes, self.oriented = classes, oriented
        self._parts = [RaggedDetections.nothing(5 if oriented else 4)]

    def update(
        self, index: int, preds: Detections, boxes: Tensor, labels: Tensor, ignored: Tensor
    ) -> None:
        """Add an image.

        Args:
            index: its number in the data set, which no other image has.
            preds: in pixels of the image on disk, in any order; of equal scores the earlier box
                counts as better.
            boxes: the true ones, `[m, 4]` or `[m, 5]`.
            labels: int `[m]`, 0..K-1.
            ignored: bool `[m]`, true boxes that count neither way: COCO's crowds, DOTA's difficult
                ones.

        Raises:
            UserError: scores or boxes found that are not finite.
            ValueError: a label outside 0..K-1.
        """
        preds = preds.cpu()
        if not (preds.scores.isfinite().all() and preds.boxes.isfinite().all()):
            raise UserError(
                "the boxes found are not finite: the training has diverged; lower training.lr, set "
                "training.clip_norm=0.1 or training.precision=fp32"
            )
        preds = preds[preds.scores.argsort(descending=True, stable=True)]
        boxes, labels, ignored = boxes.detach().cpu().float(), labels.cpu(), ignored.cpu().bool()
        for name, values in (("true", labels), ("predicted", preds.labels)):
            if len(values) and not 0 <= int(values.min()) <= int(values.max()) < self.classes:
                raise ValueError(f"{name} classes are not all within 0..{self.classes - 1}")
        preds = Detections(preds.boxes.detach().float(), preds.scores.detach(), preds.labels)
        rows, columns, overlaps = self._pairs(preds, boxes, labels, ignored)
        self._parts.append(
            RaggedDetections(
                images=np.array([index]),
                found_counts=np.array([len(preds)]),
                true_counts=np.array([len(boxes)]),
                pair_counts=np.array([len(overlaps)]),
                boxes=preds.boxes.numpy(),
                scores=preds.scores.float().numpy(),
                labels=preds.labels.int().numpy(),
                true_boxes=boxes.numpy(),
                true_labels=labels.int().numpy(),
                ignored=ignored.numpy(),
                pair_found=rows.int().numpy(),
                pair_true=columns.int().numpy(),
                pair_overlaps=overlaps.numpy(),
            )
        )
        self._forget()

    def state(self) -> RaggedDetections:
        """Return all images."""
        self._parts = [RaggedDetections.concatenate(self._parts)]
        return self._parts[0]

    def load_states(self, states: Sequence[RaggedDetections]) -> None:
        """Replace the images, by those of all processes."""
        self._parts = list(states)
        self._forget()

    @cached_property
    def tested(self) -> RaggedDetections:
        """All images, by their number: the same whoever measured them, and in whatever order."""
        return self.state().by_image()

    @cached_property
    def outcomes(self) -> list[ClassOutcome]:
        """Return the outcomes of the boxes of each class, by DOTA's rules for both kinds of boxes.

        COCO's differ where objects overlap much: there a box may take its second best object.
        """
        return [self._outcome(label) for label in range(self.classes)]

    def compute(self) -> dict[str, float]:
        """Return the figures in percent, 0..100; NaN without true boxes that count.

        `ap` is the mean of the average precision at overlaps of 0.5, 0.55, ... 0.95; `ap50` and
        `ap75` are those at 0.5 and 0.75; all are means over the classes that have true boxes.

        Horizontal, as COCO has it: the average precision at 101 recalls, of the best 100 boxes of
        a class in an image. `ap_small`, `ap_medium` and `ap_large` are of boxes under 32 x 32
        pixels, up to 96 x 96, and above; `ar` is the mean recall of those 100. The published
        figure of DIOR is `ap50` (there of all 300 boxes of an image, which matters only where a
        class has more than 100 in it). The area of a true box is that of the box, not of a mask.

        Oriented, as DOTA has it: `ap`, `ap50` and `ap75` are areas under the curve, `ap_11`
        and `ap50_11` means at 11 recalls; the last is the published figure of DIOR-R (mmrotate's
        default).
        """
        figures = {
            "ap": _mean(self.precisions),
            "ap50": _mean(self.precisions[0]),
            "ap75": _mean(self.precisions[_AT_75]),
        }
        if self.oriented:
            points = self._by_dota(eleven_point_precision)
            figures |= {"ap_11": _mean(points), "ap50_11": _mean(points[0])}
        else:
            for place, size in enumerate(SIZES, start=1):
                figures[f"ap_{size}"] = _mean(self._coco[0][:, place])
            figures["ar"] = _mean(self._coco[1])
        return {name: 100 * value for name, value in figures.items()}

    @cached_property
    def precisions(self) -> Array:
        """Average precision at each of `THRESHOLDS` of each class, 0..1 or NaN `[T, K]`."""
        return self._by_dota(area_precision) if self.oriented else self._coco[0][:, 0]

    def _by_dota(self, precision: Callable[[Curve], float]) -> Array:
        precisions = [
            [
                precision(outcome.curve(at)) if outcome.support else np.nan
                for outcome in self.outcomes
            ]
            for at in range(len(THRESHOLDS))
        ]
        return np.array(precisions)

    @cached_property
    def _coco(self) -> tuple[Array, Array]:
        return coco_precision(self.tested, self.classes)

    @cached_property
    def score_threshold(self) -> float:
        """The score from which on boxes agree best with the truth; 1 where none is right.

        It maximises F1 of the boxes of all classes together at an overlap of 0.5; of equal ones
        the highest.
        """
        scores = np.concatenate([outcome.scores for outcome in self.outcomes])
        outcomes = np.concatenate([outcome.outcomes[0] for outcome in self.outcomes])
        support = sum(outcome.support for outcome in self.outcomes)
        if not (outcomes == RIGHT).any():
            return 1.0
        order = np.argsort(-scores, kind="stable")
        all_classes = curve(scores[order], outcomes[order], support)
        right = all_classes.recall * support
        f1 = 2 * right / (support + np.arange(1, len(right) + 1))
        # Only a box that the next one does not equal can be the last.
        last = np.diff(all_classes.scores, append=-np.inf) != 0
        return float(all_classes.scores[np.where(last, f1, 0).argmax()])

    def curves(self) -> list[Curve | None]:
        """Return precision and recall of each class at an overlap of 0.5; none without support."""
        return [x.curve() if x.support > 0 else None for x in self.outcomes]

    def per_class(self, classes: Sequence[str]) -> list[dict[str, str | int | float]]:
        """Return a row for each class: its name, its true boxes, and figures in percent.

        Precision is the share of the boxes found with `score_threshold` or more that are right at
        an overlap of 0.5, recall the share of the true ones that are found so. What is not defined
        is NaN.
        """
        rows: list[dict[str, str | int | float]] = []
        for name, outcome, precisions in zip(
            classes, self.outcomes, self.precisions.T, strict=True
        ):
            sure = outcome.outcomes[0, outcome.scores >= self.score_threshold]
            right, wrong = (sure == RIGHT).sum(), (sure == WRONG).sum()
            rows.append(
                {
                    "class": name,
                    "objects": outcome.support,
                    "AP50": 100 * float(precisions[0]),
                    "AP": 100 * float(precisions.mean()),
                    "precision": _percent(right, right + wrong),
                    "recall": _percent(right, outcome.support),
                }
            )
        return rows

    def _pairs(
        self, preds: Detections, true: Tensor, labels: Tensor, ignored: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the boxes of a class that overlap enough, and by how much."""
        overlaps = overlap(preds.boxes, true)
        if not self.oriented and ignored.any():
            # Of a crowd no box can be more than a part.
            rows, columns = (overlaps * ignored > 0).nonzero(as_tuple=True)
            boxes = preds.boxes[rows]
            overlaps[rows, columns] = paired_intersection(boxes, true[columns]) / areas_of(boxes)
        pairs = (preds.labels[:, None] == labels) & (overlaps >= THRESHOLDS[0])
        if not self.oriented:
            # What is on an object in a crowd is about that object.
            pairs &= ~(ignored & (pairs & ~ignored).any(dim=1, keepdim=True))
        rows, columns = pairs.nonzero(as_tuple=True)
        return rows, columns, overlaps[rows, columns]

    def _outcome(self, label: int) -> ClassOutcome:
        tested = self.tested
        where = np.flatnonzero(tested.labels == label)
        true = np.flatnonzero(tested.true_labels == label)
        found_of, true_of = tested.pairs
        pairs = np.flatnonzero(tested.labels[found_of] == label)
        ignored, scores = tested.ignored[true], tested.scores[where]
        outcomes, partners = match(
            len(where),
            ignored,
            np.searchsorted(where, found_of[pairs]),
            np.searchsorted(true, true_of[pairs]),
            tested.pair_overlaps[pairs],
            # An overlap of the threshold itself is enough for COCO, and not for DOTA.
            THRESHOLDS if self.oriented else np.nextafter(THRESHOLDS, 0),
        )
        order = np.argsort(-scores, kind="stable")
        return ClassOutcome(
            where[order],
            scores[order],
            outcomes[:, order],
            int((~ignored).sum()),
            np.append(true, NOBODY)[partners[order]],  # NOBODY is the last
        )

    def _forget(self) -> None:
        for name in ("tested", "outcomes", "precisions", "_coco", "score_threshold"):
            self.__dict__.pop(name, None)


def _mean(values: Array | Sequence[float]) -> float:
    known = np.asarray(values)[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _percent(part: int, whole: int) -> float:
    return 100 * float(part / whole) if whole else float("nan")
