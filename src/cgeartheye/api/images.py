"""Images as functions of the API take them: files, folders, arrays, tensors, Pillow's images."""

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from cgeartheye.data.arrays import Array, Stretch, images_of, to_image
from cgeartheye.tasks.inputs import Input, find_inputs
from cgeartheye.utils.errors import UserError

ImageLike = str | PathLike[str] | Array | Tensor | Image.Image
Images = ImageLike | Sequence[ImageLike]


def as_inputs(images: Images, stretch: Stretch = None, deep_stretch: Stretch = None) -> list[Input]:
    """Return images as the commands take them.

    Args:
        images: a file, a folder (with its subfolders), an array or tensor `[H, W, 3]`,
            `[3, H, W]` or `[H, W]`, or of several images `[N, ...]`, an image of Pillow's; or a
            sequence of these.
        stretch: values of arrays that become 0 and 255; see `data.arrays.to_image`.
        deep_stretch: the same for 16-bit arrays only.

    Raises:
        UserError: none, a path that does not exist, or an array that is no image.
    """
    found = [one for each in _each(images) for one in _inputs_of(each, stretch, deep_stretch)]
    if not found:
        raise UserError("no images are given")
    return [
        one if one.name else Input(one.images, f"image_{number}")
        for number, one in enumerate(found)
    ]


def is_path(images: object) -> bool:
    """Return whether images are named by one path."""
    return isinstance(images, str | PathLike)


def pixels_of(image: Tensor) -> Array:
    """Return an image uint8 `[3, H, W]` as an array `[H, W, 3]`."""
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def _each(images: Images) -> Sequence[ImageLike]:
    if isinstance(images, str | PathLike | np.ndarray | Tensor | Image.Image):
        return [images]
    return list(images)


def _inputs_of(image: ImageLike, stretch: Stretch, deep_stretch: Stretch) -> Iterator[Input]:
    if isinstance(image, str | PathLike):
        yield from find_inputs([Path(image)])
    elif isinstance(image, np.ndarray | Tensor | Image.Image):
        for one in images_of(image):
            yield Input((to_image(one, stretch, deep_stretch),), "")
    else:
        raise UserError(
            f"an image is a path, an array, a tensor or an image of Pillow's, not a "
            f"{type(image).__name__}"
        )
