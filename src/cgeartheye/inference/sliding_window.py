"""Images of any size, predicted window by window; for scenes that memory cannot hold see `mapping`.

A window at scale 2 covers half as many pixels as the network's input has and is enlarged to it;
predictions are made at the image's own pixels. So views of all scales add up in place, and nothing
but the sum is as large as the image.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cgeartheye.inference.windows import blend_weights, window_offsets
from cgeartheye.utils.errors import UserError

Predict = Callable[[Tensor, tuple[int, int]], Tensor]

_ONCE: tuple[tuple[int, ...], ...] = ((),)
_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))  # of rows and columns


@torch.no_grad()
def slide(
    images: Iterable["Tensor | Encoded"],
    predict: Predict,
    side: int,
    overlap: float,
    batch_size: int,
    flips: bool = False,
    scales: Sequence[float] = (1.0,),
) -> Iterator[Tensor]:
    """Predict images from overlapping windows.

    Windows are spread evenly; where they overlap, their probabilities are averaged with weights
    that fade towards the edges and sum to 1. An image smaller than a window is mirrored at its
    lower and right edges, and cut back. A batch holds windows of as many images as it takes: all
    that are given together belong to one process, or the last bit of a prediction could depend on
    the number of processes.

    Args:
        images: `[3, H, W]` of any sizes, on the model's device; or what was made of their windows
            before (without flips and scales).
        predict: maps windows `[n, 3, side, side]`, or what was made of them, and the rows and
            columns wanted, to logits `[n, K, rows, columns]`; windows have the images' type, or
            float32 where they were resized.
        side: of the network's input, in pixels.
        overlap: least share of a window that the next one covers too.
        batch_size: windows a forward pass.
        flips: average over the four flips of each window.
        scales: average over these; 2 shows everything at twice its size.

    Yields:
        For each image, in order, probabilities float32 `[K, H, W]`. (On a CPU `max(0)` finds the
        classes four times as fast as `argmax(0)`, and their confidence besides.)

    Raises:
        UserError: predictions that are not finite.
    """
    views = _FLIPS if flips else _ONCE
    sizes = [round(side / scale) for scale in scales]
    unfinished: deque[_Canvas] = deque()
    batch: list[tuple[_Canvas, _Window]] = []
    for image in images:
        canvas = _Canvas(image, sizes, overlap, 1 / (len(sizes) * len(views)))
        unfinished.append(canvas)
        for window in canvas.windows:
            if batch and (len(batch) == batch_size or batch[0][1].size != window.size):
                _predict(batch, predict, side, views)
                batch = []
            batch.append((canvas, window))
        while not unfinished[0].missing:
            yield unfinished.popleft().result()
    if batch:
        _predict(batch, predict, side, views)
    for canvas in unfinished:
        yield canvas.result()


def cut_windows(image: Tensor, side: int, overlap: float) -> Tensor:
    """Return the windows of an image, `[n, 3, side, side]`, as `slide` sees them.

    Args:
        image: `[3, H, W]`.
        side: pixels of a window.
        overlap: least share of a window that its neighbour covers too, 0..0.9.
    """
    canvas = _Canvas(image, [side], overlap, 1.0)
    return torch.stack([canvas.cut(window) for window in canvas.windows])


def count_windows(height: int, width: int, side: int, overlap: float) -> int:
    """Return the number of windows that `cut_windows` returns for an image.

    Args:
        height: pixels of the image.
        width: pixels of the image.
        side: pixels of a window.
        overlap: least share of a window that its neighbour covers too, 0..0.9.
    """
    return len(window_offsets(height, side, overlap)) * len(window_offsets(width, side, overlap))


class Encoded(NamedTuple):
    """Features of the windows of an image, encoded before.

    Attributes:
        windows: `[n, ...]`, in the order of `cut_windows`; it may be on the disk.
        shape: rows and columns of the image.
    """

    windows: np.ndarray
    shape: tuple[int, int]


class _Window(NamedTuple):
    """A square of an image, and how much each of its rows and columns weighs."""

    number: int
    size: int
    top: int
    left: int
    rows: Tensor
    columns: Tensor


class _Canvas:
    """An image, and the sum of what was predicted for it so far."""

    def __init__(
        self, image: Tensor | Encoded, sizes: Sequence[int], overlap: float, weight: float
    ):
        self.height, self.width = image.shape[-2:]
        self.image = _mirrored(image, max(sizes)) if isinstance(image, Tensor) else image
        places = (
            (size, top, left, rows * weight, columns)
            for size in sizes
            for top, rows in _axis(self.height, size, overlap)
            for left, columns in _axis(self.width, size, overlap)
        )
        self.windows = [_Window(number, *place) for number, place in enumerate(places)]
        self.missing = len(self.windows)
        self._sums: Tensor | None = None

    def cut(self, window: _Window) -> Tensor:
        """Return the pixels of a window, or what was made of them."""
        if isinstance(self.image, Encoded):
            # Half precision cannot be stacked under a CPU's autocast.
            return torch.from_numpy(self.image.windows[window.number].astype(np.float32))
        _, size, top, left = window[:4]
        return self.image[:, top : top + size, left : left + size]

    def add(self, window: _Window, probabilities: Tensor) -> None:
        """Add a prediction `[K, size, size]` for a window."""
        if self._sums is None:
            self._sums = probabilities.new_zeros(len(probabilities), self.height, self.width)
        _, size, top, left = window[:4]
        place = self._sums[:, top : top + size, left : left + size]
        rows, columns = place.shape[1:]
        weights = torch.outer(window.rows[:rows], window.columns[:columns]).to(place.device)
        place.addcmul_(probabilities[:, :rows, :columns], weights)

    def result(self) -> Tensor:
        """Return the sum `[K, H, W]` over all windows."""
        assert not self.missing
        assert self._sums is not None
        # A softmax that is not finite is so in every class.
        if not self._sums[0].isfinite().all():
            raise UserError(
                "the predictions are not finite: the training has diverged; lower training.lr, set "
                "training.clip_norm=1.0 or training.precision=fp32"
            )
        return self._sums


def _predict(
    batch: list[tuple[_Canvas, _Window]],
    predict: Predict,
    side: int,
    views: Sequence[tuple[int, ...]],
) -> None:
    size = batch[0][1].size
    windows = torch.stack([canvas.cut(window) for canvas, window in batch])
    if size != side:
        windows = F.interpolate(windows.float(), (side, side), mode="bilinear", antialias=True)
    for axes in views:
        logits = predict(_flipped(windows, axes), (size, size))
        probabilities = _flipped(logits.softmax(1, dtype=torch.float32), axes)
        for (canvas, window), part in zip(batch, probabilities, strict=True):
            canvas.add(window, part)
    for canvas, _ in batch:
        canvas.missing -= 1


@functools.lru_cache(64)
def _axis(length: int, size: int, overlap: float) -> list[tuple[int, Tensor]]:
    """Return where windows start along an axis, and the weights of their pixels.

    The weights `[size]` of all windows sum to 1 at every pixel.
    """
    ramp = torch.from_numpy(blend_weights(size, overlap))
    total = torch.zeros(max(length, size))
    first = window_offsets(length, size, overlap)
    for start in first:
        total[start : start + size] += ramp
    return [(start, ramp / total[start : start + size]) for start in first]


def _mirrored(image: Tensor, size: int) -> Tensor:
    """Continue an image `[3, H, W]` to `size` at least, mirrored as often as it takes."""
    for axis in (1, 2):
        length = image.shape[axis]
        if length < size:
            place = torch.arange(size, device=image.device) % (2 * length)
            image = image.index_select(axis, torch.minimum(place, 2 * length - 1 - place))
    return image


def _flipped(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return x.flip(axes) if axes else x
