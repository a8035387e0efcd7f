"""Class folders of scenes, and lists of their parts."""

import re
from functools import partial
from pathlib import Path

from cgeartheye.config import SceneData
from cgeartheye.data.image_io import files_below, images_below
from cgeartheye.data.index.scene import split
from cgeartheye.data.published.data_set import PublishedDataSet
from cgeartheye.data.published.steps import Step, link
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_text

SEED = 0
_TRAIN_FRACTION = 0.2  # the usual protocol of AID and RESISC45


def scenes(known: PublishedDataSet, source: Path) -> list[Step]:
    """Return the steps that bring class folders together, and their lists where there are such.

    Args:
        known: the data set.
        source: folder of the download; class folders may be at any depth, in any spelling.
    """
    assert isinstance(known.data, SceneData)
    plain = {_plain(name): name for name in known.classes}
    by_class: dict[str, list[str]] = {}
    steps = []
    for image in images_below(source):
        name = plain.get(_plain(image.parent.name))
        if name:
            by_class.setdefault(name, []).append(f"{name}/{image.name}")
            steps.append(link(image, by_class[name][-1]))
    lists = {"train": known.data.train, "val": known.data.val}
    if not steps or None in lists.values():
        return steps
    files = {path.name: path for path in files_below(source, {".txt"})}
    texts = {part: files[name] for part, name in lists.items() if name in files}
    halves, why = split(by_class, _TRAIN_FRACTION, SEED), "is drawn by a seed"
    if texts:  # an image is never in two parts
        taken = {image for text in texts.values() for image in _listed(text)}
        rest = {name: [i for i in images if i not in taken] for name, images in by_class.items()}
        halves, why = dict.fromkeys(lists, rest), "has all images that the other list has not"
    for part, name in lists.items():
        assert name
        if part in texts:
            steps.append(link(texts[part], name))
            continue
        lines = [
            f"{image} {label}"
            for label, of_class in enumerate(known.classes)
            for image in halves[part].get(of_class, [])
        ]
        warning = f"{name} {why}, not the published list: put that into the download for it"
        make = partial(_write, name, "\n".join(lines) + "\n", warning)
        steps.append(Step((name,), make, tuple(texts.values()), summary=True))
    return steps


def _listed(text: Path) -> list[str]:
    """Return the images of a list, lines of a path and a label."""
    try:
        lines = text.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{text} is no text in UTF-8: download it again") from error
    return [line.rsplit(maxsplit=1)[0] for line in lines if line.strip()]


def _write(name: str, text: str, warning: str, out: Path) -> str:
    write_text(out / name, text)
    return warning


def _plain(name: str) -> str:
    """Return what spellings of a class have in common."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())
