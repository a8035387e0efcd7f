"""A bound on what reading a file may take: what it claims to hold, against what it holds.

The best compression of real pixels is some 50 to 1. A file of a few kilobytes that claims billions
of pixels, or blocks that are larger than its image, is damaged or made to exhaust the memory.
"""

import os
from math import prod
from pathlib import Path
from typing import Any

from cgeartheye.utils.errors import UserError
from cgeartheye.utils.tiff_blocks import tiff_blocks

SMALL = 384 * 2**20  # bytes that any file may take
RATIO = 200  # bytes for each of its own that a larger one may take


def refuse_allocation(path: Path | str, needed: int, what: str) -> None:
    """Refuse a file that claims far more than it can hold.

    Args:
        path: of the file; without a size of its own, as one within an archive, it may be `SMALL`.
        needed: bytes that reading takes at once.
        what: it is that takes them, for the message: "an image of 9 x 9 pixels".

    Raises:
        UserError: it does.
    """
    if needed <= SMALL:
        return
    try:
        size = os.path.getsize(path)
    except OSError:
        size = 0
    if needed > RATIO * size:
        raise UserError(
            f"{path} has {size:,} bytes but declares {what}, which would take {needed / 1e9:.1f} "
            "GB: it is damaged, write it again"
        )


def refuse_blocks(path: Path | str, source: Any) -> None:
    """Refuse a raster whose blocks, of which one is read at a time at least, are too large.

    Args:
        path: of the file.
        source: the raster, opened by rasterio.

    Raises:
        UserError: they are.
    """
    together = str(source.profile.get("interleave", "")).lower() == "pixel"
    bytes_a_pixel = [_item_size(dtype) for dtype in source.dtypes]
    for shape, itemsize in zip(source.block_shapes, bytes_a_pixel, strict=True):
        needed = prod(shape) * (sum(bytes_a_pixel) if together else itemsize)
        refuse_allocation(path, needed, f"blocks of {shape[1]:,} x {shape[0]:,} pixels")
    # Those of an internal mask and of overviews, which GDAL does not report.
    for block in tiff_blocks(path):
        refuse_allocation(path, block.size, f"blocks of {block.width:,} x {block.height:,} pixels")


def _item_size(dtype: str) -> int:
    """Return bytes of a number; of rasterio's types numpy lacks some."""
    bits = "".join(filter(str.isdigit, dtype))
    return max(1, int(bits or 64) // 8)
