"""Which of the boxes that were found are right, by the rules of COCO and by those of DOTA."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Array = np.ndarray

WRONG, RIGHT, UNCOUNTED = 0, 1, 2
NOBODY = -1


@dataclass(frozen=True)
class Matches:
    """What became of the n boxes found of a class, at T thresholds and for A sizes.

    Attributes:
        outcomes: `WRONG`, `RIGHT` or `UNCOUNTED`, int8 `[T, A, n]`.
        support: true boxes that count, int `[A]`.
        partners: at the first threshold and size, the true box that a right one found, or
            `NOBODY`, `[n]`.
    """

    outcomes: Array
    support: Array
    partners: Array


@dataclass(frozen=True)
class ClassBoxes:
    """The boxes of one class in all images: n found, m true, p pairs of them that overlap.

    Attributes:
        images: place of the image of each found box, ascending, `[n]`.
        scores: `[n]`, descending within an image.
        ignored: true boxes that count neither way, bool `[m]`.
        areas: of the found boxes, float64 `[n]`, square pixels.
        true_areas: of the true ones, `[m]`.
        found: of each pair, the found box, ascending, `[p]`.
        true: the true one, ascending for each found box, `[p]`.
        overlaps: of each pair, float64 `[p]`.
    """

    images: Array
    scores: Array
    ignored: Array
    areas: Array
    true_areas: Array
    found: Array
    true: Array
    overlaps: Array

    @property
    def rank_in_image(self) -> Array:
        """How many boxes of its image are better than each found box, int `[n]`."""
        starts = np.searchsorted(self.images, self.images)
        return np.asarray(np.arange(len(self.images)) - starts)


def match_by_coco(boxes: ClassBoxes, thresholds: Array, sizes: Array) -> Matches:
    """Decide which boxes are right by the rules of COCO (Lin et al. 2014).

    Each found box of an image, best first, takes the free true box that it overlaps most, if by a
    threshold or more; one that is ignored or of another size only if no other is in reach, and
    then it does not count. A crowd may be taken any number of times. A found box that takes none
    and is of another size does not count either. Of equal overlaps the last counts.

    All images, thresholds and sizes are decided at once, in as many rounds as an image has boxes.

    Args:
        boxes: of a class.
        thresholds: of the overlap, `[T]`.
        sizes: least and largest area, `[A, 2]`, square pixels.
    """
    low, high = sizes[:, :1], sizes[:, 1:]
    hidden = boxes.ignored | (boxes.true_areas < low) | (boxes.true_areas > high)
    outside = (boxes.areas < low) | (boxes.areas > high)
    outcomes = np.where(outside, UNCOUNTED, WRONG).astype(np.int8)
    outcomes = np.repeat(outcomes[None], len(thresholds), axis=0)
    taken = np.zeros((len(thresholds), len(sizes), len(boxes.ignored)), bool)
    partners = np.full(len(boxes.images), NOBODY)

    # For each found box its pairs by overlap, so that a later one is better.
    order = np.lexsort((boxes.true, boxes.overlaps, boxes.found))
    rounds = boxes.rank_in_image[boxes.found[order]]
    order = order[np.argsort(rounds, kind="stable")]
    edges = np.searchsorted(np.sort(rounds), np.arange(rounds.max(initial=-1) + 2))
    for first, end in pairwise(edges):
        pairs = order[first:end]
        if not len(pairs):
            continue
        found, true = boxes.found[pairs], boxes.true[pairs]
        starts = np.flatnonzero(np.diff(found, prepend=-1))
        free = ~taken[:, :, true] | boxes.ignored[true]
        free &= (boxes.overlaps[pairs] >= thresholds[:, None])[:, None]
        # What counts goes before what does not, then the overlap decides; 0 is none.
        worth = np.arange(1, len(pairs) + 1) + len(pairs) * ~hidden[:, true]
        best = np.maximum.reduceat(np.where(free, worth, 0), starts, axis=2)
        threshold, size, box = np.nonzero(best)
        choice = true[(best[threshold, size, box] - 1) % len(pairs)]
        taken[threshold, size, choice] = True
        decided = np.where(hidden[size, choice], UNCOUNTED, RIGHT)
        outcomes[threshold, size, found[starts[box]]] = decided
        first_right = (threshold == 0) & (size == 0) & (decided == RIGHT)
        partners[found[starts[box[first_right]]]] = choice[first_right]
    return Matches(outcomes, (~hidden).sum(1), partners)


def match_by_dota(boxes: ClassBoxes, thresholds: Array) -> Matches:
    """Decide which boxes are right by the rules of DOTA (Xia et al. 2018), those of PASCAL VOC.

    Each found box looks only at the true box that it overlaps most (of equal ones the first). It
    is right if the overlap is more than the threshold and no better box took that one before. A
    difficult true box may be taken any number of times and does not count.

    Args:
        boxes: of a class.
        thresholds: of the overlap, `[T]`.
    """
    outcomes = np.full((len(thresholds), 1, len(boxes.images)), WRONG, np.int8)
    partners = np.full(len(boxes.images), NOBODY)
    order = np.lexsort((boxes.true, -boxes.overlaps, boxes.found))
    order = order[np.flatnonzero(np.diff(boxes.found[order], prepend=-1))]
    partners[boxes.found[order]] = boxes.true[order]
    for outcome, threshold in zip(outcomes[:, 0], thresholds, strict=True):
        pairs = order[boxes.overlaps[order] > threshold]
        # These are by image and score, so the first of a true box is its best.
        first = np.unique(boxes.true[pairs], return_index=True)[1]
        outcome[boxes.found[pairs[first]]] = RIGHT
        outcome[boxes.found[pairs[boxes.ignored[boxes.true[pairs]]]]] = UNCOUNTED
    partners[outcomes[0, 0] != RIGHT] = NOBODY
    return Matches(outcomes, np.array([(~boxes.ignored).sum()]), partners)
