"""Images and boxes of each part, ready for a loader."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from cgeartheye.boxes import corners_of, oriented_of
from cgeartheye.config import Color, DetectionData
from cgeartheye.data.formats.voc_dota_yolo import Id, Objects
from cgeartheye.data.image_io import read_header, read_image
from cgeartheye.data.index.detection import survey_boxes
from cgeartheye.data.index.scene import refuse
from cgeartheye.data.transforms.boxes import box_transform, eval_scale, eval_view
from cgeartheye.data.transforms.image import seeded
from cgeartheye.utils.colors import class_colors
from cgeartheye.utils.console import log_info
from cgeartheye.utils.io import sample


class BoxChips(Dataset[dict[str, Any]]):
    """The images of one part, and the boxes in them.

    `chips[index]` is an image as tests see it; `chips[index, seed]` is an augmented crop that
    depends on nothing but the image and the seed: not on the process, the rank, or what was drawn
    before. Either is a dict of

    - `image`: tv_tensors.Image, uint8 `[3, S, S]` with S = `image_size`, or `[3, H, W]` as on disk
      in tests of data that are not resized;
    - `boxes`: tv_tensors.BoundingBoxes, float32, horizontal `XYXY` `[n, 4]` or oriented `XYXYXYXY`
      `[n, 8]`, the corners of rectangles. In training in pixels of `image`, cut to it; in tests in
      pixels of the image on disk, as annotated;
    - `labels`: int64 `[n]`, indices of classes;
    - `ignored`: bool `[n]`, those that count neither way in a test. Training sees them as any
      other, but for COCO's crowds, which it does not see;
    - `index`, and in tests `size`: int64, rows and columns of the image on disk.

    Attributes:
        names: the images' paths below the root, with forward slashes.
        paths: the same, to open.
        oriented: whether boxes are.
        classes: names by index.
        image_ids: those of a COCO file; none: there is none.
        category_ids: of the classes in it, by name.
        most_boxes: the largest number of boxes in an image.
        train_view: the transform behind `chips[index, seed]`, of what `load_training` returns.
    """

    def __init__(
        self,
        root: Path,
        found: dict[str, Objects],
        classes: tuple[str, ...],
        data: DetectionData,
        category_ids: Mapping[str, Id] | None = None,
    ) -> None:
        self.image_ids = [one.image_id for one in found.values()]
        self.category_ids = category_ids or {}
        self.names = list(found)
        self.paths = [root / name for name in found]
        self.classes = classes
        self.oriented = data.boxes == "oriented"
        self.bands, self.stretch = data.bands, data.stretch
        self.image_size, self.resize = data.image_size, data.resize
        # One array for all images: a loader's process gets it without a copy, or in one piece.
        objects = list(found.values())
        counts = [len(one) for one in objects]
        self.most_boxes = max(counts, default=0)
        self._ends = np.cumsum([0, *counts])
        self._boxes = boxes_of(_joined([one.corners for one in objects], (4, 2)), self.oriented)
        self._labels = _joined([one.labels for one in objects], dtype=np.int64)
        self._ignored = _joined([one.ignored for one in objects], dtype=bool)
        self._crowds = _joined([one.crowds for one in objects], dtype=bool)
        self.train_view = box_transform(
            data.image_size,
            data.resize,
            data.scale,
            data.flips,
            data.color_jitter,
            data.min_visibility,
            data.min_box_size,
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        if isinstance(key, tuple):
            index, seed = key
            with seeded(seed):
                image, boxes, labels, ignored = self.train_view(*self.load_training(index))
            size = {}
        else:
            index = key
            image_stack = self.load_image_stack(index)
            image = eval_view(image_stack, self.image_size, self.resize)
            boxes, labels, ignored = self.load_boxes(index)
            boxes = self._on(image_stack, boxes)
            size = {"size": torch.tensor(image_stack.shape[1:])}
        return {
            "image": image,
            "boxes": boxes,
            "labels": labels,
            "ignored": ignored,
            "index": index,
            **size,
        }

    def load_image_stack(self, index: int) -> Tensor:
        """Return an image as it is on disk: uint8 `[3, H, W]`."""
        return read_image(self.paths[index], self.bands, self.stretch)

    def load_boxes(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes in pixels of the image on disk, labels, and which are ignored."""
        some = slice(*self._ends[index : index + 2])
        # Copies, for a caller may change what it is given.
        return (
            torch.from_numpy(self._boxes[some].copy()),
            torch.from_numpy(self._labels[some].copy()),
            torch.from_numpy(self._ignored[some].copy()),
        )

    def load_training(
        self, index: int
    ) -> tuple[tv_tensors.Image, tv_tensors.BoundingBoxes, Tensor, Tensor]:
        """Return an image as it is on disk and what of its boxes is trained on."""
        image_stack = self.load_image_stack(index)
        single = torch.from_numpy(~self._crowds[slice(*self._ends[index : index + 2])])
        boxes, labels, ignored = (each[single] for each in self.load_boxes(index))
        return tv_tensors.Image(image_stack), self._on(image_stack, boxes), labels, ignored

    def largest_side(self) -> float | None:
        """Return how far the largest object reaches along x or y in a test's view.

        Returns:
            Pixels of the view: the longer side of a box, or the diagonal of an oriented one, which
            may have any angle in another image; crowds are no objects. None: there is none.
        """
        return self._largest_side

    @cached_property
    def _largest_side(self) -> float | None:
        if self._crowds.all():
            return None
        points = self._boxes.reshape(len(self._boxes), -1, 2)
        if self.oriented:
            lengths = np.linalg.norm(points[:, 2] - points[:, 0], axis=1)
        else:
            lengths = (points[:, 1] - points[:, 0]).max(1)
        lengths = np.where(self._crowds, 0, lengths)
        largest = 0.0
        for index, (first, last) in enumerate(zip(self._ends, self._ends[1:], strict=False)):
            if last > first:
                scale = 1.0
                if self.resize:
                    header = read_header(self.paths[index])
                    scale = eval_scale(header.height, header.width, self.image_size, self.resize)
                largest = max(largest, scale * float(lengths[first:last].max()))
        return largest

    def digest(self) -> bytes:
        """Return a SHA-256 of all that is annotated."""
        digest = hashlib.sha256(repr((self.classes, self.oriented)).encode())
        for array in (self._ends, self._boxes, self._labels, self._ignored, self._crowds):
            digest.update(array.tobytes())
        return digest.digest()

    def _on(self, image_stack: Tensor, boxes: Tensor) -> tv_tensors.BoundingBoxes:
        return tv_tensors.BoundingBoxes(
            boxes,
            format="XYXYXYXY" if self.oriented else "XYXY",
            canvas_size=(image_stack.shape[1], image_stack.shape[2]),
        )


