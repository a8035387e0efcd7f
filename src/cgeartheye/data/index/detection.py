"""Which images and boxes a config describes, and what is wrong with how they lie.

As in `scene.py`, problems are collected, and no pixel is read. An image and its annotations have
the same stem; where folders below theirs tell equal stems apart, these are the same too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from cgeartheye.config import DetectionData
from cgeartheye.data.formats.coco import CocoFile, read_coco
from cgeartheye.data.formats.voc_dota_yolo import (
    NAMES,
    Faults,
    Id,
    Objects,
    Written,
    gather,
    kind_of,
    read_dota,
    read_names,
    read_xml,
    read_yolo,
    spellings,
)
from cgeartheye.data.image_io import files_below, images_below, read_header
from cgeartheye.data.index.catalog import BOXED, find_root
from cgeartheye.data.index.scene import Problem, more, split
from cgeartheye.data.index.segmentation import starred
from cgeartheye.data.index.stems import by_endings, by_stem, match
from cgeartheye.utils.errors import UserError, nearest

# Where images are in the wild: of most; of YOLO's exports and DOTA; of DIOR as it is published.
_IMAGES = ("images/{part}", "{part}/images", "JPEGImages-{part}")
_LISTED = ("JPEGImages", "images")  # of VOC and others, whose parts are lists
# Where annotations are: COCO's, then folders.
_ORIENTED = ("Annotations/Oriented Bounding Boxes", "labelTxt/{part}", "{part}/labelTxt")
_PLACES = (
    *(f"{folder}/{name}{{part}}.json" for folder in ("Annotations", "annotations")
      for name in ("", "instances_")),
    "labels/{part}",
    "{part}/labels",
    "Annotations/Horizontal Bounding Boxes",
    *_ORIENTED,
    "Annotations/{part}",
    "annotations/{part}",
    "Annotations",
    "annotations",
    "labels",
    "labelTxt",
)  # fmt: skip
_FILES = frozenset({".xml", ".txt"})


@dataclass(frozen=True)
class BoxSurvey:
    """What was found.

    Attributes:
        root: the folder that holds images and annotations.
        classes: names by index.
        parts: the images of `train`, `val` and, where it is another part, `test`, as paths below
            the root, and their objects.
        unused: images that a part's COCO file does not name.
        category_ids: of the classes in the COCO files, by name.
        problems: what keeps the data from being trained on.
    """

    root: Path
    classes: tuple[str, ...]
    parts: dict[str, dict[str, Objects]]
    unused: list[str]
    category_ids: dict[str, Id]
    problems: list[Problem]


@dataclass(frozen=True)
class _Place:
    """An image's annotations before classes are known: the file, and what it says."""

    where: Path
    objects: Written
    image_id: Id | None = None


@dataclass
class _Reading:
    """What is gathered while the parts are read.

    Attributes:
        data: the section of the config.
        root: the folder that holds images and annotations.
        images: pattern of the images' folder.
        annotations: pattern of their annotations.
        faults: mistakes in files.
        problems: others.
        unused: images that a COCO file does not name.
        categories: those of the COCO files, in order, and their ids.
        names: classes that annotations name, in order.
        places: annotation files, or COCO files' images, and the images that they belong to.
        coco: the files that were read, by path.
    """

    data: DetectionData
    root: Path
    images: str
    annotations: str
    faults: Faults = field(default_factory=Faults)
    problems: list[Problem] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    categories: dict[str, Id] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)
    places: dict[str, set[str]] = field(default_factory=dict)
    coco: dict[Path, CocoFile] = field(default_factory=dict)

    @cached_property
    def indexed(self) -> tuple[str, ...]:
        """The classes of YOLO's indices: named at the root, or where the labels are."""
        labels = starred(self.root, self.annotations.replace("{part}", self.data.train))
        folders = [folder for _, label in labels for folder in (label, label.parent)]
        return read_names([self.root, *folders]) or self.data.classes or ()


