"""Metrics of classes: sums of integers, which add up exactly over any processes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cgeartheye.metrics.boundary import CLASS_COUNTS, count_boundaries
from cgeartheye.utils.errors import UserError

NOT_LABELED = 255  # in a mask: counts nowhere
ECE_BINS = 15
_ONE = 2**20  # confidences are summed in fixed point: 2^-20, so that no order of adding matters

Array = np.ndarray


class ConfusionMatrix:
    """Counts of (true class, predicted class).

    Attributes:
        counts: int64 `[K, K]`, a row for each true class.
    """

    def __init__(self, classes: int):
        self.counts = torch.zeros(classes, classes, dtype=torch.int64)

    def update(self, predicted: Tensor, truth: Tensor, ignore: int | None = NOT_LABELED) -> None:
        """Count predictions.

        Args:
            predicted: integers 0..K-1 of any shape, on any device.
            truth: the same; or `ignore`, where nothing is counted.
            ignore: none: every truth is a class.

        Raises:
            ValueError: a class outside 0..K-1.
        """
        classes = len(self.counts)
        truth, predicted = truth.flatten().long(), predicted.flatten().long()
        if ignore is not None:
            labeled = truth != ignore
            truth, predicted = truth[labeled], predicted[labeled]
        for name, values in (("true", truth), ("predicted", predicted)):
            if len(values) and not 0 <= int(values.min()) <= int(values.max()) < classes:
                raise ValueError(
                    f"{name} classes {int(values.min())}..{int(values.max())} "
                    f"are not all within 0..{classes - 1}"
                )
        pairs = torch.bincount(truth * classes + predicted, minlength=classes**2)
        self.counts += pairs.view(classes, classes).cpu()

    @property
    def support(self) -> Array:
        """Samples of each true class, `[K]`."""
        return self.counts.sum(1).numpy()

    @property
    def recall(self) -> Array:
        """Share of each true class that is found, `[K]`, 0..1; NaN for a class without samples."""
        return _ratio(self._hits, self.support)

    @property
    def precision(self) -> Array:
        """Share of each predicted class that is right, `[K]`, 0..1; NaN for one never predicted."""
        return _ratio(self._hits, self.counts.sum(0).numpy())

    @property
    def f1(self) -> Array:
        """Harmonic mean of the two, `[K]`, 0..1; NaN for a class without samples."""
        f1 = _ratio(2 * self._hits, self.support + self.counts.sum(0).numpy())
        return np.where(self.support > 0, f1, np.nan)

    @property
    def iou(self) -> Array:
        """Intersection over union, `[K]`, 0..1; NaN for a class without samples."""
        union = self.support + self.counts.sum(0).numpy() - self._hits
        return np.where(self.support > 0, _ratio(self._hits, union), np.nan)

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that have samples, 0..1; NaN without samples."""
        return _mean_of_known(self.iou)

    @property
    def accuracy(self) -> float:
        """Share of all samples that are right, 0..1; NaN without samples."""
        return float(_ratio(self._hits.sum(), self.support.sum()))

    @property
    def _hits(self) -> Array:
        return self.counts.diagonal().numpy()


class _Sums:
    """Sums of integers."""

    def __init__(self, *parts: Tensor):
        self._parts = parts

    def state(self) -> Tensor:
        """Return all sums as one int64 vector."""
        return torch.cat([part.flatten() for part in self._parts])

    def load_states(self, states: Sequence[Tensor]) -> None:
        """Replace the sums, by those of the states of all processes."""
        total = torch.stack(list(states)).sum(0)
        pieces = torch.split(total, [part.numel() for part in self._parts])
        for part, values in zip(self._parts, pieces, strict=True):
            part.copy_(values.view_as(part))


