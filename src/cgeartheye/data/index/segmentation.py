"""Which images belong to which masks by a config, and what is wrong with their layout.

As in `scene.py`, problems are collected, and no pixel is read.
"""

from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cgeartheye.config import ChangeData, MaskedData, SegmentationData
from cgeartheye.data.formats.masks import Legend, change_legend, make_legend
from cgeartheye.data.image_io import SUFFIXES
from cgeartheye.data.index.catalog import CHANGES, MASKED, find_root
from cgeartheye.data.index.part_names import other_name
from cgeartheye.data.index.scene import Problem, more, split
from cgeartheye.data.index.shapes import find_shapes
from cgeartheye.data.index.starred import starred
from cgeartheye.data.index.stems import by_stem


@dataclass(frozen=True)
class Sample:
    """An image, or that of each date, and their mask: paths below the root, with slashes."""

    images: tuple[str, ...]
    mask: str

    @property
    def image(self) -> str:
        """The image, or that of the first date."""
        return self.images[0]


class Folder(NamedTuple):
    """Folder of images or masks.

    Attributes:
        pattern: a folder below the root, with `{part}` and `*`.
        ending: of the files' stems.
        what: the config calls them, `images`.
        suffixes: of the files.
    """

    pattern: str
    ending: str
    what: str
    suffixes: Set[str] = SUFFIXES

    def below(self, root: Path, part: str) -> Path:
        """Return the folder of a part."""
        return root / self.pattern.replace("{part}", part)


@dataclass(frozen=True)
class MaskSurvey:
    """Result of a survey of masks.

    Attributes:
        root: the folder that holds images and masks.
        legend: the classes, and how masks encode them.
        parts: the samples of `train`, `val` and, where it is another part, `test`.
        unused: masks without an image.
        problems: what keeps the data from being trained on.
        notes: what was chosen that the config leaves open, in sentences.
    """

    root: Path
    legend: Legend
    parts: dict[str, list[Sample]]
    unused: list[str]
    problems: list[Problem]
    notes: list[str] = field(default_factory=list)


def survey_masks(data: SegmentationData) -> MaskSurvey:
    """Find the images and masks that a config describes, going on past mistakes.

    Raises:
        UserError: there is no root, or values or colors do not fit the catalog's classes.
    """
    known = MASKED[data.catalog] if data.catalog else None
    images = data.images or (known.images if known else "{part}/Img")
    masks = data.masks or (known.masks if known else "{part}/Label")
    ending = data.mask_suffix
    if ending is None:
        ending = known.mask_suffix if known else ""
    root = find_root(data.root, known.folders if known else ())
    found = MaskSurvey(root, make_legend(data), {}, [], [])
    shapes = find_shapes(root, data, images, masks)
    if shapes:
        images, masks = shapes.images, shapes.masks
        found.notes.append(shapes.note(found.legend.classes))
    _find_parts(
        found,
        data,
        [Folder(images, data.image_suffix, "images")],
        Folder(masks, ending, "masks", shapes.suffixes if shapes else SUFFIXES),
    )
    return found


def survey_pairs(data: ChangeData) -> MaskSurvey:
    """Find the images of both dates and the masks that a config describes; see `survey_masks`.

    Raises:
        UserError: there is no root.
    """
    root = find_root(data.root, CHANGES[data.catalog].folders if data.catalog else ())
    found = MaskSurvey(root, change_legend(data), {}, [], [])
    dates = [
        Folder(data.before, data.before_suffix, "before"),
        Folder(data.after, data.after_suffix, "after"),
    ]
    masks = Folder(data.masks or "{part}/Label", data.mask_suffix or "", "masks")
    _find_parts(found, data, dates, masks)
    return found


def _find_parts(found: MaskSurvey, data: MaskedData, images: list[Folder], masks: Folder) -> None:
    """Find the samples of every part."""
    if "{part}" in images[0].pattern:

        def is_there(name: str) -> bool:
            return all(
                starred(found.root, folder.pattern.replace("{part}", name))
                for folder in (*images, masks)
            )

        train = other_name(data.train, "train", is_there)
        val = other_name(data.val, "val", is_there)
        found.notes.extend(
            f"the part '{name}' is taken for data.{kind}"
            for kind, name in (("train", train), ("val", val))
            if name != getattr(data, kind)
        )
        found.parts["train"] = _find(found, train, "data.train", images, masks)
        found.parts["val"] = _find(found, val, "data.val", images, masks)
        # A test part that is the validation part again would look like a leak.
        if data.test not in (None, data.val):
            found.parts["test"] = _find(found, data.test, "data.test", images, masks)
    else:
        samples = _find(found, "", f"data.{images[0].what}", images, masks)
        of_image = {sample.image: sample for sample in samples}
        halves = split({"": list(of_image)}, data.train_fraction, data.split_seed)
        for part, half in halves.items():
            found.parts[part] = [of_image[image] for image in half[""]]
    for part, samples in found.parts.items():
        if not samples:
            found.problems.append(
                Problem(f"the part '{part}' of {found.root} has no image with a mask: give it one")
            )


def _find(
    found: MaskSurvey, part: str, setting: str, images: list[Folder], masks: Folder
) -> list[Sample]:
    """Bring together what has the same stem."""
    of_mask = _images_of(found, masks, part, setting, images)
    taken = set(of_mask.values())  # they may be among the images
    dates = [
        {
            stem: name
            for stem, name in _images_of(found, folder, part, setting, images).items()
            if name not in taken
        }
        for folder in images
    ]
    sides = list(zip(images, dates, strict=True))
    for number, (_, of_image) in enumerate(sides):
        # Masks that are missing for the first date are not reported again for the second.
        for other, of_other in [(masks, of_mask), *sides[1:]] if number == 0 else sides[:1]:
            alone = [name for stem, name in of_image.items() if stem not in of_other]
            if alone:
                kind = "mask" if other is masks else "image of the other date"
                ending = f" with '{other.ending}' behind the stem" if other.ending else ""
                found.problems.append(
                    Problem(
                        f"{alone[0]}{more(alone)} has no {kind} in "
                        f"{other.below(found.root, part)}, a file of its name"
                        f"{ending}: add it, or correct data.{other.what} "
                        f"or data.{other.what.rstrip('s')}_ending",
                        alone,
                    )
                )
    stems = [stem for stem in dates[0] if all(stem in other for other in (of_mask, *dates))]
    found.unused.extend(
        name for stem, name in of_mask.items() if not any(stem in date for date in dates)
    )
    return [Sample(tuple(date[stem] for date in dates), of_mask[stem]) for stem in stems]


def _images_of(
    found: MaskSurvey, folder: Folder, part: str, setting: str, images: list[Folder]
) -> dict[str, str]:
    """Find the image files of some folders by what images and masks have in common.

    Args:
        found: takes the problems.
        folder: of images or masks.
        part: whose.
        setting: what to correct where there is no such folder.
        images: all folders of images.

    Returns:
        Path below the root, by what `*` stood for, subfolder, and stem without `ending`.
    """
    pattern = folder.pattern.replace("{part}", part)
    folders = starred(found.root, pattern)
    if not folders:
        names = ", ".join(f"data.{other.what}" for other in images)
        found.problems.append(
            Problem(f"no folder {found.root / pattern}: correct {setting}, {names} or data.masks")
        )
    stems, doubled = by_stem(found.root, folders, folder.ending, folder.suffixes)
    if doubled:
        found.problems.append(
            Problem(
                f"{doubled[0]}{more(doubled)} have the same stem: rename one, or distinguish "
                "images from masks by their endings in the config",
                doubled,
            )
        )
    return stems
