"""The map that a decoder makes of an embedding: probabilities of patches, drawn as pixels."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from cgeartheye.embeddings.store import Bools, Ints, Reals

NODATA = 255
_ROWS = 128  # that a core draws at a time

Bytes = npt.NDArray[np.uint8]
Span = tuple[int, int]


def draw_classes(
    probabilities: Reals, valid: Bools, cell: tuple[float, float], rows: Span, columns: Span
) -> Bytes:
    """Draw the likeliest class of pixels; probabilities are interpolated between patches.

    Args:
        probabilities: of patches `[h, w, K]`.
        valid: which patches have data `[h, w]`.
        cell: rows and columns of pixels that a patch has.
        rows: of pixels, the first and the one after the last.
        columns: first and one after the last.

    Returns:
        uint8 `[rows, columns]`, `NODATA` where there is no data.
    """
    planes = np.ascontiguousarray(np.moveaxis(probabilities, -1, 0), np.float32)
    across = _between(np.arange(*columns), cell[1], valid.shape[1])
    own = _patch(np.arange(*columns), cell[1], valid.shape[1])
    drawn = np.empty((rows[1] - rows[0], columns[1] - columns[0]), np.uint8)

    def draw(top: int) -> None:
        span = np.arange(top, min(top + _ROWS, rows[1]))
        low, high, weight = _between(span, cell[0], valid.shape[0])
        best = np.full((len(span), drawn.shape[1]), -1, np.float32)
        found = np.zeros(best.shape, np.uint8)
        for number, plane in enumerate(planes):
            lines = plane[low] + (plane[high] - plane[low]) * weight[:, None]
            left = np.take(lines, across[0], axis=1)
            value = left + (np.take(lines, across[1], axis=1) - left) * across[2]
            better = value > best
            found[better] = number
            np.maximum(best, value, out=best)
        known = valid[_patch(span, cell[0], valid.shape[0])][:, own]
        found[~known] = NODATA
        drawn[top - rows[0] : top - rows[0] + len(span)] = found

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(draw, range(rows[0], rows[1], _ROWS)))
    return drawn


def _between(pixels: Ints | Reals, size: float, count: int) -> tuple[Ints, Ints, Reals]:
    """Return the patches on both sides of pixels, and the distance from the first."""
    place = ((pixels + 0.5) / size - 0.5).clip(0, count - 1)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, count - 1)
    return low, high, (place - low).astype(np.float32)


def _patch(pixels: Ints, size: float, count: int) -> Ints:
    """Return the patches that contain pixels."""
    return np.minimum(((pixels + 0.5) / size).astype(np.int64), count - 1)


def classes_at(probabilities: Reals, valid: Bools, rows: Reals, columns: Reals) -> Bytes:
    """Return the likeliest class at places, for a tile of any projection.

    Args:
        probabilities: of patches `[h, w, K]`.
        valid: which patches have data `[h, w]`.
        rows: of the places, counted in patches from the first one's upper edge, any shape.
        columns: the same from the left edge.

    Returns:
        uint8 of that shape, `NODATA` outside and where there is no data.
    """
    height, width = valid.shape
    inside = (rows >= 0) & (columns >= 0) & (rows < height) & (columns < width)
    y, x = np.where(inside, rows, 0), np.where(inside, columns, 0)
    inside &= valid[y.astype(np.int64), x.astype(np.int64)]
    top, bottom, down = _between(y - 0.5, 1.0, height)
    left, right, across = _between(x - 0.5, 1.0, width)
    down, across = down[..., None], across[..., None]
    upper = probabilities[top, left] * (1 - across) + probabilities[top, right] * across
    lower = probabilities[bottom, left] * (1 - across) + probabilities[bottom, right] * across
    found: Bytes = (upper * (1 - down) + lower * down).argmax(-1).astype(np.uint8)
    found[~inside] = NODATA
    return found
