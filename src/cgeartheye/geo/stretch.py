"""Values of more than 8 bits as 8 bits: one way, wherever pixels are read."""

from typing import Any

import numpy as np
import numpy.typing as npt


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
