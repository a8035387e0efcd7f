"""Change data: the images of two dates and the masks of each part, ready for a loader."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cgeartheye.config import ChangeData
from cgeartheye.data.datasets.segmentation import MaskedChips
from cgeartheye.data.formats.masks import Legend
from cgeartheye.data.image_io import read_image
from cgeartheye.data.index.scene import refuse
from cgeartheye.data.index.segmentation import Sample, survey_pairs
from cgeartheye.utils.console import log_info
from cgeartheye.utils.errors import UserError


class ChangeChips(MaskedChips):
    """See `MaskedChips`; a sample names its images `image1` and `image2`."""

    def __init__(self, root: Path, samples: list[Sample], legend: Legend, data: ChangeData) -> None:
        super().__init__(root, samples, legend, data, data.rotation)

    def load_image_stack(self, index: int) -> Tensor:
        """Return both dates as they are on disk: uint8 `[6, H, W]`."""
        before, after = self.image_paths[index]
        return read_pair(before, after, self.bands, self.stretch)

    def name_images(self, image_stack: Tensor) -> dict[str, Tensor]:
        """Return the images of both dates."""
        return {"image1": image_stack[:3], "image2": image_stack[3:]}


@dataclass(frozen=True)
class ChangeParts:
    """The parts of a data set; `test` is `val` itself where the config names no other."""

    legend: Legend
    train: ChangeChips
    val: ChangeChips
    test: ChangeChips


def load_change_parts(data: ChangeData) -> ChangeParts:
    """Find the pairs and masks that a config describes.

    Raises:
        UserError: the first thing that is wrong with them: a missing root or folder, an image
            without a mask or without its other date, an empty part.
    """
    found = survey_pairs(data)
    refuse(found.problems)
    for note in found.notes:
        log_info(f"data: {note}")
    chips = {
        part: ChangeChips(found.root, samples, found.legend, data)
        for part, samples in found.parts.items()
    }
    return ChangeParts(found.legend, chips["train"], chips["val"], chips.get("test", chips["val"]))


def read_pair(
    before: Path, after: Path, bands: tuple[int, int, int], stretch: tuple[float, float] | None
) -> Tensor:
    """Read the images of two dates as one, uint8 `[6, H, W]`; see `read_image`.

    Args:
        before: image of the first date.
        after: image of the second date.
        bands: counted from 1, that are red, green and blue.
        stretch: values of more than 8 bits that become 0 and 255; none: percentiles.

    Raises:
        UserError: a file cannot be read, or they differ in size.
    """
    images = [read_image(path, bands, stretch) for path in (before, after)]
    refuse_other_size(str(before), str(after), images)
    return torch.cat(images)


def refuse_other_size(before: str, after: str, images: Sequence[Tensor]) -> None:
    """Make sure that the images of two dates have one size.

    Args:
        before: name of the first, for the message.
        after: name of the second.
        images: both, `[3, H, W]`.

    Raises:
        UserError: they have not.
    """
    (height, width), (other_height, other_width) = (image.shape[1:] for image in images)
    if (height, width) != (other_height, other_width):
        raise UserError(
            f"{before} has {width} x {height} pixels, but its other date {after} has "
            f"{other_width} x {other_height}: bring both to the same area and size"
        )
