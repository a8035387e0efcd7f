"""Images in memory: arrays, tensors and Pillow's images become uint8 tensors `[3, H, W]`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from cgeartheye.data.image_io import pillow_pixels
from cgeartheye.geo.stretch import percentile_limits, to_8_bits
from cgeartheye.utils.errors import UserError

Array = npt.NDArray[Any]
InMemory = Array | Tensor | Image.Image
Stretch = tuple[float, float] | None

_DEEP = (np.uint16, np.int16)  # as sensors deliver; of wider integers nobody knows the range


def images_of(value: InMemory) -> Iterator[Array | Image.Image]:
    """Yield the images of an array of one or several, or the one that it is.

    Args:
        value: `[H, W]`, `[H, W, 3]`, `[3, H, W]` or, of several, `[N, H, W, 3]` or
            `[N, 3, H, W]`; or an image of Pillow's.

    Yields:
        Arrays `[H, W]` or `[H, W, bands]`, or the image.

    Raises:
        UserError: another shape.
    """
    if isinstance(value, Image.Image):
        yield value
        return
    first = isinstance(value, Tensor)  # where an array may be read both ways
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    if array.ndim == 2:
        yield array
        return
    axis = array.ndim - 3
    order = (axis, array.ndim - 1) if first else (array.ndim - 1, axis)
    bands = next((at for at in order if array.ndim in (3, 4) and array.shape[at] in (1, 3)), None)
    if bands is None:
        raise UserError(
            f"an array of shape {array.shape} is no image: it is [H, W, 3], [3, H, W], [H, W] or, "
            "of several images, [N, H, W, 3] or [N, 3, H, W]; choose three of more bands"
        )
    last = np.moveaxis(array, bands, -1)
    yield from last if array.ndim == 4 else [last]


def to_image(
    value: Array | Image.Image, stretch: Stretch = None, deep_stretch: Stretch = None
) -> Tensor:
    """Convert one image.

    Args:
        value: what `images_of` yields. uint8 is taken as it is, as in files. What is masked or
            NaN becomes 0.
        stretch: values of other types that become 0 and 255; none: 0 and 1 for floats, and for 16
            bits `deep_stretch`.
        deep_stretch: the same for 16-bit arrays only; none: the image's 1st and 99th percentile.

    Returns:
        uint8 `[3, H, W]`.

    Raises:
        UserError: floats beyond 0..1, or another type, without `stretch`.
    """
    if isinstance(value, Image.Image):
        if value.mode not in ("I", "F") and not value.mode.startswith("I;16"):
            return torch.from_numpy(pillow_pixels(value)[..., :3].copy()).permute(2, 0, 1)
        value = np.asarray(value)
    bands = value[None] if value.ndim == 2 else np.moveaxis(value, -1, 0)
    valid = np.asarray(~np.ma.getmaskarray(bands).all(axis=0))
    pixels = np.ma.getdata(bands)
    if pixels.dtype == np.uint8:
        pixels = pixels * valid
    else:
        limits = _limits(pixels, deep_stretch) if stretch is None else stretch
        valid &= np.isfinite(pixels).all(axis=0)
        pixels = to_8_bits(pixels, limits or percentile_limits(pixels[:, valid]), valid)
    return torch.from_numpy(np.broadcast_to(pixels, (3, *valid.shape)).copy())


def _limits(pixels: Array, deep_stretch: Stretch) -> Stretch:
    if pixels.dtype in _DEEP:
        return deep_stretch
    if not np.issubdtype(pixels.dtype, np.floating):
        raise UserError(
            f"an image of {pixels.dtype}: convert it to uint8 (0..255), or give stretch=(low, "
            "high), the values that become 0 and 255"
        )
    finite = pixels[np.isfinite(pixels)]
    if finite.size and not (finite.min() >= 0 and finite.max() <= 1):
        raise UserError(
            f"an image of {pixels.dtype} has values {finite.min():.4g} to {finite.max():.4g} in "
            "place of 0 to 1: convert it to uint8, or give stretch=(low, high), the values that "
            "become 0 and 255"
        )
    return 0.0, 1.0