def survey_boxes(data: DetectionData) -> BoxSurvey:
    """Find the images and boxes that a config describes, going on past mistakes.

    Raises:
        UserError: there is no root, or nothing that could be annotations.
    """
    root = find_root(data.root, BOXED[data.catalog].folders if data.catalog else ())
    images = data.images or _find_images(root, data)
    annotations = data.annotations or _find_annotations(root, data)
    reading = _Reading(data, root, images, annotations)
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
        classes[labels[name]]: number
        for name, number in reading.categories.items()
        if name in labels
    }
    return BoxSurvey(root, classes, labeled, reading.unused, ids, problems)


def _find_images(root: Path, data: DetectionData) -> str:
    """Return the pattern of the first folder of the training part; else of where it should be."""
    known = (BOXED[data.catalog].images,) if data.catalog else ()
    patterns: tuple[str, ...] = (*known, *_IMAGES, *(_LISTED if data.lists else ()))
    there = (p for p in patterns if (root / p.replace("{part}", data.train)).is_dir())
    return next(there, patterns[0])


def _find_annotations(root: Path, data: DetectionData) -> str:
    """Return the pattern of the first place that has annotations of the training part."""
    known = BOXED[data.catalog].annotations if data.catalog else ()
    first = _ORIENTED if data.boxes == "oriented" else ()
    patterns: tuple[str, ...] = (*known, *first, *_PLACES)
    for pattern in patterns:
        for place in (folder for _, folder in starred(root, pattern.replace("{part}", data.train))):
            if place.is_file() or (place.is_dir() and _has_annotations(place)):
                return pattern
    raise UserError(
        f"no annotations of the part '{data.train}' in {root}: name them in data.annotations, as "
        "in 'Annotations/{part}.json' or 'labels/{part}', or correct data.train"
    )


def _has_annotations(folder: Path) -> bool:
    return any(path.parent == folder for path in _files_of(folder))


def _files_of(folder: Path) -> list[Path]:
    """Return the annotation files in a folder and its subfolders."""
    return [path for path in files_below(folder, _FILES) if path.name not in NAMES]


def _read_part(reading: _Reading, part: str | None, setting: str) -> dict[str, _Place]:
    """Find the images of a part and what is said of each."""
    assert part is not None
    images = _listed(reading, part, _images_of(reading, part, setting))
    index = by_endings(images)
    pattern = reading.annotations.replace("{part}", part)
    if pattern.lower().endswith(".json"):
        return _from_coco(reading, reading.root / pattern, images, index)
    return _from_folder(reading, pattern, images, index, setting)


def _images_of(reading: _Reading, part: str, setting: str) -> dict[str, str]:
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
                f"{doubled[0]}{more(doubled)} have the same stem, so annotations cannot tell them "
                "apart: rename one",
                doubled,
            )
        )
    return found


def _listed(reading: _Reading, part: str, images: dict[str, str]) -> dict[str, str]:
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


def _from_coco(
    reading: _Reading, path: Path, images: dict[str, str], index: dict[str, list[str]]
) -> dict[str, _Place]:
    """Read the images that a COCO file names."""
    if path not in reading.coco:
        file = CocoFile({}, {}, {})
        try:
            file = read_coco(path, reading.data.boxes == "oriented", reading.faults)
        except UserError as error:
            reading.problems.append(Problem(str(error)))
        reading.coco[path] = file
        reading.categories |= file.categories
    file = reading.coco[path]
    names = {f"{path}: the image '{file_name}'": file_name for file_name in file.images}
    found = {}
    for key, place in _owners(reading, names, images, index).items():
        file_name = names[place]
        found[images[key]] = _Place(path, file.images[file_name], file.ids[file_name])
    reading.names |= dict.fromkeys(one.name for place in found.values() for _, one in place.objects)
    if "{part}" in reading.annotations:
        reading.unused += [name for name in images.values() if name not in found]
    return {name: found[name] for name in images.values() if name in found}


