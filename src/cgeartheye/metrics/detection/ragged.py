"""Found and true boxes of many images: few long arrays, however many images."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Self

import numpy as np
import torch

from cgeartheye.boxes import Detections

Array = np.ndarray


@dataclass(frozen=True)
class RaggedDetections:
    """Boxes of I images, one image behind the other: N found, M true, and P pairs of them.

    Attributes:
        images: numbers of the images, int64 `[I]`.
        found_counts: boxes found in each, int64 `[I]`.
        true_counts: true boxes of each, int64 `[I]`.
        pair_counts: pairs of each, int64 `[I]`.
        boxes: found, float32 `[N, 4]` or `[N, 5]`, each image's best first.
        scores: float32 `[N]`.
        labels: int32 `[N]`.
        true_boxes: float32 `[M, 4]` or `[M, 5]`.
        true_labels: int32 `[M]`.
        ignored: bool `[M]`, true boxes that count neither way.
        pair_found: of a pair, the place of the found box within its image, int32 `[P]`.
        pair_true: that of the true one, int32 `[P]`.
        pair_overlaps: how much they overlap, float64 `[P]`.
    """

    __test__ = False  # no test of pytest's

    images: Array
    found_counts: Array
    true_counts: Array
    pair_counts: Array
    boxes: Array
    scores: Array
    labels: Array
    true_boxes: Array
    true_labels: Array
    ignored: Array
    pair_found: Array
    pair_true: Array
    pair_overlaps: Array

    @classmethod
    def nothing(cls, box_dim: int) -> Self:
        """Return no images, of boxes with 4 or 5 numbers."""
        images, labels = np.zeros(0, np.int64), np.zeros(0, np.int32)
        boxes = np.zeros((0, box_dim), np.float32)
        return cls(
            images=images,
            found_counts=images,
            true_counts=images,
            pair_counts=images,
            boxes=boxes,
            scores=boxes[:, 0],
            labels=labels,
            true_boxes=boxes,
            true_labels=labels,
            ignored=labels > 0,
            pair_found=labels,
            pair_true=labels,
            pair_overlaps=np.zeros(0),
        )

    @classmethod
    def concatenate(cls, parts: Sequence["RaggedDetections"]) -> Self:
        """Put several one behind the other; at least one."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def by_image(self) -> Self:
        """Return the images in ascending order of their numbers, each of which occurs once."""
        order = np.argsort(self.images, kind="stable")
        assert (np.diff(self.images[order]) > 0).all(), "an image was measured twice"
        found = _ragged(self.found_counts, order)
        true = _ragged(self.true_counts, order)
        pairs = _ragged(self.pair_counts, order)
        return type(self)(
            images=self.images[order],
            found_counts=self.found_counts[order],
            true_counts=self.true_counts[order],
            pair_counts=self.pair_counts[order],
            boxes=self.boxes[found],
            scores=self.scores[found],
            labels=self.labels[found],
            true_boxes=self.true_boxes[true],
            true_labels=self.true_labels[true],
            ignored=self.ignored[true],
            pair_found=self.pair_found[pairs],
            pair_true=self.pair_true[pairs],
            pair_overlaps=self.pair_overlaps[pairs],
        )

    @cached_property
    def found_images(self) -> Array:
        """Place of the image of each found box, `[N]`, 0..I-1."""
        return np.repeat(np.arange(len(self.images)), self.found_counts)

    @cached_property
    def true_images(self) -> Array:
        """Place of the image of each true box, `[M]`, 0..I-1."""
        return np.repeat(np.arange(len(self.images)), self.true_counts)

    @cached_property
    def found_starts(self) -> Array:
        """Starts of the found boxes of each image, `[I]`."""
        return _starts(self.found_counts)

    @cached_property
    def true_starts(self) -> Array:
        """Starts of the true boxes of each image, `[I]`."""
        return _starts(self.true_counts)

    @cached_property
    def pairs(self) -> tuple[Array, Array]:
        """Places of the pairs' boxes among all N and all M, `[P]` each."""
        found = np.repeat(self.found_starts, self.pair_counts) + self.pair_found
        return found, np.repeat(self.true_starts, self.pair_counts) + self.pair_true

    def found_of(self, place: int) -> slice:
        """Return where the found boxes of the image at a place are."""
        first = int(self.found_starts[place])
        return slice(first, first + int(self.found_counts[place]))

    def true_of(self, place: int) -> slice:
        """Return where the true boxes of the image at a place are."""
        first = int(self.true_starts[place])
        return slice(first, first + int(self.true_counts[place]))

    def detections(self, place: int) -> Detections:
        """Return what was found in the image at a place."""
        part = self.found_of(place)
        return Detections(
            torch.from_numpy(self.boxes[part]),
            torch.from_numpy(self.scores[part]),
            torch.from_numpy(self.labels[part]).long(),
        )


def _starts(counts: Array) -> Array:
    return np.asarray(np.cumsum(counts) - counts)


def _ragged(counts: Array, order: Array) -> Array:
    """Return the indices that bring rows of `counts` elements into another order."""
    counts_then = counts[order]
    shift = _starts(counts)[order] - _starts(counts_then)
    return np.asarray(np.arange(counts.sum()) + np.repeat(shift, counts_then))
