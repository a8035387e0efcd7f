"""Detections of overlapping windows merged into one list: each object once, and whole.

Windows overlap by the largest object and a margin. The middles of the overlaps cut the image into
zones, one a window, and an object whose centre is in a zone is whole in that zone's window. So a
window's detections count where their centre is in its zone; what its border cuts has its centre
in another's, by half a margin at least. No detector finds an object in two windows at exactly the
same place, so a box may be outside of its window's zone by less than half a margin; whatever two
windows then both detect is matched, one to one, and the better one stays.

An object that is larger than the overlap may be cut in its own zone. It is kept wherever it was
seen whole, and drops the pieces that other windows saw of it; if no window saw it whole, its
pieces stay, the smaller of two that cover each other left out.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from cgeartheye.boxes import Detections, areas_of, horizontal_of, intersection_over_smaller, overlap

MARGIN = 1 / 16
"""Share of a window's side by which the overlap is larger than the largest object."""

_EDGE = 1 / 128  # of a window's side: what ends so near to its border is cut, or at least 2 pixels
_SAME = 0.3  # IoU of one object in two windows; boxes of few pixels differ much by one of them
_COVERED = 0.7  # share of a piece that is in the whole object


def required_overlap(largest: float, side: int) -> float:
    """Return what share of a window its neighbour must cover, so that objects are never cut.

    Args:
        largest: how far the largest object may reach along x or y, pixels: the longer side of a
            horizontal box, the diagonal of an oriented one, which may have any angle.
        side: of the window, pixels.

    Returns:
        The share; above 1 no overlap is enough.
    """
    return largest / side + MARGIN


def largest_object(share: float, side: int) -> float:
    """Return the size of the largest object that an overlap never cuts; see `required_overlap`."""
    return (share - MARGIN) * side


def borders(starts: Sequence[int], side: int) -> tuple[float, ...]:
    """Return where zones meet along an axis: in the middle of each overlap."""
    return tuple((first + side + second) / 2 for first, second in pairwise(starts))


@dataclass(frozen=True)
class Tiling:
    """Overlapping windows over an image.

    Attributes:
        tops: first rows of the windows, rising; every row has every column.
        lefts: first columns.
        side: of a window.
    """

    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    side: int

    def candidates(self, row: int, column: int, preds: Detections) -> Detections:
        """Return what may be an object of the window's zone.

        Args:
            row: number of the window's top.
            column: number of its left.
            preds: in pixels of the window.
        """
        low, high = _extents(preds.boxes)
        chosen = torch.ones(len(preds), dtype=torch.bool)
        for axis, (starts, number) in enumerate(((self.lefts, column), (self.tops, row))):
            chosen &= self._belongs(starts, number, low[:, axis], high[:, axis])
        return preds[chosen]

    def cut(self, row: int, column: int, preds: Detections) -> Tensor:
        """Return which boxes end at a border inside the image, bool `[N]`.

        Args:
            row: index of the window among the tops.
            column: index of the window among the lefts.
            preds: in pixels of the window, N.
        """
        low, high = _extents(preds.boxes)
        across = self._cut(self.lefts, column, low[:, 0], high[:, 0])
        return across | self._cut(self.tops, row, low[:, 1], high[:, 1])

    def _belongs(self, starts: tuple[int, ...], number: int, low: Tensor, high: Tensor) -> Tensor:
        middle = (low + high) / 2 + starts[number]
        outside = torch.full_like(middle, -torch.inf)  # pixels from the zone
        least = self.side
        for first, sign in ((number - 1, 1), (number, -1)):
            neighbors = starts[max(first, 0) : first + 2]
            if len(neighbors) == 2:
                (border,) = borders(neighbors, self.side)
                outside = torch.maximum(outside, sign * (border - middle))
                least = min(least, neighbors[0] + self.side - neighbors[1])
        margin = self.side * MARGIN
        whole = (outside < margin / 2) | (high - low > least - margin)
        return torch.where(self._cut(starts, number, low, high), outside <= 0, whole)

    def _cut(self, starts: tuple[int, ...], number: int, low: Tensor, high: Tensor) -> Tensor:
        edge = max(2.0, self.side * _EDGE)
        cut = torch.zeros_like(low, dtype=torch.bool)
        if number > 0:
            cut |= low <= edge
        if number + 1 < len(starts):
            cut |= high >= self.side - edge
        return cut


@dataclass
class _Window:
    """Kept detections of a window, in pixels of the image."""

    preds: Detections
    cut: Tensor
    stays: Tensor


