"""What the pixels of every image say, gathered by several processes."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2.functional import center_crop, resize

from cgeartheye.config import SceneData
from cgeartheye.data.contact import THUMBNAIL
from cgeartheye.data.images import read_header, read_image
from cgeartheye.errors import UserError


@dataclass(frozen=True)
class Facts:
    """What one image is.

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
    root: Path,
    names: list[str],
    wanted: set[str],
    data: SceneData,
    progress: Callable[[int, int], None],
) -> tuple[dict[str, Facts], dict[str, str]]:
    """Decode every image once, in `data.workers` processes.

    Args:
        root: the folder that the names are below.
        names: of the images.
        wanted: the names of those that need a thumbnail.
        data: how they are read.
        progress: called with the number of images examined so far and in all.

    Returns:
        By name, the facts of each image, and the sentence for each that cannot be read.
    """
    facts: dict[str, Facts] = {}
    unreadable: dict[str, str] = {}
    examiner = _Examiner(root, names, wanted, data)
    # The loader brings the processes with it; `list` keeps it from stacking what is no tensor.
    for batch in DataLoader(examiner, batch_size=16, num_workers=data.workers, collate_fn=list):
        for name, seen in batch:
            if isinstance(seen, Facts):
                facts[name] = seen
            else:
                unreadable[name] = seen
        progress(len(facts) + len(unreadable), len(names))
    return facts, unreadable


class _Examiner(Dataset[tuple[str, Facts | str]]):
    """Examines an image when it is asked for it."""

    def __init__(self, root: Path, names: list[str], wanted: set[str], data: SceneData) -> None:
        self._root, self._names, self._wanted, self._data = root, names, wanted, data

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[str, Facts | str]:
        name = self._names[index]
        path = self._root / name
        try:
            bits = read_header(path).bits
            image = read_image(path, self._data.bands, self._data.stretch)
        except UserError as error:
            return name, str(error)
        _, height, width = image.shape
        digest = hashlib.sha256(f"{width} {height} ".encode())
        digest.update(image.permute(1, 2, 0).contiguous().numpy().data)
        values = image.flatten(1).to(torch.float64)  # exact: no sum comes near 2**53
        thumbnail = None
        if name in self._wanted:
            square = center_crop(resize(image, [THUMBNAIL]), [THUMBNAIL])
            thumbnail = square.permute(1, 2, 0).contiguous().numpy()
        return name, Facts(
            width,
            height,
            bits,
            digest.digest(),
            values.sum(1).tolist(),
            values.square().sum(1).tolist(),
            thumbnail,
        )
