"""Image files that are damaged, found before anything is encoded."""

from pathlib import Path
from typing import Any

from cgeartheye.data.image_io import SUFFIXES, read_image, read_whole_header
from cgeartheye.tasks.data_identity import files_of
from cgeartheye.training import distributed
from cgeartheye.utils.errors import UserError

_NAMED = 20  # files that the message names


def refuse_broken(parts: Any) -> None:
    """Read the heads and the ends of all image files, and refuse those that are damaged there.

    A file without the end of its format is decoded to be sure: some have more bytes behind it.

    Args:
        parts: have `train`, `val` and perhaps `test`, data sets of images.

    Raises:
        UserError: files are damaged; as many as fit a sentence are named.
    """
    failure = None
    if distributed.is_main():
        try:
            _refuse(parts)
        except UserError as error:
            failure = error
    distributed.raise_from_rank0(failure)


def _refuse(parts: Any) -> None:
    chips = [getattr(parts, name, None) for name in ("train", "val", "test")]
    paths = dict.fromkeys(
        path
        for one in chips
        if one is not None
        for index in range(len(one.names))
        for path in files_of(one, index)
        if path.suffix.lower() in SUFFIXES  # masks may be shapes in JSON
    )
    broken = {path: sentence for path in paths if (sentence := _fault(path))}
    if len(broken) == 1:
        raise UserError(*broken.values())
    if broken:
        named = ", ".join(map(str, list(broken)[:_NAMED]))
        rest = f" and {len(broken) - _NAMED:,} more" if len(broken) > _NAMED else ""
        raise UserError(
            f"{len(broken):,} of {len(paths):,} image files are truncated or damaged, replace them "
            f"or take them out of the data: {named}{rest}"
        )


def _fault(path: Path) -> str | None:
    """Return what is wrong with a file, as far as its head and its end show it."""
    try:
        read_whole_header(path)
    except UserError:
        try:
            read_image(path)
        except UserError as error:
            return str(error)
    return None