def _from_folder(
    reading: _Reading,
    pattern: str,
    images: dict[str, str],
    index: dict[str, list[str]],
    setting: str,
) -> dict[str, _Place]:
    """Read the files of a folder that have the stems of images."""
    files: dict[str, str] = {}
    folders = starred(reading.root, pattern)
    for stars, folder in folders:
        for path in _files_of(folder):
            name = Path(*stars, path.relative_to(folder).with_suffix("")).as_posix()
            files[str(path)] = name
    if not folders:
        reading.problems.append(
            Problem(
                f"no annotations {reading.root / pattern}: correct {setting} or data.annotations"
            )
        )
        return {}
    of_image = _owners(reading, files, images, index)
    # Those of images first: there may be notes of other kinds beside them.
    kind = kind_of(map(Path, [*of_image.values(), *files]))
    if kind == "yolo" and files and not reading.indexed:
        reading.problems.append(
            Problem(
                f"{reading.root / pattern} says classes by index: name them, in their order, in "
                f"{reading.root / 'classes.txt'}, a line each, or in data.classes"
            )
        )
        return {}
    found = {}
    for key, image in images.items():
        if key in of_image:
            path = Path(of_image[key])
            objects = _read(reading, kind, path, image)
            found[image] = _Place(path, objects)
            reading.names |= dict.fromkeys(one.name for _, one in objects)
        elif kind == "yolo":
            # YOLO's tools write no file for an image without objects.
            found[image] = _Place(reading.root / pattern / f"{key}.txt", [])
        else:
            reading.faults.add(
                image,
                f"has no annotations in {reading.root / pattern}, a file with its stem: add one, "
                "an empty one if there is no object, or take the image out",
            )
    return found


def _owners(
    reading: _Reading,
    names: Mapping[str, str],
    images: dict[str, str],
    index: dict[str, list[str]],
) -> dict[str, str]:
    """Return where the annotations of each image of a part are, in words, by the image's key.

    Args:
        reading: takes the mistakes.
        names: how annotations name their image, by where they are.
        images: of the part.
        index: of their keys.
    """
    found: dict[str, str] = {}
    for place, name in names.items():
        keys = match(index, name)
        owners = reading.places.setdefault(place, set())
        owners |= {images[key] for key in keys}
        if len(owners) > 1:
            reading.faults.add(
                f"{place} (for {' and '.join(sorted(owners))})",
                "belongs to two images with the same stem: rename one of them",
            )
        for key in keys:
            if key in found:
                reading.faults.add(
                    f"{found[key]} and {place}",
                    f"are both about {images[key]}: restore the other's image or take one out",
                )
            found[key] = place
    return found


def _read(reading: _Reading, kind: str, path: Path, image: str) -> Written:
    if kind == "xml":
        return read_xml(path, reading.faults)
    if kind == "dota":
        return read_dota(path, reading.faults)
    if path.is_file() and path.stat().st_size == 0:
        return []
    try:
        header = read_header(reading.root / image)
    except UserError as error:
        reading.problems.append(Problem(str(error)))
        return []
    return read_yolo(path, (header.width, header.height), reading.indexed, reading.faults)


def _find_orphans(reading: _Reading) -> None:
    """Find annotations of images that are not there.

    Those of parts that the config does not use are not wrong.
    """
    alone = [place for place, owners in reading.places.items() if not owners]
    if not alone:
        return
    everywhere = reading.images.replace("{part}", "*")
    stems = {
        path.stem
        for _, folder in starred(reading.root, everywhere)
        for path in images_below(folder)
    }
    for place in alone:
        name = place.rpartition(": the image '")[2].rstrip("'").replace("\\", "/")
        if Path(name).stem not in stems:
            reading.faults.add(
                place,
                f"has no image in {reading.root / everywhere}: restore the image, or take its "
                "annotations out",
            )


def _classes(reading: _Reading) -> tuple[str, ...]:
    """Return the names of the classes by index."""
    data = reading.data
    if data.classes:
        return data.classes
    if data.catalog:
        return BOXED[data.catalog].classes
    if reading.categories:
        return tuple(reading.categories)
    if reading.indexed:
        return reading.indexed
    found = tuple(sorted(reading.names))
    if found:
        sentence = (
            f"{reading.root / reading.annotations} does not list its classes: name them in "
            f"data.classes, in the order of their indices; found are {list(found)}"
        )
        reading.problems.insert(0, Problem(sentence))
    return found
