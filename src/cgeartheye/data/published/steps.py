"""Steps of a conversion: files that are made, or linked, one whole file at a time."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cgeartheye.utils.io import replacing, write_image

_TICK = 2  # seconds by which some file systems round times


@dataclass(frozen=True)
class Step:
    """A piece of a conversion that depends on no other.

    Attributes:
        outputs: the files that it makes, below the new folder, with slashes.
        make: makes those that are not there, in the new folder; returns what is worth a warning.
        sources: files of the download: what is linked, one for each output, or what a summary is
            made of.
        summary: whether it depends on which files the others make, as lists do.
    """

    outputs: tuple[str, ...]
    make: Callable[[Path], str | None]
    sources: tuple[Path, ...] = ()
    summary: bool = False

    def is_done(self, out: Path) -> bool:
        """Whether all outputs are in the new folder, and what is linked is as in the download."""
        paths = [out / name for name in self.outputs]
        if self.summary or not self.sources:
            return all(path.is_file() for path in paths)
        return all(map(_is_copy, paths, self.sources))


def link(source: Path, name: str) -> Step:
    """Return the step that brings a file as it is to another place.

    It becomes a hard link, which takes no room; on another disk it is copied.

    Args:
        source: the file.
        name: below the new folder.
    """

    def make(out: Path) -> None:
        target = out / name
        target.unlink(missing_ok=True)  # of an earlier download
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source.resolve(), target)
        except OSError:
            with replacing(target) as temporary:
                shutil.copy2(source, temporary)

    return Step((name,), make, (source,))


def _is_copy(path: Path, source: Path) -> bool:
    if not path.is_file():
        return False
    one, other = path.stat(), source.stat()
    return one.st_size == other.st_size and abs(one.st_mtime - other.st_mtime) <= _TICK


def write_png(path: Path, image: Image.Image) -> None:
    """Write a PNG whole or not at all, unless it is there."""
    if not path.exists():
        write_image(path, image, compress_level=1)  # twice as fast as 6, and a tenth larger
