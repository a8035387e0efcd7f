"""Which image a name means: that of an annotation file, in a list, or in a COCO file."""

from collections.abc import Mapping
from pathlib import Path

from cgeartheye.data.images import SUFFIXES


def by_endings(images: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the keys of images by each ending of theirs: `a/b/c`, `b/c` and `c`."""
    index: dict[str, list[str]] = {}
    for key in images:
        parts = key.split("/")
        for first in range(len(parts)):
            index.setdefault("/".join(parts[first:]), []).append(key)
    return index


def match(index: Mapping[str, list[str]], name: str) -> list[str]:
    """Return the keys of the images whose ending is that of a name, the longest that fits."""
    suffix = Path(name).suffix
    if suffix.lower() in SUFFIXES:
        name = name.removesuffix(suffix)
    parts = name.replace("\\", "/").split("/")
    for first in range(len(parts)):
        keys = index.get("/".join(parts[first:]))
        if keys:
            return keys
    return []
