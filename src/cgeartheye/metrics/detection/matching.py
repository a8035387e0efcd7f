"""Which of the boxes that were found are right, by the rules of DOTA."""

import numpy as np

Array = np.ndarray

WRONG, RIGHT, UNCOUNTED = 0, 1, 2
NOBODY = -1


def match(
    number: int, ignored: Array, found: Array, true: Array, overlaps: Array, thresholds: Array
) -> tuple[Array, Array]:
    """Decide which boxes of a class are right by the rules of DOTA (Xia et al. 2018).

    They are those of PASCAL VOC. Each found box looks only at the true box that it overlaps most
    (of equal ones the first). It is right if the overlap is more than the threshold and no better
    box took that one before. A difficult true box may be taken any number of times and does not
    count.

    Args:
        number: of found boxes n, in all images, one behind the other, each image's best first.
        ignored: true boxes that count neither way, bool `[m]`.
        found: of each pair of boxes that overlap, the found one, `[p]`.
        true: the true one, `[p]`.
        overlaps: of each pair, `[p]`.
        thresholds: of the overlap, `[T]`.

    Returns:
        `WRONG`, `RIGHT` or `UNCOUNTED`, int8 `[T, n]`; and the true box that a right one found at
        the first threshold, or `NOBODY`, `[n]`.
    """
    outcomes = np.full((len(thresholds), number), WRONG, np.int8)
    partners = np.full(number, NOBODY)
    order = np.lexsort((true, -overlaps, found))
    order = order[np.flatnonzero(np.diff(found[order], prepend=-1))]
    partners[found[order]] = true[order]
    for outcome, threshold in zip(outcomes, thresholds, strict=True):
        pairs = order[overlaps[order] > threshold]
        # These are by image and score, so the first of a true box is its best.
        first = np.unique(true[pairs], return_index=True)[1]
        outcome[found[pairs[first]]] = RIGHT
        outcome[found[pairs[ignored[true[pairs]]]]] = UNCOUNTED
    partners[outcomes[0] != RIGHT] = NOBODY
    return outcomes, partners
