"""Images and masks of each part, ready for a loader; pairs of dates are in `change.py`."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from cgeartheye.config import MaskedData, SegmentationData
from cgeartheye.data.formats.masks import Legend, read_mask
from cgeartheye.data.image_io import read_image
from cgeartheye.data.index.scene import refuse
from cgeartheye.data.index.segmentation import Sample, survey_masks
from cgeartheye.data.transforms.image import dense_transform, seeded
from cgeartheye.utils.console import log_info
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import sample


class MaskedChips(Dataset[dict[str, Any]], ABC):
    """The pictures and masks of one part; a picture is an image, or the images of two dates.

    `chips[index]` is the whole picture, as tests see it. `chips[index, seed]` is an augmented crop
    that depends on nothing but the picture and the seed: not on the process, the rank, or what was
    drawn before. Either is a dict of the images (tv_tensors.Image, uint8 `[3, H, W]`), `mask`
    (tv_tensors.Mask, uint8 `[H, W]`, 255 where not labelled) and `index`.

    Attributes:
        names: the (first) images' paths below the root, with forward slashes.
        paths: the same, to open.
        image_paths: those of all images of each picture.
        mask_paths: the masks' paths, to open.
        legend: the classes, their colors, and how masks encode them.
        train_view: the transform behind `chips[index, seed]`, of a picture and its mask.
    """

    def __init__(
        self, root: Path, samples: list[Sample], legend: Legend, data: MaskedData, rotation: float
    ) -> None:
        self.names = [sample.image for sample in samples]
        self.image_paths = [tuple(root / image for image in sample.images) for sample in samples]
        self.paths = [paths[0] for paths in self.image_paths]
        self.mask_paths = [root / sample.mask for sample in samples]
        self.legend = legend
        self.bands, self.stretch = data.bands, data.stretch
        self.train_view = dense_transform(
            data.image_size, data.scale, data.max_class_ratio, data.color_jitter, rotation
        )

    @abstractmethod
    def load_image_stack(self, index: int) -> Tensor:
        """Return a picture as it is on disk: uint8 `[3, H, W]`, or `[6, H, W]` of two dates."""

    @abstractmethod
    def name_images(self, image_stack: Tensor) -> dict[str, Tensor]:
        """Return the images of a picture by what a sample calls them."""

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        index, seed = key if isinstance(key, tuple) else (key, None)
        image_stack = tv_tensors.Image(self.load_image_stack(index))
        mask = tv_tensors.Mask(self.load_mask(index))
        refuse_sizes(self.paths[index], image_stack, self.mask_paths[index], mask)
        if seed is not None:
            with seeded(seed):
                image_stack, mask = self.train_view(image_stack, mask)
        images = {name: tv_tensors.Image(x) for name, x in self.name_images(image_stack).items()}
        return {**images, "mask": mask, "index": index}

    def load_mask(self, index: int) -> Tensor:
        """Return a mask as class indices: uint8 `[H, W]`, 255 where not labelled."""
        return read_mask(self.mask_paths[index], self.legend)


class SegmentationChips(MaskedChips):
    """See `MaskedChips`; a sample names its image `image`."""

    def __init__(
        self, root: Path, samples: list[Sample], legend: Legend, data: SegmentationData
    ) -> None:
        super().__init__(root, samples, legend, data, rotation=0.0)

    def load_image_stack(self, index: int) -> Tensor:
        """Return an image as it is on disk: uint8 `[3, H, W]`."""
        return read_image(self.paths[index], self.bands, self.stretch)

    def name_images(self, image_stack: Tensor) -> dict[str, Tensor]:
        """Return the image."""
        return {"image": image_stack}


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
    for note in found.notes:
        log_info(f"data: {note}")
    chips = {
        part: SegmentationChips(found.root, samples, found.legend, data)
        for part, samples in found.parts.items()
    }
    return SegmentationParts(
        found.legend, chips["train"], chips["val"], chips.get("test", chips["val"])
    )


def fingerprint_masks(chips: MaskedChips) -> str:
    """Return a SHA-256 that changes when an image or mask is added, removed or rewritten.

    Like `scene.fingerprint` it is taken over relative path, size and pieces of each file, and here
    over what mask values mean.
    """
    digest = hashlib.sha256(repr(chips.legend).encode())
    for name, images, mask in zip(chips.names, chips.image_paths, chips.mask_paths, strict=True):
        digest.update(f"{name}\0".encode())
        for path in (*images, mask):
            digest.update(sample(path))
    return digest.hexdigest()


def refuse_sizes(path: Path, image: Tensor, mask_path: Path, mask: Tensor) -> None:
    """Refuse an image and a mask of different sizes.

    Args:
        path: of the image.
        image: `[3, H, W]`, or `[6, H, W]` of two dates.
        mask_path: of the mask.
        mask: `[H, W]`.

    Raises:
        UserError: naming both files and both sizes.
    """
    if image.shape[1:] != mask.shape:
        (height, width), (mask_height, mask_width) = image.shape[1:], mask.shape
        raise UserError(
            f"{path} has {width} x {height} pixels, but its mask {mask_path} has {mask_width} x "
            f"{mask_height}: cut both to the same area, or take them out"
        )
