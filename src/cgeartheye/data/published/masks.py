"""Images with masks: large ones are cut into patches, colors become class indices."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from cgeartheye.config import SegmentationData
from cgeartheye.data.formats.masks import UNLABELED, Legend, make_legend, read_labels
from cgeartheye.data.image_io import images_below, read_header, read_image
from cgeartheye.data.index.scene import split
from cgeartheye.data.published.data_set import PublishedDataSet
from cgeartheye.data.published.scenes import SEED
from cgeartheye.data.published.steps import Step, link, write_png
from cgeartheye.utils.errors import UserError

_POTSDAM_TRAIN = {
    f"{row}_{column}"
    for rows, columns in ((range(2, 8), (10, 11, 12)), ((6, 7), (7, 8, 9)))
    for row in rows
    for column in columns
}
"""The tiles of the contest's training part, in mmsegmentation's division; others are for val."""


class Tile(NamedTuple):
    """A large image, its mask, and the patches that are cut out of them.

    Attributes:
        image: the file.
        mask: the file, in colors.
        part: train or val.
        side: of a patch, pixels.
        step: between patches, pixels.
        name: stem of a patch, from its first row, row after its last, then the same of columns.
        mask_suffix: behind the stem of a patch of the mask.
        values: mask value of each class and, last, of what is not labelled.
        padding: mask value beyond the edge of the image.
    """

    image: Path
    mask: Path
    part: str
    side: int
    step: int
    name: Callable[[int, int, int, int], str]
    mask_suffix: str
    values: npt.NDArray[np.uint8]
    padding: int


def isaid(known: PublishedDataSet, source: Path) -> list[Step]:
    """Return the steps that cut iSAID into patches.

    Args:
        known: the data set.
        source: folder of the download.

    Source: mmsegmentation, `tools/dataset_converters/isaid.py`: patches of 896 pixels that overlap
    by 384. An image that has 896 pixels along one side and fewer along the other is cut there into
    strips; here it is filled up as all that are smaller.
    """
    images: dict[tuple[str, str], Path] = {}
    masks: dict[tuple[str, str], Path] = {}
    for path in images_below(source):
        folders = path.relative_to(source).parts[:-1]
        part = next((part for part in ("train", "val") if part in folders), None)
        if part and (found := re.fullmatch(r"(P\d{4})(_instance_color_RGB)?", path.stem)):
            (masks if found[2] else images)[part, found[1]] = path
    _refuse_lonely(source, images, masks, "_instance_color_RGB.png")
    tiles = [
        Tile(
            image,
            masks[part, stem],
            part,
            896,
            512,
            partial("{}_{}_{}_{}_{}".format, stem),
            "_instance_color_RGB",
            np.array([*range(len(known.classes)), UNLABELED], dtype=np.uint8),
            UNLABELED,
        )
        for (part, stem), image in images.items()
    ]
    return list(_cut(known, tiles))


def potsdam(known: PublishedDataSet, source: Path) -> list[Step]:
    """Return the steps that cut Potsdam into patches.

    Args:
        known: the data set.
        source: folder of the download.

    Source: mmsegmentation, `tools/dataset_converters/potsdam.py`: patches of 512 pixels. Its stride
    of 256 only counts them; they are side by side, the last ones moved to the edge.
    """
    found: dict[str, dict[str, Path]] = {"RGB": {}, "label": {}, "label_noBoundary": {}}
    for path in images_below(source):
        match = re.fullmatch(r"top_potsdam_(\d+)_(\d+)_(RGB|label|label_noBoundary)", path.stem)
        if match:
            found[match[3]][f"{int(match[1])}_{int(match[2])}"] = path
    masks = {**found["label"], **found["label_noBoundary"]}  # the contest leaves boundaries out
    _refuse_lonely(source, found["RGB"], masks, "_label.tif")
    tiles = [
        Tile(
            image,
            masks[tile],
            "train" if tile in _POTSDAM_TRAIN else "val",
            512,
            512,
            partial(_potsdam_name, tile),
            "",
            np.array([*range(1, len(known.classes) + 1), 0], dtype=np.uint8),
            0,
        )
        for tile, image in found["RGB"].items()
    ]
    return list(_cut(known, tiles))


def _potsdam_name(tile: str, top: int, bottom: int, left: int, right: int) -> str:
    return f"{tile}_{left}_{top}_{right}_{bottom}"


def loveda(known: PublishedDataSet, source: Path) -> list[Step]:
    """Return the steps that bring the urban and rural images of LoveDA together.

    Args:
        known: the data set.
        source: folder of the download.
    """
    steps = []
    for path in images_below(source):
        folders = [name.casefold() for name in path.relative_to(source).parts[:-1]]
        part = next((part for part in ("train", "val", "test") if part in folders), None)
        if part and "images_png" in folders:
            steps.append(link(path, f"img_dir/{part}/{path.name}"))
        elif part and "masks_png" in folders:
            steps.append(link(path, f"ann_dir/{part}/{path.name}"))
    return steps


def roads(known: PublishedDataSet, source: Path) -> list[Step]:
    """Return the steps that divide EPFL's roads into parts, and cut their masks at 128.

    Args:
        known: the data set.
        source: folder of the download.
    """
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for path in images_below(source):
        if path.stem.startswith("satImage_"):
            (masks if path.parent.name == "groundtruth" else images)[path.stem] = path
    _refuse_lonely(source, images, masks, ".png in groundtruth")
    if not images:
        return []
    shares = {part: count / sum(known.images.values()) for part, count in known.images.items()}
    first = split({"": list(images)}, shares["train"], SEED)
    rest = split({"": first["val"][""]}, shares["val"] / (1 - shares["train"]), SEED)
    parts = {"train": first["train"][""], "val": rest["train"][""], "test": rest["val"][""]}
    steps = []
    for part, stems in parts.items():
        for stem in stems:
            steps.append(link(images[stem], f"{part}/Img/{images[stem].name}"))
            name = f"{part}/Label/{stem}.png"
            steps.append(Step((name,), partial(_cut_at_128, masks[stem], name)))
    return steps


def _cut_at_128(mask: Path, name: str, out: Path) -> None:
    gray = read_image(mask)[0].numpy()
    write_png(out / name, Image.fromarray((gray >= 128).astype(np.uint8)))


def _refuse_lonely(
    source: Path,
    images: dict[str, Path] | dict[tuple[str, str], Path],
    masks: dict[str, Path] | dict[tuple[str, str], Path],
    ending: str,
) -> None:
    """Refuse images without masks, and masks without images.

    Raises:
        UserError: there is one.
    """
    for one, other, what in ((images, masks, "mask"), (masks, images, "image")):
        lonely = [path for key, path in one.items() if key not in other]
        if lonely:
            raise UserError(
                f"{lonely[0]} (of {len(lonely)}) has no {what} in {source}: masks end with "
                f"{ending}; download what is missing, or take it out"
            )


def _cut(known: PublishedDataSet, tiles: list[Tile]) -> Iterator[Step]:
    assert isinstance(known.data, SegmentationData)
    legend = make_legend(known.data)
    for tile in tiles:
        header = read_header(tile.image)
        names = [
            name
            for place in patches(header.height, header.width, tile.side, tile.step)
            for name in _patch_names(tile, place)
        ]
        yield Step(tuple(names), partial(_write_patches, tile, legend))


def _patch_names(tile: Tile, place: tuple[int, int, int, int]) -> tuple[str, str]:
    stem = tile.name(*place)
    return (
        f"img_dir/{tile.part}/{stem}.png",
        f"ann_dir/{tile.part}/{stem}{tile.mask_suffix}.png",
    )


def patches(height: int, width: int, side: int, step: int) -> list[tuple[int, int, int, int]]:
    """Return the patches of an image: rows from and to, columns from and to.

    The last ones are moved to the edge. An image smaller than a patch has one, beyond its edge.

    Args:
        height: of the image, pixels.
        width: of the tile, in pixels.
        side: of a patch.
        step: from one to the next.
    """
    rows, columns = (
        sorted({min(start, max(length - side, 0)) for start in range(0, length, step)})
        for length in (height, width)
    )
    return [(top, top + side, left, left + side) for top in rows for left in columns]


def _write_patches(tile: Tile, legend: Legend, out: Path) -> str | None:
    """Write the patches of an image and its mask that are not there."""
    pixels = read_image(tile.image).permute(1, 2, 0).numpy()
    found, strays = read_labels(tile.mask, legend)
    labels = found.numpy()
    if labels.shape != pixels.shape[:2]:
        raise UserError(
            f"{tile.mask} has {labels.shape[1]} x {labels.shape[0]} pixels and its image "
            f"{pixels.shape[1]} x {pixels.shape[0]}: download both again"
        )
    height, width = labels.shape
    table = np.full(256, tile.values[-1], dtype=np.uint8)
    table[: len(tile.values) - 1] = tile.values[:-1]
    # Beyond the edge an image is black, and its mask not labelled.
    beyond = [(0, max(tile.side - height, 0)), (0, max(tile.side - width, 0))]
    pixels = np.pad(pixels, [*beyond, (0, 0)])
    labels = np.pad(table[labels], beyond, constant_values=tile.padding)
    for place in patches(height, width, tile.side, tile.step):
        top, bottom, left, right = place
        image, mask = _patch_names(tile, place)
        write_png(out / image, Image.fromarray(pixels[top:bottom, left:right]))
        write_png(out / mask, Image.fromarray(labels[top:bottom, left:right]))
    if strays:
        what, count = max(strays.items(), key=lambda item: item[1])
        return (
            f"{tile.mask} has {what} in {count:,} pixels, which is no class: they are not labelled"
        )
    return None
