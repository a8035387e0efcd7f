"""Pixels, of which some may have no data, averaged over blocks and read between their middles."""

import numpy as np
import numpy.typing as npt

from cgeartheye.geo.reader import Bools, Bytes

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.float64]


def average(values: Bytes, valid: Bools | None, fy: int, fx: int) -> tuple[Floats, Floats | None]:
    """Average over `fy` x `fx` pixels with data; blocks at the lower and right end may be smaller.

    Args:
        values: `[C, H, W]`, 0 without data.
        valid: which have data, `[H, W]`; none if all.
        fy: rows.
        fx: columns.

    Returns:
        Averages `[C, h, w]`, 0 without data; and 1 where there is data, `[h, w]`, none if
        everywhere.
    """
    if fy == fx == 1:
        return values.astype(np.float32), None if valid is None else valid.astype(np.float32)
    counts = np.ones(values.shape[1:], np.uint8) if valid is None else valid.astype(np.uint8)
    number = _sum(counts[None], fy, fx)
    means = _sum(values, fy, fx) / np.maximum(number, np.float32(1))
    present = None if valid is None else (number[0] > 0).astype(np.float32)
    return np.asarray(means, np.float32), present


def between(
    values: Floats, present: Floats | None, down: Places, across: Places
) -> tuple[Floats, Bools | None]:
    """Interpolate between the four nearest pixels, of those that have data.

    Args:
        values: `[C, H, W]`, 0 without data.
        present: 1 where there is data, `[H, W]`; none if everywhere.
        down: where to, `[h, w]`, 0 in the middle of the first row, `H - 1` in that of the last.
        across: the same along columns, `[h, w]`.

    Returns:
        `[C, h, w]`; and where the nearest pixel has data, none if everywhere.
    """
    height, width = values.shape[1:]
    y, x = np.floor(down).astype(np.int64), np.floor(across).astype(np.int64)
    beyond = down - y, across - x
    wy, wx = (share.astype(np.float32) for share in beyond)
    rows = (y, 1 - wy), (np.minimum(y + 1, height - 1), wy)
    columns = (x, 1 - wx), (np.minimum(x + 1, width - 1), wx)
    flat = values.reshape(len(values), -1)
    total = np.zeros((len(values), *down.shape), np.float32)
    weight = np.zeros(down.shape, np.float32)
    for row, share_down in rows:
        for column, share_across in columns:
            index, share = row * width + column, share_down * share_across
            if present is not None:
                share = share * present.ravel()[index]
            total += flat[:, index] * share
            weight += share
    # Also where all have data: else the last bit would depend on the rest of the piece.
    total /= np.where(weight > 0, weight, np.float32(1))
    if present is None:
        return total, None
    nearest = (y + (beyond[0] >= 0.5)) * width + x + (beyond[1] >= 0.5)
    return total, present.ravel()[nearest] > 0


def _sum(values: Bytes, fy: int, fx: int) -> Floats:
    down = np.add.reduceat(values, np.arange(0, values.shape[1], fy), axis=1, dtype=np.float32)
    return np.asarray(np.add.reduceat(down, np.arange(0, values.shape[2], fx), axis=2))
