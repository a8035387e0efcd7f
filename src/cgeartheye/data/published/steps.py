"""Steps of a conversion: files that are made, or linked, one whole file at a time."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cgeartheye.utils.io import replacing, write_image


@dataclass(frozen=True)
class Step:
    """A piece of a conversion that depends on no other.

    Attributes:
        outputs: the files that it makes, below the new folder, with slashes.
        make: makes those that are not there, in the new folder; returns what is worth a warning.
        summary: whether it depends on which files the others make, as lists do.
    """

    outputs: tuple[str, ...]
    make: Callable[[Path], str | None]
    summary: bool = False


def link(source: Path, name: str) -> Step:
    """Return the step that brings a file as it is to another place.

    It becomes a hard link, which takes no room; on another disk it is copied.

    Args:
        source: the file.
        name: below the new folder.
    """

    def make(out: Path) -> None:
        target = out / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source.resolve(), target)
        except FileExistsError:
            return
        except OSError:
            with replacing(target) as temporary:
                shutil.copyfile(source, temporary)

    return Step((name,), make)


def write_png(path: Path, image: Image.Image) -> None:
    """Write a PNG whole or not at all, unless it is there."""
    if not path.exists():
        write_image(path, image, compress_level=1)  # twice as fast as 6, and a tenth larger
