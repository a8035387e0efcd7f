"""Scene classification data: the images of each part, ready for a loader."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from cgeartheye.config import SceneData
from cgeartheye.data.image_io import read_image
from cgeartheye.data.index.scene import Entry, more, refuse, survey
from cgeartheye.data.transforms.image import eval_transform, seeded, train_transform
from cgeartheye.utils.console import warn
from cgeartheye.utils.io import sample


class SceneChips(Dataset[dict[str, Any]]):
    """The images of one part.

    `chips[index]` is the view that tests see, the same each time. `chips[index, seed]` is an
    augmented view that depends on nothing but the image and the seed: not on the process, the
    rank, or what was drawn before. Either is a dict of `image` (uint8 `[3, S, S]`), `label` and
    `index`.

    Attributes:
        names: paths below the root, with forward slashes.
        paths: the same, to open.
        labels: index of each image's class.
        classes: class names by index.
        train_view: the transform behind `chips[index, seed]`.
        test_view: the transform behind `chips[index]`.
    """

    def __init__(
        self, root: Path, entries: list[Entry], classes: tuple[str, ...], data: SceneData
    ) -> None:
        self.names = [entry.name for entry in entries]
        self.paths = [root / entry.name for entry in entries]
        self.labels = [entry.label for entry in entries]
        self.classes = classes
        self._bands, self._stretch = data.bands, data.stretch
        self.train_view = train_transform(data.image_size, data.crop_area)
        self.test_view = eval_transform(data.image_size, data.resize_to)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        index, seeds = (key[0], [key[1]]) if isinstance(key, tuple) else (key, [])
        view = self.load_views(index, seeds)[0]
        return {"image": view, "label": self.labels[index], "index": index}

    def load_views(self, index: int, seeds: Sequence[int]) -> Tensor:
        """Return the augmented view of each seed, or, without seeds, the one that tests see.

        The image is decoded once.

        Returns:
            uint8 `[views, 3, S, S]`.
        """
        image = tv_tensors.Image(self.load_image_stack(index))
        if not seeds:
            return torch.stack([self.test_view(image)])
        views = []
        for seed in seeds:
            with seeded(seed):
                views.append(self.train_view(image))
        return torch.stack(views)

    def load_image_stack(self, index: int) -> Tensor:
        """Return an image as it is on disk: uint8 `[3, H, W]`."""
        return read_image(self.paths[index], self._bands, self._stretch)


@dataclass(frozen=True)
class SceneParts:
    """The parts of a data set; `test` is `val` itself where the config names no other."""

    classes: tuple[str, ...]
    train: SceneChips
    val: SceneChips
    test: SceneChips


def load_parts(data: SceneData) -> SceneParts:
    """Find the images, labels and class names that a config describes.

    Raises:
        UserError: the first thing that is wrong with them: a missing root, list file or image, a
            bad line, a label out of range, class names that do not fit, an empty part.
    """
    found = survey(data)
    refuse(found.problems)
    if found.empty:
        warn(f"{found.empty[0]}{more(found.empty)} holds no image, so it is no class")
    chips = {
        part: SceneChips(found.root, entries, found.classes, data)
        for part, entries in found.parts.items()
    }
    return SceneParts(found.classes, chips["train"], chips["val"], chips.get("test", chips["val"]))


def fingerprint(chips: SceneChips) -> str:
    """Return a SHA-256 that changes when an image is added, removed, relabelled or rewritten.

    It is taken over relative path, label, and size and three pieces of the file: copying or moving
    the whole folder leaves it as it is, and other pixels in a file of the same size and time do
    not.
    """
    digest = hashlib.sha256()
    for name, path, label in zip(chips.names, chips.paths, chips.labels, strict=True):
        digest.update(f"{name}\0{label}\n".encode())
        digest.update(sample(path))
    return digest.hexdigest()
