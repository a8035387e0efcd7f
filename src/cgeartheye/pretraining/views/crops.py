"""The pixels of planned crops: one by one from decoded images, or batches at once on a device."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cgeartheye.config import Views
from cgeartheye.pretraining.views.sampling import (
    FLIP_COLUMNS,
    FLIP_ROWS,
    GLOBAL_CROPS,
    TRANSPOSE,
    Plan,
    count_local_crops,
    place,
)

# Pixels of source images that one batched product holds as floats: 200 MB.
_AT_ONCE = 1 << 24


class Images(Protocol):
    """Images by index, some of which show one place in several seasons: a `Store`, or `Held`."""

    def __len__(self) -> int:
        """Number of images."""

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image."""

    def decode(self, index: int) -> Tensor:
        """Return an image, uint8 `[3, H, W]`.

        Raises:
            UserError: it cannot be decoded.
        """

    def seasons(self, index: int) -> Sequence[int]:
        """Indices of the other images of its place."""


def cut(images: Images, plan: Plan, views: Views) -> tuple[Tensor, Tensor]:
    """Make all planned crops on the CPU, decoding each image of a sample once.

    Args:
        images: source of the encoded images.
        plan: of the crops of B samples.
        views: sizes and numbers of the crops.

    Returns:
        The global crops, uint8 `[2 * B, 3, G, G]`, and the local ones, `[L * B, 3, S, S]`.

    Raises:
        UserError: an image cannot be decoded.
    """
    samples = plan.images.shape[1]
    large = torch.empty(
        (GLOBAL_CROPS, samples, 3, views.global_size, views.global_size), dtype=torch.uint8
    )
    small = torch.empty(
        (count_local_crops(views), samples, 3, views.local_size, views.local_size),
        dtype=torch.uint8,
    )
    for b in range(samples):
        sources = plan.images[:, b].tolist()
        decoded = {index: images.decode(index) for index in set(sources)}
        sizes = np.array([decoded[index].shape[1:] for index in sources])
        boxes = place(plan.placement[:, b], sizes).tolist()
        for index, box, symmetry, target in zip(
            sources, boxes, plan.symmetry[:, b].tolist(), [*large[:, b], *small[:, b]], strict=True
        ):
            target.copy_(crop(decoded[index], box, symmetry, target.shape[-1]))
    return large.flatten(0, 1), small.flatten(0, 1)


def crop(image: Tensor, box: tuple[int, int, int, int], symmetry: int, size: int) -> Tensor:
    """Cut one crop on the CPU.

    Args:
        image: uint8 `[3, H, W]`; fastest where the bands of a pixel are adjacent in memory, as
            decoders give them.
        box: top, left, height and width in pixels.
        symmetry: see `views.Plan`.
        size: pixels a side of the result.

    Returns:
        uint8 `[3, size, size]`, resized bilinearly with antialiasing, rounded.
    """
    top, left, height, width = box
    pixels = image[None, :, top : top + height, left : left + width]
    # In this layout torch resizes bytes with vector instructions, up to 5 times as fast as Pillow.
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)[0]
    flips = [dim for flag, dim in ((FLIP_ROWS, 1), (FLIP_COLUMNS, 2)) if symmetry & flag]
    if flips:
        pixels = pixels.flip(flips)
    return pixels.mT if symmetry & TRANSPOSE else pixels


def crop_batch(pixels: Tensor, boxes: Tensor, symmetry: Tensor, size: int) -> Tensor:
    """Cut N crops at once, on the device of the pixels.

    Resizing is linear in rows and in columns, so a crop is `rows @ box @ columns.T`; a flip
    reverses the rows of one of the two matrices.

    Args:
        pixels: uint8 `[P, 3]`, rows of images one after the other.
        boxes: int64 `[N, 4]` on the CPU: where in `pixels` a box begins, how far its rows are
            apart (the width of its image), its height and its width.
        symmetry: int64 `[N]` on the CPU; see `views.Plan`.
        size: pixels a side of the result.

    Returns:
        float32 `[N, 3, size, size]`, values 0..255; but for rounding what `crop` gives.
    """
    crops = torch.empty((len(boxes), 3, size, size), device=pixels.device)
    if not len(boxes):
        return crops
    # Read on the CPU: to ask the accelerator would be to wait for it.
    window_height, window_width = boxes[:, 2:].amax(dim=0).tolist()
    y = torch.arange(window_height, device=pixels.device)
    x = torch.arange(window_width, device=pixels.device)
    for part in torch.arange(len(boxes)).split(max(1, _AT_ONCE // (len(y) * len(x)))):
        box = boxes[part].to(pixels.device, non_blocking=True)
        turn = symmetry[part].to(pixels.device, non_blocking=True)
        start, stride, height, width = box.unbind(dim=1)
        # Windows that begin at their boxes, all as large as the largest one. What they hold beyond
        # their boxes is anything, and weighs nothing.
        places = (start[:, None] + stride[:, None] * y)[:, :, None] + x
        windows = pixels[places.clamp_(max=len(pixels) - 1)].permute(0, 3, 1, 2).float()
        rows = _resampling(height, len(y), size, (turn & FLIP_ROWS) > 0)
        columns = _resampling(width, len(x), size, (turn & FLIP_COLUMNS) > 0)
        resized = rows[:, None] @ (windows @ columns[:, None].mT)
        transposed = ((turn & TRANSPOSE) > 0)[:, None, None, None]
        crops[part] = torch.where(transposed, resized.mT, resized)
    return crops


def _resampling(lengths: Tensor, window: int, size: int, reverse: Tensor) -> Tensor:
    """Return the matrices that resize the first `lengths` of `window` pixels to `size` pixels.

    Each output pixel is the mean of its neighbours under a triangle that is as wide as an output
    pixel, but at least as an input pixel: bilinear resizing with antialiasing.

    Args:
        lengths: int64 `[N]`.
        window: columns of a matrix; those past its length are 0.
        size: rows of a matrix.
        reverse: bool `[N]`, whether the rows come in reverse order.

    Returns:
        float32 `[N, size, window]`, rows that sum to 1.
    """
    places = torch.arange(size, device=lengths.device)
    places = torch.where(reverse[:, None], size - 1 - places, places)
    scale = (lengths / size)[:, None]
    centers = (places + 0.5) * scale
    pixels = torch.arange(window, device=lengths.device) + 0.5
    distance = (pixels - centers[:, :, None]).abs() / scale.clamp(min=1)[:, :, None]
    weights = (1 - distance).clamp(min=0) * (pixels < lengths[:, None, None])
    return weights / weights.sum(dim=2, keepdim=True)
