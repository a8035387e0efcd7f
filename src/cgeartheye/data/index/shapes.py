"""Layouts in which shapes of labelme are masks."""

from collections.abc import Iterator, Set
from pathlib import Path
from typing import NamedTuple

from cgeartheye.config import SegmentationData
from cgeartheye.data.formats.labelme import is_labelme
from cgeartheye.data.formats.labelme_masks import UNLABELED, outside
from cgeartheye.data.image_io import files_below, images_below
from cgeartheye.data.index.part_names import names_of
from cgeartheye.data.index.starred import starred

_LAYOUTS = (
    ("{part}/Img", "{part}/Label"),
    ("{part}", "{part}"),
    ("{part}/images", "{part}/images"),
    ("{part}/images", "{part}/labels"),
    ("{part}/images", "{part}/annotations"),
    ("images/{part}", "images/{part}"),
    ("images/{part}", "labels/{part}"),
    ("images/{part}", "annotations/{part}"),
    ("images", "images"),
    ("images", "labels"),
    ("images", "annotations"),
    (".", "."),
)
"""Folders of images, and of labelme's files: beside them, or in a folder of their own."""


class Shapes(NamedTuple):
    """Folders of images and of labelme's files, patterns as in a config."""

    images: str
    masks: str

    @property
    def suffixes(self) -> Set[str]:
        """Endings of the masks' files."""
        return frozenset({".json"})

    def note(self, classes: tuple[str, ...]) -> str:
        """Return what was found, in words."""
        label = outside(classes)
        rest = "are not labelled" if label == UNLABELED else f"are '{classes[label]}'"
        return f"masks are labelme's shapes in {self.masks}; pixels that none covers {rest}"


def find_shapes(root: Path, data: SegmentationData, images: str, masks: str) -> Shapes | None:
    """Return the folders in which files of labelme are the masks.

    Args:
        root: of the data.
        data: the config; where it names folders, these alone are looked into.
        images: its folder of images, or the usual one.
        masks: its folder of masks.

    Returns:
        None where masks are files of pixels.
    """
    for part in names_of(data.train, "train"):  # masks of pixels at their usual place need no look
        if masks != images and any(map(images_below, _folders(root, masks, part))):
            return None
    for pattern, other in _candidates(data, images, masks):
        for part in names_of(data.train, "train"):
            folders = [_folders(root, one, part) for one in (pattern, other)]
            if all(folders) and _fit(folders[0], folders[1], data.image_suffix):
                return Shapes(pattern, other)
    return None


def _candidates(data: SegmentationData, images: str, masks: str) -> Iterator[tuple[str, str]]:
    if data.images or data.masks or data.catalog:
        yield images, masks
    else:
        yield from _LAYOUTS


def _folders(root: Path, pattern: str, part: str) -> list[Path]:
    places = starred(root, pattern.replace("{part}", part))
    return [path for _, path in places if path.is_dir()]


def _fit(images: list[Path], masks: list[Path], ending: str) -> bool:
    """Whether a file of labelme has the stem of an image, and no image beside it is a mask."""
    if images != masks and any(images_below(folder) for folder in masks):
        return False
    stems = {path.stem.removesuffix(ending) for folder in images for path in images_below(folder)}
    return any(
        path.stem in stems and is_labelme(path)
        for folder in masks
        for path in files_below(folder, {".json"})
    )
