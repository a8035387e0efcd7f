"""Identity of a run's data, so that it never goes on with other data than it began with."""

import hashlib
import json
from pathlib import Path
from typing import Any

from cgeartheye.data import BoxChips, MaskedChips, SceneChips
from cgeartheye.data.index.scene import more
from cgeartheye.training import distributed
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import sample, write_json

FILE = "data.json"

Identity = dict[str, dict[str, str]]
"""A digest of each image and its label, mask or boxes, by part and name."""


def keep_identity(folder: Path, parts: Any, resume: bool) -> None:
    """Note what a run learns from, or make sure that it is still the same.

    Size and three pieces of each file are looked at, so that copying a data set, which changes the
    times of its files, is no change, and 20,000 chips take a second.

    Args:
        folder: of the run.
        parts: have `train` and `val`, data sets of images.
        resume: whether the run goes on.

    Raises:
        UserError: a file of the data was changed, added or removed since the run began.
    """
    failure = None
    if distributed.is_main():
        try:
            _keep(folder / FILE, parts, resume)
        except UserError as error:
            failure = error
    distributed.raise_from_rank0(failure)


def _keep(path: Path, parts: Any, resume: bool) -> None:
    found: Identity = {part: identity(getattr(parts, part)) for part in ("train", "val")}
    before = _read(path) if resume else None
    if before is None:
        write_json(path, found, indent=0)
        return
    changed = [
        name
        for part in found
        for name in dict.fromkeys([*before.get(part, {}), *found[part]])
        if before.get(part, {}).get(name) != found[part].get(name)
    ]
    if changed:
        raise UserError(
            f"{changed[0]}{more(changed)} changed since this run began, in pixels or annotations: "
            "put back what it began with, start anew with another --work-dir, or delete "
            f"{path} to go on with the data as they are now"
        )


def _read(path: Path) -> Identity | None:
    """Return what was noted; none: nothing was, as in runs of earlier versions."""
    try:
        before = json.loads(path.read_bytes())
        assert all(isinstance(before[part], dict) for part in ("train", "val"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AssertionError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged, so it cannot be checked whether the data have changed: delete it "
            "to continue anyway"
        ) from error
    checked: Identity = before
    return checked


def identity(chips: SceneChips | MaskedChips | BoxChips) -> dict[str, str]:
    """Return a digest of each image with its label, mask or boxes, by name."""
    found = {}
    for index, name in enumerate(chips.names):
        digest = hashlib.blake2b(digest_size=12)
        if isinstance(chips, SceneChips):
            digest.update(str(int(chips.labels[index])).encode())
        if isinstance(chips, BoxChips):
            for tensor in chips.load_boxes(index):
                digest.update(tensor.numpy().tobytes())
        for path in files_of(chips, index):
            digest.update(sample(path))
        found[name] = digest.hexdigest()
    return found


def files_of(chips: SceneChips | MaskedChips | BoxChips, index: int) -> list[Path]:
    """Return the files of a sample: its image, or images and mask."""
    if isinstance(chips, MaskedChips):
        return [*chips.image_paths[index], chips.mask_paths[index]]
    return [chips.paths[index]]
