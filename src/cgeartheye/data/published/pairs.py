"""Pairs of dates: the folders of a download get the names that configs have."""

import os
from functools import partial
from pathlib import Path

from cgeartheye.data.image_io import images_below
from cgeartheye.data.published.data_set import PublishedDataSet
from cgeartheye.data.published.steps import Step, link
from cgeartheye.utils.errors import UserError

_PARTS = ("train", "val", "test")
_OURS = ("Image1", "Image2", "Label")


def _pairs(folders: tuple[str, str, str], known: PublishedDataSet, source: Path) -> list[Step]:
    """Return the steps that bring two dates and masks of every part to their places.

    Args:
        folders: of the first date, the second, and the masks, as they are published.
        known: the data set.
        source: folder of the download; the parts may be at any depth.
    """
    roots = [
        Path(place)
        for place, inside, _ in os.walk(source)
        if "train" in inside and all((Path(place, "train", name)).is_dir() for name in folders)
    ]
    if len(roots) > 1:  # CDD's archive has drawn images beside the real ones
        roots = [root for root in roots if root.parts[-2:] == ("Real", "subset")] or roots
    if len(roots) > 1:
        raise UserError(
            f"{known.name} is in {roots[0]} and in {roots[1]}: give one of these folders"
        )
    return [
        link(image, f"{part}/{ours}/{image.name}")
        for root in roots
        for part in _PARTS
        for theirs, ours in zip(folders, _OURS, strict=True)
        for image in images_below(root / part / theirs)
    ]


levir_cd = partial(_pairs, ("A", "B", "label"))
sysu_cd = partial(_pairs, ("time1", "time2", "label"))
cdd = partial(_pairs, ("A", "B", "OUT"))
