"""Values of more than 8 bits as 8 bits: one way, wherever pixels are read."""

from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt

_SAMPLES, _SAMPLE_SIDE = 16, 256

Span = tuple[int, int]


def sample_squares(height: int, width: int) -> Iterator[tuple[Span, Span]]:
    """Yield rows and columns of at most 256 squares of 256 pixels, spread over a raster.

    They cover all of it if it is below 4,096 pixels a side.

    Args:
        height: of the raster.
        width: of the raster.
    """
    yield from product(_spread(height), _spread(width))


def squares_with_data(
    valid: npt.NDArray[np.bool_], height: int, width: int
) -> Iterator[tuple[Span, Span]]:
    """Yield rows and columns of at most 256 squares of 256 pixels that pixels with data lie in.

    Args:
        valid: which pixels have data, of some at equal distances, `[h, w]`.
        height: of the raster.
        width: of the raster.
    """
    found = np.argwhere(valid) + 0.5
    squares = np.unique(found * (height, width) / valid.shape // _SAMPLE_SIDE, axis=0).astype(int)
    count = min(_SAMPLES**2, len(squares))
    spread = np.linspace(0, len(squares) - 1, count).round().astype(int)
    for top, left in (squares[spread] * _SAMPLE_SIDE).tolist():
        yield (
            (top, min(top + _SAMPLE_SIDE, height)),
            (left, min(left + _SAMPLE_SIDE, width)),
        )


def percentile_limits(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the 1st and 99th percentile, both of them values that occur; of none 0 and 1.

    Args:
        values: of all bands together, finite.
    """
    if not values.size:
        return 0.0, 1.0
    ordered = np.sort(values, axis=None)  # a quarter of the time of np.percentile
    last = ordered.size - 1
    return float(ordered[round(0.01 * last)]), float(ordered[round(0.99 * last)])


def to_8_bits(
    values: npt.NDArray[Any], limits: tuple[float, float], valid: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.uint8]:
    """Map values linearly so that the limits become 0 and 255; beyond them they are cut.

    Args:
        values: of any real type, `[..., H, W]`.
        limits: values that become 0 and 255; where they are equal all become 0.
        valid: which values count, of a shape that fits; others, NaN too, become 0. None: all.
    """
    low, high = limits
    scale = np.float32(255 / (high - low) if high > low else 0)
    scaled = values.astype(np.float32) - np.float32(low)
    if valid is not None:
        np.copyto(scaled, 0, where=~valid)
    return np.asarray((scaled * scale).clip(0, 255).round(), np.uint8)


def _spread(length: int) -> list[Span]:
    """At most 16 spans of 256 pixels, evenly spaced; side by side in a short length."""
    count = min(_SAMPLES, -(-length // _SAMPLE_SIDE))
    side = min(_SAMPLE_SIDE, length)
    if length <= _SAMPLES * _SAMPLE_SIDE:
        edges = [min(i * _SAMPLE_SIDE, length) for i in range(count + 1)]
        return list(pairwise(edges))
    starts = np.linspace(0, length - side, count).round().astype(int)
    return [(int(start), int(start) + side) for start in starts]