@dataclass(frozen=True)
class DetectionParts:
    """The parts of a data set; `test` is `val` itself where the config names no other."""

    classes: tuple[str, ...]
    train: BoxChips
    val: BoxChips
    test: BoxChips

    @property
    def colors(self) -> tuple[Color, ...]:
        """Of the classes, where boxes are drawn."""
        return class_colors(self.classes)


def load_detection_parts(data: DetectionData) -> DetectionParts:
    """Find the images and boxes that a config describes.

    Raises:
        UserError: the first thing that is wrong with them: a missing root or folder, a file that
            cannot be understood, an unknown class, an image without annotations or annotations
            without an image, an empty part.
    """
    found = survey_boxes(data)
    refuse(found.problems)
    for note in found.notes:
        log_info(f"data: {note}")
    chips = {
        part: BoxChips(found.root, objects, found.classes, data, found.category_ids)
        for part, objects in found.parts.items()
    }
    return DetectionParts(
        found.classes, chips["train"], chips["val"], chips.get("test", chips["val"])
    )


def box_fingerprint(chips: BoxChips) -> str:
    """Return a SHA-256 that changes when an image is added, removed or rewritten, or a box moved.

    Like `scene.fingerprint` it is taken over each image's relative path, size and pieces, and here
    over all that is annotated.
    """
    digest = hashlib.sha256(chips.digest())
    for name, path in zip(chips.names, chips.paths, strict=True):
        digest.update(f"{name}\0".encode())
        digest.update(sample(path))
    return digest.hexdigest()


def boxes_of(corners: npt.NDArray[np.float64], oriented: bool) -> npt.NDArray[np.float32]:
    """Return the boxes around annotated corners, `[n, 4, 2]`.

    Returns:
        `[n, 4]` as x0, y0, x1, y1, or the corners of the smallest rectangles, `[n, 8]`.
    """
    if oriented:
        rectangles = corners_of(oriented_of(torch.from_numpy(corners)))
        return rectangles.flatten(1).float().numpy()
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)


def _joined(
    arrays: Sequence[npt.NDArray[Any]], shape: tuple[int, ...] = (), dtype: type = np.float64
) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros((0, *shape), dtype), *arrays])