class ClassificationMetrics(_Sums):
    """Metrics of a classifier of whole images.

    Attributes:
        confusion: the confusion matrix.
        top5: int64 `[1]`, samples whose class is among the five most probable ones.
        bins: int64 `[ECE_BINS, 3]`: samples, hits and summed confidence in 2^-20, in equal steps
            of confidence that hold their upper edge: (0, 1/15], (1/15, 2/15], ...
    """

    def __init__(self, classes: int):
        self.confusion = ConfusionMatrix(classes)
        self.top5 = torch.zeros(1, dtype=torch.int64)
        self.bins = torch.zeros(ECE_BINS, 3, dtype=torch.int64)
        super().__init__(self.confusion.counts, self.top5, self.bins)

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Add predictions.

        Args:
            probabilities: float `[B, K]`, rows sum to 1. Of equal ones the lower class comes first.
            labels: int `[B]`, 0..K-1.

        Raises:
            UserError: probabilities that are not finite.
            ValueError: a label outside 0..K-1.
        """
        probabilities, labels = probabilities.detach().cpu().double(), labels.cpu().long()
        if not probabilities.isfinite().all():
            raise UserError(
                "the predictions are not finite: the training has diverged; lower training.lr, set "
                "training.clip_norm=1.0 or training.precision=fp32"
            )
        order = probabilities.argsort(dim=1, descending=True, stable=True)
        self.confusion.update(order[:, 0], labels, ignore=None)
        self.top5 += (order[:, :5] == labels[:, None]).sum()
        confidence = (probabilities.amax(1) * _ONE).round().long()
        place = (confidence * ECE_BINS - 1) // _ONE
        samples, hits = torch.ones_like(labels), (order[:, 0] == labels).long()
        self.bins.index_add_(0, place, torch.stack([samples, hits, confidence], dim=1))

    def compute(self) -> dict[str, float]:
        """Return the figures in percent, 0..100; NaN without samples.

        `mean_accuracy` (the mean recall) and `macro_f1` are means over the classes that have
        samples: scikit-learn's with `labels=` those classes. A prediction of any other class
        counts as a miss of the true one. `top5` is 100 where there are no more than five classes.
        `ece` is the expected calibration error in 15 equal steps (Guo et al. 2017, eq. 3).
        """
        samples, hits, confidence = self.bins.numpy().T
        figures = {
            "top1": self.confusion.accuracy,
            "top5": float(_ratio(self.top5.numpy().sum(), samples.sum())),
            "mean_accuracy": _mean_of_known(self.confusion.recall),
            "macro_f1": _mean_of_known(self.confusion.f1),
            "ece": float(_ratio(np.abs(hits - confidence / _ONE).sum(), samples.sum())),
        }
        return {name: 100 * value for name, value in figures.items()}

    def calibration(self) -> tuple[Array, Array, Array]:
        """Return each bin's samples, accuracy and mean confidence (0..1; NaN where it is empty)."""
        samples, hits, confidence = self.bins.numpy().T
        return samples, _ratio(hits, samples), _ratio(confidence / _ONE, samples)

    def per_class(self, classes: Sequence[str]) -> list[dict[str, str | int | float]]:
        """Return a row for each class: its name, its images, and figures in percent.

        Accuracy is the share of the class's images that are recognised (recall, or producer's
        accuracy), precision the share of the images taken for it that are right (user's accuracy).
        What is not defined is NaN.
        """
        confusion = self.confusion
        columns = (confusion.support, confusion.recall, confusion.precision, confusion.f1)
        return [
            {
                "class": name,
                "images": int(support),
                "accuracy": 100 * float(recall),
                "precision": 100 * float(precision),
                "F1": 100 * float(f1),
            }
            for name, support, recall, precision, f1 in zip(classes, *columns, strict=True)
        ]


