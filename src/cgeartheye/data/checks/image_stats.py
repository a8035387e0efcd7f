"""Statistics of the pixels of every file, gathered by several processes."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2.functional import center_crop, resize

from cgeartheye.data.checks.contact_sheet import THUMBNAIL
from cgeartheye.data.image_io import read_header, read_image, read_plain
from cgeartheye.utils.errors import UserError

T = TypeVar("T")
F = TypeVar("F")

_VALUES = np.arange(256)


@dataclass(frozen=True)
class ImageStats:
    """Statistics of one image.

    Attributes:
        width: in pixels.
        height: in pixels.
        bits: a band, in the file.
        digest: SHA-256 of the decoded pixels.
        sums: over all pixels, for each band.
        squares: sums of their squares.
        thumbnail: uint8 `[THUMBNAIL, THUMBNAIL, 3]`, if it was wanted.
    """

    width: int
    height: int
    bits: int
    digest: bytes
    sums: list[float]
    squares: list[float]
    thumbnail: npt.NDArray[np.uint8] | None


def examine(
    items: Sequence[T],
    look: Callable[[T], F],
    workers: int,
    progress: Callable[[int, int], None],
) -> list[F | str]:
    """Look at every item once, in `workers` processes.

    Args:
        items: what to look at.
        look: what it returns of an item; it can be pickled.
        workers: processes; 0: this one.
        progress: called with the number of items examined so far and in all.

    Returns:
        In order, what `look` returned, or the sentence of the `UserError` that it raised.
    """
    seen: list[F | str] = []
    examiner = _Examiner(items, look)
    # The loader brings the processes with it; `list` keeps it from stacking what is no tensor.
    for batch in DataLoader(examiner, batch_size=16, num_workers=workers, collate_fn=list):
        seen += batch
        progress(len(seen), len(items))
    return seen


class _Examiner(Dataset[Any]):
    """Looks at an item when it is asked for it."""

    def __init__(self, items: Sequence[T], look: Callable[[T], F]) -> None:
        self._items, self._look = items, look

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        try:
            return self._look(self._items[index])
        except UserError as error:
            return str(error)


def compute_image_stats(
    path: Path,
    bands: tuple[int, int, int],
    stretch: tuple[float, float] | None,
    thumbnail: bool = False,
) -> ImageStats:
    """Decode an image, as `read_image` does, and return what it is.

    Args:
        path: of the image.
        bands: counted from 1, that are red, green and blue.
        stretch: values of more than 8 bits that become 0 and 255; none: percentiles.
        thumbnail: whether a small copy is kept, for the contact sheet.

    Raises:
        UserError: it cannot be read.
    """
    plain, bits = read_plain(path) if bands == (1, 2, 3) else None, 8
    if plain is None:
        bits = read_header(path).bits
        pixels = read_image(path, bands, stretch).permute(1, 2, 0).contiguous()
        plain = Image.fromarray(pixels.numpy())
    # Pillow counts values several times as fast as PyTorch sums them.
    counts = np.array(plain.histogram()).reshape(3, 256)
    return ImageStats(
        plain.width,
        plain.height,
        bits,
        _digest(plain.width, plain.height, plain.tobytes()),
        (counts @ _VALUES).astype(float).tolist(),
        (counts @ _VALUES**2).astype(float).tolist(),
        shrink(torch.from_numpy(np.array(plain)).permute(2, 0, 1)) if thumbnail else None,
    )


def digest_of(pixels: Tensor) -> bytes:
    """Return the SHA-256 of pixels `[H, W, ...]`, and of their shape."""
    height, width = pixels.shape[:2]
    return _digest(width, height, pixels.contiguous().numpy().data)


def _digest(width: int, height: int, values: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(f"{width} {height} ".encode())
    digest.update(values)
    return digest.digest()


def shrink(image: Tensor, side: int = THUMBNAIL) -> npt.NDArray[np.uint8]:
    """Return the central square of an image, uint8 `[3, H, W]`, as `[side, side, 3]`."""
    square = center_crop(resize(image, [side]), [side])
    pixels: npt.NDArray[np.uint8] = square.permute(1, 2, 0).contiguous().numpy()
    return pixels
