"""Which image a name means: that of an annotation file, in a list, or in a COCO file."""

import os
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from cgeartheye.data.image_io import SUFFIXES, files_below


def by_stem(
    root: Path,
    folders: Sequence[tuple[list[str], Path]],
    ending: str = "",
    suffixes: Set[str] = SUFFIXES,
) -> tuple[dict[str, str], list[str]]:
    """Find the files of some folders by what images and their annotations have in common.

    Args:
        root: of the data.
        folders: what `*` stood for in the name of each, and the folder.
        ending: of the stems that count.
        suffixes: of the files: those of images, or others.

    Returns:
        Paths below the root, by what `*` stood for, subfolder, and stem without `ending`; and
        pairs of those that have the same, in words.
    """
    found: dict[str, str] = {}
    doubled = []
    for stars, folder in folders:
        for path in files_below(folder, suffixes):
            if path.stem.endswith(ending):
                below = path.relative_to(folder).parent
                stem = Path(*stars, below, path.stem.removesuffix(ending)).as_posix()
                name = Path(os.path.relpath(path, root)).as_posix()
                if stem in found:
                    doubled.append(f"{found[stem]} and {name}")
                found[stem] = name
    return found, doubled


def by_endings(images: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the keys of images by each ending of theirs: `a/b/c`, `b/c` and `c`.

    Endings of their folders, `a/b/` and `b/`, are there too, without keys.
    """
    index: dict[str, list[str]] = {}
    for key in images:
        parts = key.split("/")
        for first in range(len(parts)):
            index.setdefault("/".join(parts[first:]), []).append(key)
            index.setdefault("/".join([*parts[first:-1], ""]), [])
    return index


def match(index: Mapping[str, list[str]], name: str) -> list[str]:
    """Return the keys of the images whose ending is that of a name, the longest that fits.

    A folder that no image lies in may be left out of the name, another one not: `b/001` is not
    `a/001` where there is `b/002`.
    """
    suffix = Path(name).suffix
    if suffix.lower() in SUFFIXES:
        name = name.removesuffix(suffix)
    parts = name.replace("\\", "/").split("/")
    for first in range(len(parts)):
        keys = index.get("/".join(parts[first:]))
        if keys or "/".join([*parts[first:-1], ""]) in index:
            return keys or []
    return []
