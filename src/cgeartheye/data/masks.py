"""Segmentation data: the images and masks of each part, ready for a loader."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from cgeartheye.config import SegmentationData
from cgeartheye.data.images import read_image
from cgeartheye.data.legend import Legend, read_mask
from cgeartheye.data.survey import refuse
from cgeartheye.data.survey_masks import Pair, survey_masks
from cgeartheye.data.transforms import seeded, segmentation_transform
from cgeartheye.errors import UserError


class SegmentationChips(Dataset[dict[str, Any]]):
    """The images and masks of one part.

    `chips[index]` is the whole image, as tests see it. `chips[index, seed]` is an augmented crop
    that depends on nothing but the image and the seed: not on the process, the rank, or what was
    drawn before. Either is a dict of `image` (tv_tensors.Image, uint8 `[3, H, W]`), `mask`
    (tv_tensors.Mask, uint8 `[H, W]`, 255 where not labelled) and `index`.

    Attributes:
        names: the images' paths below the root, with forward slashes.
        paths: the same, to open.
        mask_paths: the masks' paths, to open.
        legend: the classes, their colours, and how masks say them.
        train_view: the transform behind `chips[index, seed]`.
    """

    def __init__(
        self, root: Path, pairs: list[Pair], legend: Legend, data: SegmentationData
    ) -> None:
        self.names = [pair.image for pair in pairs]
        self.paths = [root / pair.image for pair in pairs]
        self.mask_paths = [root / pair.mask for pair in pairs]
        self.legend = legend
        self._bands, self._stretch = data.bands, data.stretch
        self.train_view = segmentation_transform(
            data.image_size, data.scale, data.largest_class, data.distortion
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        index, seed = key if isinstance(key, tuple) else (key, None)
        image = tv_tensors.Image(self.load_picture(index))
        mask = tv_tensors.Mask(self.load_mask(index))
        refuse_sizes(self.paths[index], image, self.mask_paths[index], mask)
        if seed is not None:
            with seeded(seed):
                image, mask = self.train_view(image, mask)
        return {"image": image, "mask": mask, "index": index}

    def load_picture(self, index: int) -> Tensor:
        """Return an image as it is on disk: uint8 `[3, H, W]`."""
        return read_image(self.paths[index], self._bands, self._stretch)

    def load_mask(self, index: int) -> Tensor:
        """Return a mask as class indices: uint8 `[H, W]`, 255 where not labelled."""
        return read_mask(self.mask_paths[index], self.legend)


@dataclass(frozen=True)
class SegmentationParts:
    """The parts of a data set; `test` is `val` itself where the config names no other."""

    legend: Legend
    train: SegmentationChips
    val: SegmentationChips
    test: SegmentationChips


def load_segmentation_parts(data: SegmentationData) -> SegmentationParts:
    """Find the images and masks that a config describes.

    Raises:
        UserError: the first thing that is wrong with them: a missing root or folder, an image
            without a mask, two that share a name, an empty part.
    """
    found = survey_masks(data)
    refuse(found.problems)
    chips = {
        part: SegmentationChips(found.root, pairs, found.legend, data)
        for part, pairs in found.parts.items()
    }
    return SegmentationParts(
        found.legend, chips["train"], chips["val"], chips.get("test", chips["val"])
    )


def fingerprint_masks(chips: SegmentationChips) -> str:
    """Return a SHA-256 that changes when an image or mask is added, removed or rewritten.

    Like `scenes.fingerprint` it is taken over relative path, size and time of change, and here over
    what mask values mean.
    """
    digest = hashlib.sha256(repr(chips.legend).encode())
    for name, *paths in zip(chips.names, chips.paths, chips.mask_paths, strict=True):
        digest.update(f"{name}\0".encode())
        for path in paths:
            status = path.stat()
            digest.update(f"{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def refuse_sizes(path: Path, image: Tensor, mask_path: Path, mask: Tensor) -> None:
    """Refuse an image `[3, H, W]` and a mask `[H, W]` of different sizes.

    Raises:
        UserError: naming both files and both sizes.
    """
    if image.shape[1:] != mask.shape:
        (height, width), (mask_height, mask_width) = image.shape[1:], mask.shape
        raise UserError(
            f"{path} has {width} x {height} pixels, but its mask {mask_path} has {mask_width} x "
            f"{mask_height}: cut both to the same area, or take them out"
        )