class SegmentationMetrics(_Sums):
    """Metrics of a classifier of pixels.

    Attributes:
        confusion: the confusion matrix of the pixels.
        boundaries: int64 `[K, 4]`; see `boundary.count_boundaries`.
    """

    def __init__(self, classes: int):
        self.confusion = ConfusionMatrix(classes)
        self.boundaries = torch.zeros(classes, CLASS_COUNTS, dtype=torch.int64)
        super().__init__(self.confusion.counts, self.boundaries)

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Add the map of an image.

        Args:
            predicted: integers 0..K-1, `[H, W]`.
            truth: the same; or 255, where nothing is counted.

        Raises:
            ValueError: a class outside 0..K-1.
        """
        self.confusion.update(predicted, truth)
        hidden = truth == NOT_LABELED
        known = predicted.masked_fill(hidden, NOT_LABELED)
        self.boundaries += count_boundaries(known, truth, len(self.boundaries), NOT_LABELED).cpu()

    @property
    def boundary_f1(self) -> Array:
        """Return the agreement of the classes' boundaries, `[K]`, 0..1; NaN for one that has none.

        The harmonic mean of the share of predicted boundary pixels that are within 3 pixels of a
        true one of their class, and of the share of true ones that are so near to a predicted one
        (Csurka et al. 2013, there with 0.75 % of the diagonal in place of 3 pixels and the mean
        over images in place of the sum).
        """
        near_truth, predicted, near_prediction, true = self.boundaries.numpy().T
        # 2pr / (p + r), multiplied out, so that a share of nothing is nothing.
        shared = near_truth * true + near_prediction * predicted
        f1 = _ratio(2 * near_truth * near_prediction, shared)
        return np.where(true > 0, np.where(shared > 0, f1, 0.0), np.nan)

    def compute(self) -> dict[str, float]:
        """Return the figures in percent, 0..100; NaN without samples.

        `miou` and `mf1` are means over the classes that the truth holds; `accuracy` is the share
        of all pixels that are right; `boundary_f1` the mean over the classes with boundaries.
        """
        figures = {
            "miou": self.confusion.mean_iou,
            "mf1": _mean_of_known(self.confusion.f1),
            "accuracy": self.confusion.accuracy,
            "boundary_f1": _mean_of_known(self.boundary_f1),
        }
        return {name: 100 * value for name, value in figures.items()}

    def per_class(self, classes: Sequence[str]) -> list[dict[str, str | int | float]]:
        """Return a row for each class: its name, its pixels, and figures in percent.

        Recall is the share of the class's pixels that are found, precision the share of the pixels
        taken for it that are right. What is not defined is NaN.
        """
        confusion = self.confusion
        columns = (
            *(confusion.support, confusion.iou, confusion.f1),
            *(confusion.precision, confusion.recall, self.boundary_f1),
        )
        return [
            {
                "class": name,
                "pixels": int(support),
                "IoU": 100 * float(iou),
                "F1": 100 * float(f1),
                "precision": 100 * float(precision),
                "recall": 100 * float(recall),
                "boundary F1": 100 * float(boundary),
            }
            for name, support, iou, f1, precision, recall, boundary in zip(
                classes, *columns, strict=True
            )
        ]


class ChangeMetrics(_Sums):
    """Metrics of a detector of change.

    Attributes:
        confusion: the confusion matrix of the pixels; 0 is unchanged, 1 changed.
    """

    def __init__(self) -> None:
        self.confusion = ConfusionMatrix(2)
        super().__init__(self.confusion.counts)

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Add the map of a pair; see `SegmentationMetrics.update`."""
        self.confusion.update(predicted, truth)

    def compute(self) -> dict[str, float]:
        """Return the figures in percent, 0..100; NaN for a share of nothing.

        `f1`, `iou`, `precision` and `recall` are those of 'changed', `accuracy` the share of all
        pixels that are right.
        """
        confusion = self.confusion
        figures = {
            "f1": confusion.f1[1],
            "iou": confusion.iou[1],
            "precision": confusion.precision[1],
            "recall": confusion.recall[1],
            "accuracy": confusion.accuracy,
        }
        return {name: 100 * float(value) for name, value in figures.items()}


def changed_iou(confusion: ConfusionMatrix) -> float:
    """Of the pixels that changed or are taken for it, the share that is both; NaN of none."""
    (_, false_alarms), (misses, hits) = confusion.counts.tolist()
    either = hits + misses + false_alarms
    return hits / either if either else float("nan")


def _ratio(numerator: Array, denominator: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.true_divide(numerator, denominator))


def _mean_of_known(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
