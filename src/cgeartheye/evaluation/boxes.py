"""What is measured of a detector: average precision by the rules of COCO or of DOTA."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from cgeartheye.errors import UserError
from cgeartheye.evaluation.average_precision import (
    Curve,
    area_precision,
    coco_precision,
    curve,
    eleven_point_precision,
)
from cgeartheye.evaluation.matching import (
    NOBODY,
    RIGHT,
    UNCOUNTED,
    WRONG,
    ClassBoxes,
    match_by_coco,
    match_by_dota,
)
from cgeartheye.evaluation.tested import TestedBoxes
from cgeartheye.geometry import Detections, areas_of, overlap, paired_intersection

Array = np.ndarray

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of the overlap
_AT_75 = 5
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
LARGEST_NUMBER = 100  # horizontal boxes of a class in an image that count


@dataclass(frozen=True)
class ClassOutcome:
    """What became of the boxes of a class, best first.

    Attributes:
        where: places of its boxes among those of all classes, `[n]`.
        scores: of its boxes, `[n]`.
        outcomes: `WRONG`, `RIGHT` or `UNCOUNTED`, int8 `[T, A, n]`, for `THRESHOLDS` and for all
            sizes, then each of `SIZES` (oriented: all sizes only).
        support: true boxes that count, int `[A]`.
        partners: places among all true boxes of those that the right ones found at the first
            threshold, `NOBODY` of the others, `[n]`.
    """

    where: Array
    scores: Array
    outcomes: Array
    support: Array
    partners: Array

    def curve(self, threshold: int = 0, size: int = 0) -> Curve:
        """Return precision and recall at one of the thresholds and sizes; it has support."""
        return curve(self.scores, self.outcomes[threshold, size], int(self.support[size]))


class DetectionMetrics:
    """What is measured of a detector.

    Images are kept, not sums: whether a box is right depends on those of all images only through
    the order of scores, which no process knows alone.
    """

    def __init__(self, classes: int, oriented: bool):
        self.classes, self.oriented = classes, oriented
        self._parts = [TestedBoxes.nothing(5 if oriented else 4)]

    def update(
        self, index: int, found: Detections, boxes: Tensor, labels: Tensor, ignored: Tensor
    ) -> None:
        """Add an image.

        Args:
            index: its number in the data set, which no other image has.
            found: in pixels of the image on disk, in any order; of equal scores the earlier box
                counts as better.
            boxes: the true ones, `[m, 4]` or `[m, 5]`.
            labels: int `[m]`, 0..K-1.
            ignored: bool `[m]`, true boxes that count neither way: COCO's crowds, DOTA's difficult
                ones.

        Raises:
            UserError: scores or boxes found that are not finite.
            ValueError: a label outside 0..K-1.
        """
        found = found.cpu()
        if not (found.scores.isfinite().all() and found.boxes.isfinite().all()):
            raise UserError(
                "the boxes found are not finite: the training has diverged; lower training.lr, set "
                "training.clip_norm=0.1 or training.precision=fp32"
            )
        found = found[found.scores.argsort(descending=True, stable=True)]
        boxes, labels, ignored = boxes.detach().cpu().float(), labels.cpu(), ignored.cpu().bool()
        for name, values in (("true", labels), ("predicted", found.labels)):
            if len(values) and not 0 <= int(values.min()) <= int(values.max()) < self.classes:
                raise ValueError(f"{name} classes are not all within 0..{self.classes - 1}")
        found = Detections(found.boxes.detach().float(), found.scores.detach(), found.labels)
        rows, columns, overlaps = self._pairs(found, boxes, labels, ignored)
        self._parts.append(
            TestedBoxes(
                images=np.array([index]),
                found_counts=np.array([len(found)]),
                true_counts=np.array([len(boxes)]),
                pair_counts=np.array([len(overlaps)]),
                boxes=found.boxes.numpy(),
                scores=found.scores.float().numpy(),
                labels=found.labels.int().numpy(),
                true_boxes=boxes.numpy(),
                true_labels=labels.int().numpy(),
                ignored=ignored.numpy(),
                pair_found=rows.int().numpy(),
                pair_true=columns.int().numpy(),
                pair_overlaps=overlaps.numpy(),
            )
        )
        self._forget()

    def state(self) -> TestedBoxes:
        """Return all images."""
        self._parts = [TestedBoxes.concatenate(self._parts)]
        return self._parts[0]

    def load_states(self, states: Sequence[TestedBoxes]) -> None:
        """Replace the images, by those of all processes."""
        self._parts = list(states)
        self._forget()

    @cached_property
    def tested(self) -> TestedBoxes:
        """All images, by their number: the same whoever measured them, and in whatever order."""
        return self.state().by_image()

    @cached_property
    def outcomes(self) -> list[ClassOutcome]:
        """What became of the boxes of each class."""
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

        Oriented, as DOTA has it: `ap`, `ap50` and `ap75` are areas under the curve, `ap50_11` is
        the mean at 11 recalls, which is the published figure of DIOR-R (mmrotate's default).
        """
        known = [outcome for outcome in self.outcomes if outcome.support[0] > 0]
        precisions = np.array([self._precisions(outcome) for outcome in known]).reshape(
            -1, len(THRESHOLDS)
        )
        figures = {
            "ap": _mean(precisions),
            "ap50": _mean(precisions[:, 0]),
            "ap75": _mean(precisions[:, _AT_75]),
        }
        if self.oriented:
            figures["ap50_11"] = _mean([eleven_point_precision(x.curve()) for x in known])
        else:
            for place, size in enumerate(SIZES, start=1):
                figures[f"ap_{size}"] = _mean(
                    [self._precisions(x, place) for x in self.outcomes if x.support[place] > 0]
                )
            figures["ar"] = _mean(
                [(x.outcomes[:, 0] == RIGHT).sum(1) / x.support[0] for x in known]
            )
        return {name: 100 * value for name, value in figures.items()}

    @cached_property
    def score_threshold(self) -> float:
        """The score from which on boxes agree best with the truth; 1 where none is right.

        It maximises F1 of the boxes of all classes together at an overlap of 0.5; of equal ones
        the highest.
        """
        scores = np.concatenate([outcome.scores for outcome in self.outcomes])
        outcomes = np.concatenate([outcome.outcomes[0, 0] for outcome in self.outcomes])
        support = sum(int(outcome.support[0]) for outcome in self.outcomes)
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
        return [x.curve() if x.support[0] > 0 else None for x in self.outcomes]

    def per_class(self, classes: Sequence[str]) -> list[dict[str, str | int | float]]:
        """Return a row for each class: its name, its true boxes, and figures in percent.

        Precision is the share of the boxes found with `score_threshold` or more that are right at
        an overlap of 0.5, recall the share of the true ones that are found so. What is not defined
        is NaN.
        """
        rows: list[dict[str, str | int | float]] = []
        for name, outcome in zip(classes, self.outcomes, strict=True):
            precisions = (
                self._precisions(outcome)
                if outcome.support[0]
                else np.full(len(THRESHOLDS), np.nan)
            )
            sure = outcome.outcomes[0, 0, outcome.scores >= self.score_threshold]
            right, wrong = (sure == RIGHT).sum(), (sure == WRONG).sum()
            rows.append(
                {
                    "class": name,
                    "objects": int(outcome.support[0]),
                    "AP50": 100 * float(precisions[0]),
                    "AP": 100 * float(precisions.mean()),
                    "precision": _percent(right, right + wrong),
                    "recall": _percent(right, outcome.support[0]),
                }
            )
        return rows

    def _pairs(
        self, found: Detections, true: Tensor, labels: Tensor, ignored: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the boxes of a class that overlap enough, and by how much."""
        overlaps = overlap(found.boxes, true)
        if not self.oriented and ignored.any():
            # Of a crowd no box can be more than a part.
            rows, columns = (overlaps * ignored > 0).nonzero(as_tuple=True)
            boxes = found.boxes[rows]
            overlaps[rows, columns] = paired_intersection(boxes, true[columns]) / areas_of(boxes)
        alike = found.labels[:, None] == labels
        rows, columns = (alike & (overlaps >= THRESHOLDS[0])).nonzero(as_tuple=True)
        return rows, columns, overlaps[rows, columns]

    def _outcome(self, label: int) -> ClassOutcome:
        tested = self.tested
        where = np.flatnonzero(tested.labels == label)
        true = np.flatnonzero(tested.true_labels == label)
        found_of, true_of = tested.pairs
        pairs = np.flatnonzero(tested.labels[found_of] == label)
        boxes = ClassBoxes(
            images=tested.found_images[where],
            scores=tested.scores[where],
            ignored=tested.ignored[true],
            areas=areas_of(torch.from_numpy(tested.boxes[where])).numpy(),
            true_areas=areas_of(torch.from_numpy(tested.true_boxes[true])).numpy(),
            found=np.searchsorted(where, found_of[pairs]),
            true=np.searchsorted(true, true_of[pairs]),
            overlaps=tested.pair_overlaps[pairs],
        )
        if self.oriented:
            matches = match_by_dota(boxes, THRESHOLDS)
        else:
            sizes = np.array([(0.0, 1e10), *SIZES.values()])
            matches = match_by_coco(boxes, THRESHOLDS, sizes)
            too_many = boxes.rank_in_image >= LARGEST_NUMBER
            matches.outcomes[:, :, too_many] = UNCOUNTED
            matches.partners[too_many] = NOBODY
        order = np.argsort(-boxes.scores, kind="stable")
        partners = np.append(true, NOBODY)[matches.partners]  # NOBODY is the last
        return ClassOutcome(
            where[order],
            boxes.scores[order],
            matches.outcomes[:, :, order],
            matches.support,
            partners[order],
        )

    def _precisions(self, outcome: ClassOutcome, size: int = 0) -> Array:
        """Return the average precision at each threshold, 0..1 `[T]`."""
        average = area_precision if self.oriented else coco_precision
        return np.array([average(outcome.curve(at, size)) for at in range(len(THRESHOLDS))])

    def _forget(self) -> None:
        for name in ("tested", "outcomes", "score_threshold"):
            self.__dict__.pop(name, None)


def _mean(values: Array | Sequence[Array] | Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _percent(part: int, whole: int) -> float:
    return 100 * float(part / whole) if whole else float("nan")