class Merger:
    """Merges windows that come in order, row by row; it holds those that others may overlap yet."""

    def __init__(self, tiling: Tiling):
        """Begin an image."""
        self._tiling = tiling
        self._open: dict[tuple[int, int], _Window] = {}

    def add(self, row: int, column: int, candidates: Detections) -> None:
        """Add the candidates of a window, in its pixels; windows of none need not be added.

        Args:
            row: number of the window's top.
            column: number of its left.
            candidates: of `Tiling.candidates`.
        """
        tiling = self._tiling
        corner = [tiling.lefts[column], tiling.tops[row]]
        shift = corner * 2 if candidates.boxes.shape[1] == 4 else [*corner, 0, 0, 0]
        boxes = candidates.boxes.double() + torch.tensor(shift, dtype=torch.float64)
        window = _Window(
            Detections(boxes, candidates.scores, candidates.labels),
            tiling.cut(row, column, candidates),
            torch.ones(len(boxes), dtype=torch.bool),
        )
        for place in self._before(row, column):
            if place in self._open:
                _resolve(self._open[place], window)
        self._open[row, column] = window

    def take(self, row: int) -> list[Detections]:
        """Return the objects of all windows that end above this row of windows, and forget them.

        Args:
            row: the next one; the number of rows after the last.
        """
        tops = self._tiling.tops
        done = [
            place
            for place in self._open
            if row == len(tops) or tops[place[0]] + self._tiling.side <= tops[row]
        ]
        windows = [self._open.pop(place) for place in done]
        return [window.preds[window.stays] for window in windows]

    def _before(self, row: int, column: int) -> list[tuple[int, int]]:
        """The windows that came before this one and overlap it."""
        tops, lefts = (
            _touching(self._tiling.tops, row, self._tiling.side),
            _touching(self._tiling.lefts, column, self._tiling.side),
        )
        return [(y, x) for y in tops for x in lefts if (y, x) < (row, column)]


def merge_windows(preds: Sequence[tuple[int, int, Detections]], side: int) -> Detections:
    """Merge what was found in the windows over an image.

    Args:
        preds: of every window its left, its top, and what was found, in pixels of the window.
            Together they cover the image as `windows.starts` lays them along both axes, with an
            overlap of `required_overlap`.
        side: of a window, pixels.

    Returns:
        The objects, in pixels of the image, best first.
    """
    lefts = tuple(sorted({left for left, _, _ in preds}))
    tops = tuple(sorted({top for _, top, _ in preds}))
    assert len(preds) == len(lefts) * len(tops), "windows are missing"
    tiling = Tiling(tops, lefts, side)
    merger = Merger(tiling)
    for left, top, one in sorted(preds, key=lambda window: (window[1], window[0])):
        row, column = tops.index(top), lefts.index(left)
        merger.add(row, column, tiling.candidates(row, column, one.cpu()))
    merged = Detections.concatenate(merger.take(len(tops)))
    best = merged[merged.scores.argsort(descending=True, stable=True)]
    return Detections(best.boxes.float(), best.scores, best.labels)


def _resolve(old: _Window, new: _Window) -> None:
    """Drop what two windows both detect from one of them."""
    olds, news = _near(old, new), _near(new, old)
    if not (len(olds) and len(news)):
        return
    one, other = old.preds[olds], new.preds[news]
    cut, other_cut = old.cut[olds][:, None], new.cut[news][None]
    alike = one.labels[:, None] == other.labels[None]
    iou = overlap(one.boxes, other.boxes)
    same = alike & (iou >= _SAME)
    piece = cut | other_cut
    if piece.any():
        covered = intersection_over_smaller(one.boxes, other.boxes) >= _COVERED
        piece &= same | (alike & covered)
        smaller = areas_of(one.boxes)[:, None] < areas_of(other.boxes)[None]
        one_goes = piece & cut & (~other_cut | smaller)
        old.stays[olds[one_goes.any(1)]] = False
        new.stays[news[(piece & ~one_goes).any(0)]] = False
    pairs = (same & ~(cut | other_cut)).nonzero()
    taken: tuple[set[int], set[int]] = set(), set()
    for i, j in pairs[iou[pairs[:, 0], pairs[:, 1]].argsort(descending=True, stable=True)].tolist():
        if i in taken[0] or j in taken[1]:
            continue
        taken[0].add(i)
        taken[1].add(j)
        if one.scores[i] < other.scores[j]:
            old.stays[olds[i]] = False
        else:
            new.stays[news[j]] = False


def _near(window: _Window, other: _Window) -> Tensor:
    """Return the indices of kept boxes in the rectangle around all of another window's."""
    low, high = _extents(window.preds.boxes)
    other_low, other_high = _extents(other.preds.boxes[other.stays])
    if not len(other_low):
        return torch.zeros(0, dtype=torch.int64)
    near = (low <= other_high.amax(0)).all(1) & (high >= other_low.amin(0)).all(1)
    return (near & window.stays).nonzero()[:, 0]


def _touching(starts: tuple[int, ...], number: int, side: int) -> range:
    """Numbers of the windows along an axis that overlap one of them, up to itself or beyond."""
    start = starts[number]
    return range(bisect_right(starts, start - side), bisect_left(starts, start + side))


def _extents(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Upper left and lower right corners `[n, 2]` of the horizontal boxes around boxes."""
    frames = boxes if boxes.shape[1] == 4 else horizontal_of(boxes)
    return frames[:, :2], frames[:, 2:]
