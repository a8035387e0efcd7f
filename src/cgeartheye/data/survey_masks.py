"""Which images and masks a config's segmentation data are, and what is wrong with how they lie.

As in `survey.py`, problems are collected, and no pixel is read.
"""

import glob
import os
from dataclasses import dataclass
from pathlib import Path

from cgeartheye.config import SegmentationData
from cgeartheye.data.catalog import MASKED, find_root
from cgeartheye.data.images import images_below
from cgeartheye.data.legend import Legend, make_legend
from cgeartheye.data.survey import Problem, more, split


@dataclass(frozen=True)
class Pair:
    """An image and its mask: paths below the root, with forward slashes."""

    image: str
    mask: str


@dataclass(frozen=True)
class MaskSurvey:
    """What was found.

    Attributes:
        root: the folder that holds images and masks.
        legend: the classes, and how masks say them.
        parts: the pairs of `train`, `val` and, where it is another part, `test`.
        unused: masks without an image.
        problems: what keeps the data from being trained on.
    """

    root: Path
    legend: Legend
    parts: dict[str, list[Pair]]
    unused: list[str]
    problems: list[Problem]


def survey_masks(data: SegmentationData) -> MaskSurvey:
    """Pair the images and masks that a config describes, going on past mistakes.

    Raises:
        UserError: there is no root, or values or colours do not fit the catalogue's classes.
    """
    known = MASKED[data.catalog] if data.catalog else None
    images = data.images or (known.images if known else "{part}/Img")
    masks = data.masks or (known.masks if known else "{part}/Label")
    mask_ending = data.mask_ending
    if mask_ending is None:
        mask_ending = known.mask_ending if known else ""
    found = MaskSurvey(
        find_root(data.root, known.folders if known else ()), make_legend(data), {}, [], []
    )

    def pair_up(place: str, setting: str) -> list[Pair]:
        of_mask = _by_stem(found, masks.replace("{part}", place), mask_ending, setting)
        of_image = _by_stem(found, images.replace("{part}", place), data.image_ending, setting)
        taken = set(of_mask.values())  # they may lie among the images
        of_image = {stem: name for stem, name in of_image.items() if name not in taken}
        found.unused.extend(name for stem, name in of_mask.items() if stem not in of_image)
        alone = [name for stem, name in of_image.items() if stem not in of_mask]
        if alone:
            folder = found.root / masks.replace("{part}", place)
            found.problems.append(
                Problem(
                    f"{alone[0]}{more(alone)} has no mask in {folder}, a file of its name with "
                    f"'{mask_ending}' behind the stem: add it, or correct data.masks or "
                    "data.mask_ending",
                    alone,
                )
            )
        return [Pair(name, of_mask[stem]) for stem, name in of_image.items() if stem in of_mask]

    if "{part}" in images:
        found.parts["train"] = pair_up(data.train, "data.train")
        found.parts["val"] = pair_up(data.val, "data.val")
        # A test part that is the validation part again would look like a leak.
        if data.test not in (None, data.val):
            found.parts["test"] = pair_up(data.test, "data.test")
    else:
        mask_of = {pair.image: pair.mask for pair in pair_up("", "data.images")}
        halves = split({"": list(mask_of)}, data.train_fraction, data.split_seed)
        for part, half in halves.items():
            found.parts[part] = [Pair(image, mask_of[image]) for image in half[""]]
    for part, pairs in found.parts.items():
        if not pairs:
            found.problems.append(
                Problem(f"the part '{part}' of {found.root} has no image with a mask: give it one")
            )
    return found


def _by_stem(found: MaskSurvey, pattern: str, ending: str, setting: str) -> dict[str, str]:
    """Find the image files of some folders by what images and masks have in common.

    Args:
        found: takes the problems.
        pattern: a folder below the root; `*` stands for any one.
        ending: of the files' stems.
        setting: what to correct where there is no such folder.

    Returns:
        Path below the root, by what `*` stood for, subfolder, and stem without `ending`.
    """
    folders = sorted(glob.glob(pattern, root_dir=found.root))
    if not folders:
        found.problems.append(
            Problem(
                f"no folder {found.root / pattern}: correct {setting}, data.images or data.masks"
            )
        )
    by_stem: dict[str, str] = {}
    doubled = []
    for folder in folders:
        stars = [
            name
            for name, part in zip(Path(folder).parts, Path(pattern).parts, strict=True)
            if part == "*"
        ]
        for path in images_below(found.root / folder):
            if path.stem.endswith(ending):
                below = path.relative_to(found.root / folder).parent
                stem = Path(*stars, below, path.stem.removesuffix(ending)).as_posix()
                name = Path(os.path.relpath(path, found.root)).as_posix()
                if stem in by_stem:
                    doubled.append(f"{by_stem[stem]} and {name}")
                by_stem[stem] = name
    if doubled:
        found.problems.append(
            Problem(
                f"{doubled[0]}{more(doubled)} have the same stem: rename one, or tell images from "
                "masks by data.image_ending and data.mask_ending",
                doubled,
            )
        )
    return by_stem
