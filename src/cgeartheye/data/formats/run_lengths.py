"""COCO's run-length codes of masks, without making the mask."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_LARGEST = 2**31  # pixels a side

Points = npt.NDArray[np.float64]


def run_ends(code: dict[str, Any]) -> Points:
    """Return corners of pixels of a run-length code, all those of their hull among them.

    Memory grows with the code, not with the mask: a few letters may stand for 10^10 pixels.

    Args:
        code: `size` has rows and columns; `counts` the lengths of the runs without and with the
            object in turn, column by column, as a list or in COCO's letters.

    Returns:
        float64 `[n, 2]`, x and y; none of an object without a pixel.

    Raises:
        TypeError, ValueError, KeyError, OverflowError: it is no such code.
    """
    height, width = (_side(side) for side in code["size"])
    counts = code["counts"]
    lengths = np.array(_unpack(counts) if isinstance(counts, str) else counts, dtype=np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError("its runs are no such lengths")
    ends = lengths.cumsum()
    first, last = ends[:-1:2], ends[1::2]  # of the runs with the object, the end exclusive
    first, last = first[last > first], last[last > first] - 1
    (first_column, top), (last_column, bottom) = np.divmod(first, height), np.divmod(last, height)
    one = first_column == last_column
    parts = [
        # What is in the first column, in the last one, and in those between, which are full.
        _corners(first_column, first_column, top, np.where(one, bottom, height - 1)),
        _corners(last_column, last_column, np.where(one, top, 0), bottom),
    ]
    between = last_column - first_column > 1
    zeros = np.zeros(between.sum(), np.int64)
    middle = first_column[between] + 1, last_column[between] - 1
    parts.append(_corners(*middle, zeros, zeros + height - 1))
    return np.concatenate(parts)


def _corners(*sides: npt.NDArray[np.int64]) -> Points:
    """Return the corners of rectangles of pixels: first and last column, first and last row."""
    x0, x1, y0, y1 = sides
    corners = [(x, y) for x in (x0, x1 + 1) for y in (y0, y1 + 1)]
    return np.concatenate([np.stack(pair, axis=1) for pair in corners]).astype(np.float64)


def _side(side: Any) -> int:
    if isinstance(side, bool) or not isinstance(side, int) or not 0 < side < _LARGEST:
        raise ValueError(f"{side!r:.40} is no number of rows or columns")
    return side


def _unpack(letters: str) -> Sequence[int]:
    """Decode COCO's letters: five bits each, the lowest first, a sixth set if more follow.

    From the third run on it is the difference from the last but one.
    """
    lengths: list[int] = []
    value = shift = 0
    for letter in letters.encode("ascii"):
        bits = letter - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("a letter that is none of the code")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("it is cut short")
    return lengths
