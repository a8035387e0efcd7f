"""Pixels where the classes of a map meet, and how many of them two maps share."""

import torch
from torch import Tensor

REACH = 3  # pixels between two boundaries that count as the same
CLASS_COUNTS = 4

# From a pixel to all within reach, itself among them.
_OFFSETS = [
    (down, across)
    for down in range(-REACH, REACH + 1)
    for across in range(-REACH, REACH + 1)
    if down**2 + across**2 <= REACH**2
]


def boundaries(classes: Tensor, unknown: int) -> Tensor:
    """Mark the pixels of a map `[H, W]` that have a neighbour of another class.

    Neighbours share a side. A neighbour that is `unknown` is of no other class, nor is one beyond
    the edge; pixels that are unknown themselves are not marked.
    """
    marked = torch.zeros_like(classes, dtype=torch.bool)
    known = classes != unknown
    for axis in (0, 1):
        length = classes.shape[axis] - 1
        first, second = classes.narrow(axis, 0, length), classes.narrow(axis, 1, length)
        both = known.narrow(axis, 0, length) & known.narrow(axis, 1, length)
        differ = (first != second) & both
        for start in (0, 1):
            marked.narrow(axis, start, length).logical_or_(differ)
    return marked


def count_boundaries(predicted: Tensor, truth: Tensor, classes: int, unknown: int) -> Tensor:
    """Count the boundary pixels of two maps.

    Args:
        predicted: integers 0..K-1 or `unknown`, `[H, W]`, on any device.
        truth: the same, and unknown where the other is.
        classes: K.
        unknown: no class.

    Returns:
        int64 `[K, 4]` on that device: of each class the predicted boundary pixels that have a true
        one of the class within `REACH` pixels (between their middles); all predicted ones; the true
        ones that have a predicted one so near; all true ones.
    """
    # Two numbers that are no class stand for all other pixels, so that these never agree.
    edges = [
        torch.where(boundaries(map_, unknown), map_.long(), -1 - side).to(torch.int16)
        for side, map_ in enumerate((predicted, truth))
    ]
    height, width = truth.shape
    near = [torch.zeros_like(edge, dtype=torch.bool) for edge in edges]
    for down, across in _OFFSETS:
        here = _window(height, down), _window(width, across)
        there = _window(height, -down), _window(width, -across)
        agree = edges[0][here] == edges[1][there]
        near[0][here].logical_or_(agree)
        near[1][there].logical_or_(agree)
    columns = [
        torch.bincount(edge[chosen].long(), minlength=classes)
        for edge, hit in zip(edges, near, strict=True)
        for chosen in (hit, edge >= 0)
    ]
    return torch.stack(columns, dim=1)


def _window(length: int, shift: int) -> slice:
    """Return the places that still exist when `shift` is added to them."""
    return slice(max(0, -shift), max(0, min(length, length - shift)))
