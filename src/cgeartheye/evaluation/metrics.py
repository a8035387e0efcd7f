"""Figures made of integer sums: they add up exactly over any number of processes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cgeartheye.errors import UserError

NOT_LABELLED = 255
ECE_BINS = 15
_FIXED_POINT = 2**20  # confidences are summed as integers, so the order of adding tells nothing

Array = np.ndarray


class ConfusionMatrix:
    """Counts of (true class, predicted class).

    Attributes:
        counts: int64 `[K, K]`, a row for each true class.
    """

    def __init__(self, classes: int):
        self.counts = torch.zeros(classes, classes, dtype=torch.int64)

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Count predictions; both are integers 0..K-1 of any one shape.

        Where `truth` is 255 (not labelled) nothing is counted.
        """
        classes = len(self.counts)
        labelled = truth != NOT_LABELLED
        truth, predicted = truth[labelled].long(), predicted[labelled].long()
        assert bool(((truth >= 0) & (truth < classes)).all()), "a label that is no class"
        counts = torch.bincount(truth * classes + predicted, minlength=classes**2)
        self.counts += counts.view(classes, classes).to(self.counts.device)

    @property
    def support(self) -> Array:
        """Labelled samples of each class, `[K]`."""
        return np.asarray(self._array.sum(1))

    @property
    def recall(self) -> Array:
        """Share of each true class that was found, 0..1 `[K]`; NaN for a class without samples."""
        return _ratio(self._hits, self.support)

    @property
    def precision(self) -> Array:
        """Share of each predicted class that is right, 0..1 `[K]`; NaN if never predicted."""
        return _ratio(self._hits, self._array.sum(0))

    @property
    def f1(self) -> Array:
        """Harmonic mean of the two, 0..1 `[K]`; NaN for a class without samples."""
        f1 = _ratio(2 * self._hits, self.support + self._array.sum(0))
        return np.where(self.support > 0, f1, np.nan)

    @property
    def accuracy(self) -> float:
        """Share of samples that are right, 0..1."""
        return float(_ratio(self._hits.sum(), self._array.sum()))

    @property
    def _array(self) -> Array:
        return self.counts.cpu().numpy()

    @property
    def _hits(self) -> Array:
        return np.diag(self._array)


class ClassificationMetrics:
    """What is measured of a classifier of whole images.

    Attributes:
        confusion: the confusion matrix.
        top5: hits among the five most probable classes (all, where there are fewer).
        bins: int64 `[ECE_BINS, 3]`: samples, hits and the sum of confidences in 2^-20, by
            confidence in equal steps.
    """

    def __init__(self, classes: int):
        self.confusion = ConfusionMatrix(classes)
        self.top5 = torch.zeros(1, dtype=torch.int64)
        self.bins = torch.zeros(ECE_BINS, 3, dtype=torch.int64)

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Add predictions.

        Args:
            probabilities: `[B, K]`, rows sum to 1. Of equal ones the lowest class is predicted.
            labels: int `[B]`, 0..K-1.

        Raises:
            UserError: probabilities that are not finite: the training has diverged.
        """
        probabilities, labels = probabilities.detach().float().cpu(), labels.cpu()
        if not probabilities.isfinite().all():
            raise UserError(
                "the predictions are not finite: the training has diverged, lower training.lr, set "
                "training.clip_norm=1.0 or training.precision=fp32"
            )
        order = probabilities.argsort(dim=1, descending=True, stable=True)
        hits = order[:, 0] == labels
        self.confusion.update(order[:, 0], labels)
        self.top5 += (order[:, :5] == labels[:, None]).any(1).sum()
        confidence = probabilities.max(1).values.clamp(0, 1)
        # A bin holds its upper edge: (0, 1/15], (1/15, 2/15], ... (Guo et al. 2017).
        place = ((confidence * ECE_BINS).ceil().long() - 1).clamp(0, ECE_BINS - 1)
        fixed = (confidence.double() * _FIXED_POINT).round().long()
        self.bins.index_add_(0, place, torch.stack([torch.ones_like(fixed), hits, fixed], 1))

    def state(self) -> Tensor:
        """Return all sums as one int64 vector."""
        return torch.cat([self.confusion.counts.flatten(), self.top5, self.bins.flatten()])

    def load_state(self, state: Tensor) -> None:
        """Replace the sums, by those of all processes."""
        parts = [self.confusion.counts, self.top5, self.bins]
        for part, values in zip(parts, state.split([part.numel() for part in parts]), strict=True):
            part.copy_(values.view_as(part))

    def compute(self) -> dict[str, float]:
        """Return the figures, all in percent.

        `mean_accuracy` and `macro_f1` are means over the classes that have samples. `ece` is the
        expected calibration error (Guo et al. 2017, eq. 3).
        """
        confusion = self.confusion
        samples = max(1, int(confusion.counts.sum()))
        _, accuracy, confidence = self.calibration()
        share = self.bins[:, 0].numpy() / samples
        figures = {
            "top1": confusion.accuracy,
            "top5": int(self.top5) / samples,
            "mean_accuracy": _mean(confusion.recall),
            "macro_f1": _mean(confusion.f1),
            "ece": float(np.nansum(share * np.abs(accuracy - confidence))),
        }
        return {name: 100 * float(value) for name, value in figures.items()}

    def calibration(self) -> tuple[Array, Array, Array]:
        """Return, for each bin, samples, accuracy and mean confidence (0..1, NaN if empty)."""
        count, hits, fixed = self.bins.numpy().T
        return count, _ratio(hits, count), _ratio(fixed / _FIXED_POINT, count)

    def per_class(self, classes: Sequence[str]) -> list[dict[str, float | str | int]]:
        """Return a row for each class: name, images, accuracy, precision and F1 in percent."""
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


def _ratio(numerator: Array, denominator: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.divide(numerator, denominator, dtype=np.float64))


def _mean(values: Array) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")
