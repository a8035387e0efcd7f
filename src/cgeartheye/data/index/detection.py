"""Which images and boxes a config describes, and what is wrong with their layout.

As in `scene.py`, problems are collected, and no pixel is read. An image and its annotations have
the same stem; where subfolders distinguish equal stems, these are the same too.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from cgeartheye.config import DetectionData
from cgeartheye.data.formats.coco import LABELME_MARKS
from cgeartheye.data.formats.voc_dota_yolo import (
    Id,
    Objects,
    gather,
    label_of,
    spellings,
)
from cgeartheye.data.index.box_annotations import AnnotatedImage, Reading, read_annotations
from cgeartheye.data.index.catalog import BOXED, find_root
from cgeartheye.data.index.layouts import find_layout
from cgeartheye.data.index.scene import Problem, more, split
from cgeartheye.data.index.starred import starred
from cgeartheye.data.index.stems import by_endings, by_stem, match
from cgeartheye.utils.errors import nearest


@dataclass(frozen=True)
class BoxSurvey:
    """Result of a survey of boxes.

    Attributes:
        root: the folder that holds images and annotations.
        classes: names by index.
        parts: the images of `train`, `val` and, where it is another part, `test`, as paths below
            the root, and their objects.
        unused: images that a part's COCO file does not name.
        category_ids: of the classes in the COCO files, by name.
        problems: what keeps the data from being trained on.
        notes: what was chosen that the config leaves open, in sentences.
    """

    root: Path
    classes: tuple[str, ...]
    parts: dict[str, dict[str, Objects]]
    unused: list[str]
    category_ids: dict[str, Id]
    problems: list[Problem]
    notes: list[str]


def survey_boxes(data: DetectionData) -> BoxSurvey:
    """Find the images and boxes that a config describes, going on past mistakes.

    Raises:
        UserError: there is no root, or nothing that could be annotations.
    """
    root = find_root(data.root, BOXED[data.catalog].folders if data.catalog else ())
    layout = find_layout(root, data)
    root, data = layout.root, layout.data
    images, annotations = data.images or "", data.annotations or ""
    reading = Reading(data, root, images, annotations, notes=layout.notes)
    parts = {}
    if any("{part}" in pattern for pattern in (images, annotations, data.lists or "")):
        parts["train"] = _read_part(reading, data.train, "data.train")
        parts["val"] = _read_part(reading, data.val, "data.val")
        # A test part that is the validation part again would look like a leak.
        if data.test not in (None, data.val):
            parts["test"] = _read_part(reading, data.test, "data.test")
    else:
        whole = _read_part(reading, "", "data.images")
        halves = split({"": list(whole)}, data.train_fraction, data.split_seed)
        for part, half in halves.items():
            parts[part] = {name: whole[name] for name in half[""]}
    if not data.lists:
        _find_orphans(reading)
    classes = _classes(reading)
    labels = spellings(classes)
    labeled = {
        part: {
            name: replace(
                gather(place.objects, labels, classes, place.where, reading.faults),
                image_id=place.image_id,
            )
            for name, place in found.items()
        }
        for part, found in parts.items()
    }
    empty = [
        Problem(f"the part '{part}' of {root} has no annotated image: give it one")
        for part, found in parts.items()
        if not found
    ]
    problems = [*reading.problems, *reading.faults.problems(), *empty]
    ids = {
        classes[label]: number
        for name, number in reading.categories.items()
        if (label := label_of(name, labels)) is not None
    }
    return BoxSurvey(root, classes, labeled, reading.unused, ids, problems, reading.notes)


def _read_part(reading: Reading, part: str | None, setting: str) -> dict[str, AnnotatedImage]:
    """Find the images of a part and the annotations of each."""
    assert part is not None
    images = _listed(reading, part, _images_of(reading, part, setting))
    return read_annotations(reading, part, images, setting)


def _images_of(reading: Reading, part: str, setting: str) -> dict[str, str]:
    """Return the images of a part by what they have in common with their annotations.

    Returns:
        Path below the root, by what `*` stood for, subfolder and stem.
    """
    root, pattern = reading.root, reading.images.replace("{part}", part)
    folders = starred(root, pattern)
    if not folders:
        beside = (root / pattern).parent
        names = [path.name for path in beside.iterdir()] if beside.is_dir() else []
        hint = nearest(Path(pattern).name, names)
        reading.problems.append(
            Problem(f"no folder {root / pattern}{hint}: correct {setting} or data.images")
        )
    found, doubled = by_stem(root, folders)
    if doubled:
        reading.problems.append(
            Problem(
                f"{doubled[0]}{more(doubled)} have the same stem, so annotations cannot be "
                "assigned: rename one",
                doubled,
            )
        )
    return found


def _listed(reading: Reading, part: str, images: dict[str, str]) -> dict[str, str]:
    """Return the images that the part's list names; all of them where there is no list."""
    if not reading.data.lists:
        return images
    path = reading.root / reading.data.lists.replace("{part}", part)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        reading.problems.append(
            Problem(f"no list {path}{nearest(path.name, beside)}: correct data.lists or the part")
        )
        return {}
    index = by_endings(images)
    chosen = {}
    for number, line in enumerate(lines, start=1):
        stem = line.split("\t")[0].strip()
        if stem:
            keys = match(index, stem)
            if len(keys) == 1:
                chosen[keys[0]] = images[keys[0]]
            else:
                kind = "stands for several images" if keys else "is no image"
                reading.faults.add(
                    f"{path}:{number}: '{stem}'",
                    f"{kind} in {reading.root / reading.images}: restore the image, correct the "
                    "line or take it out",
                )
    return chosen


def _find_orphans(reading: Reading) -> None:
    """Find annotations of images that are not there.

    Those of parts that the config does not use are not wrong.
    """
    alone = [place for place, owners in reading.places.items() if not owners]
    if not alone:
        return
    everywhere = reading.images.replace("{part}", "*")
    for place in alone:
        name = place.rpartition(": the image '")[2].rstrip("'").replace("\\", "/")
        if Path(name).stem not in reading.stems:
            reading.faults.add(
                place,
                f"has no image in {reading.root / everywhere}: restore the image, or take its "
                "annotations out",
            )


def _classes(reading: Reading) -> tuple[str, ...]:
    """Return the names of the classes by index."""
    data = reading.data
    if data.classes:
        return data.classes
    if data.catalog:
        return BOXED[data.catalog].classes
    if reading.categories:
        return tuple(reading.categories)
    if reading.indexed:
        # Their order is for YOLO's indices, which are names by now.
        return tuple(name for name in reading.indexed if name not in LABELME_MARKS)
    found = tuple(sorted(reading.names))
    if found:
        reading.notes.append(
            f"the classes are those that the annotations name, by letter: {', '.join(found)}; "
            "data.classes gives them another order, or leaves mistakes out"
        )
    return found
