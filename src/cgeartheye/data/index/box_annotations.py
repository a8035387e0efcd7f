"""Whose annotations are whose: the files, or the entries of a file, of a part's images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cgeartheye.config import DetectionData
from cgeartheye.data.formats.annotation_xml import read_xml
from cgeartheye.data.formats.coco import CocoFile, read_coco
from cgeartheye.data.formats.geojson_boxes import (
    core_name,
    read_map_geojson,
    read_pixel_geojson,
)
from cgeartheye.data.formats.label_studio import is_label_studio, read_label_studio
from cgeartheye.data.formats.labelme import read_labelme
from cgeartheye.data.formats.voc_dota_yolo import (
    Faults,
    Id,
    Written,
    kind_of,
    lines_of,
    read_dota,
    read_names,
    read_yolo,
)
from cgeartheye.data.image_io import images_below, read_header
from cgeartheye.data.index.layouts import annotation_files
from cgeartheye.data.index.scene import Problem
from cgeartheye.data.index.starred import starred
from cgeartheye.data.index.stems import by_endings, match
from cgeartheye.utils.errors import UserError


@dataclass(frozen=True)
class AnnotatedImage:
    """An image's annotations before classes are known: the file, and its content."""

    where: Path
    objects: Written
    image_id: Id | None = None


@dataclass
class Reading:
    """Data gathered while the parts are read.

    Attributes:
        data: the section of the config.
        root: the folder that holds images and annotations.
        images: pattern of the images' folder.
        annotations: pattern of their annotations.
        notes: what was chosen that the config leaves open.
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
    notes: list[str] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    problems: list[Problem] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    categories: dict[str, Id] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)
    places: dict[str, set[str]] = field(default_factory=dict)
    coco: dict[Path, CocoFile] = field(default_factory=dict)

    @cached_property
    def stems(self) -> frozenset[str]:
        """The stems of the images of all parts."""
        folders = starred(self.root, self.images.replace("{part}", "*"))
        return frozenset(path.stem for _, folder in folders for path in images_below(folder))

    @cached_property
    def indexed(self) -> tuple[str, ...]:
        """The classes of YOLO's indices: named at the root, or where the labels are."""
        labels = starred(self.root, self.annotations.replace("{part}", self.data.train))
        folders = [folder for _, label in labels for folder in (label, label.parent)]
        return read_names([self.root, *folders, self.data.root]) or self.data.classes or ()


def read_annotations(
    reading: Reading, part: str, images: dict[str, str], setting: str
) -> dict[str, AnnotatedImage]:
    """Read the annotations of the images of a part.

    Args:
        reading: takes what is found besides, and the mistakes.
        part: its name.
        images: paths below the root, by what they have in common with their annotations.
        setting: field of the config that names the part, for messages.

    Returns:
        By path below the root.
    """
    index = by_endings(images)
    pattern = reading.annotations.replace("{part}", part)
    if pattern.lower().endswith((".json", ".geojson")):
        files = [path for _, path in starred(reading.root, pattern)]
        if len(files) > 1:
            found = ", ".join(path.name for path in files)
            reading.problems.append(
                Problem(
                    f"{reading.root} has several exports ({found}): name one in data.annotations"
                )
            )
            return {}
        return _from_coco(reading, (files or [reading.root / pattern])[0], images, index)
    return _from_folder(reading, pattern, images, index, setting)


def _from_coco(
    reading: Reading, path: Path, images: dict[str, str], index: dict[str, list[str]]
) -> dict[str, AnnotatedImage]:
    """Read the images that a file of all of them names."""
    if path not in reading.coco:
        file, oriented = CocoFile({}, {}, {}), reading.data.boxes == "oriented"
        try:
            if path.suffix.lower() == ".geojson":
                file = read_pixel_geojson(path, reading.faults)
            elif is_label_studio(path):
                file = read_label_studio(path, reading.stems, oriented, reading.faults)
            else:
                file = read_coco(path, oriented, reading.faults)
        except UserError as error:
            reading.problems.append(Problem(str(error)))
        reading.coco[path] = file
        reading.categories |= file.categories
    file = reading.coco[path]
    names = {f"{path}: the image '{file_name}'": file_name for file_name in file.images}
    found = {}
    for key, place in _owners(reading, names, images, index).items():
        file_name = names[place]
        found[images[key]] = AnnotatedImage(path, file.images[file_name], file.ids[file_name])
    reading.names |= dict.fromkeys(one.name for place in found.values() for _, one in place.objects)
    if "{part}" in reading.annotations:
        reading.unused += [name for name in images.values() if name not in found]
    return {name: found[name] for name in images.values() if name in found}


def _from_folder(
    reading: Reading,
    pattern: str,
    images: dict[str, str],
    index: dict[str, list[str]],
    setting: str,
) -> dict[str, AnnotatedImage]:
    """Read the files of a folder that have the stems of images."""
    files: dict[str, str] = {}
    folders = starred(reading.root, pattern)
    for stars, folder in folders:
        for path in annotation_files(folder):
            name = Path(*stars, path.relative_to(folder).with_suffix("")).as_posix()
            files[str(path)] = name
    if not folders:
        reading.problems.append(
            Problem(
                f"no annotations {reading.root / pattern}: correct {setting} or data.annotations"
            )
        )
        return {}
    if any(path.endswith(".geojson") for path in files):
        # SpaceNet's images and their outlines have a part of their stems in common.
        files = {path: core_name(name) for path, name in files.items()}
        index = by_endings({core_name(key): name for key, name in images.items()})
        cores = {core_name(key): key for key in images}
        index = {end: [cores[core] for core in found] for end, found in index.items()}
    of_image = _owners(reading, files, images, index)
    # Those of images first: there may be notes of other kinds beside them.
    kind = kind_of(map(Path, [*of_image.values(), *files]))
    if kind == "yolo" and not reading.indexed and any(_has_lines(Path(path)) for path in files):
        reading.problems.append(
            Problem(
                f"{reading.root / pattern} gives classes by index: name them, in their order, in "
                f"{reading.root / 'classes.txt'}, a line each, or in data.classes"
            )
        )
        return {}
    found = {}
    for key, image in images.items():
        if key in of_image:
            path = Path(of_image[key])
            objects = _read(reading, kind, path, image)
            found[image] = AnnotatedImage(path, objects)
            reading.names |= dict.fromkeys(one.name for _, one in objects)
        elif kind == "yolo":
            # YOLO's tools write no file for an image without objects.
            found[image] = AnnotatedImage(reading.root / pattern / f"{key}.txt", [])
        else:
            reading.faults.add(
                image,
                f"has no annotations in {reading.root / pattern}, a file with its stem: add one, "
                "an empty one if there is no object, or take the image out",
            )
    return found


def _owners(
    reading: Reading,
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


def _has_lines(path: Path) -> bool:
    return path.stat().st_size > 0 and any(map(str.strip, lines_of(path, Faults())))


def _read(reading: Reading, kind: str, path: Path, image: str) -> Written:
    oriented = reading.data.boxes == "oriented"
    if kind == "xml":
        return read_xml(path, reading.faults)
    if kind == "labelme":
        return read_labelme(path, oriented, reading.faults)
    if kind == "geojson":
        return read_map_geojson(path, reading.root / image, oriented, reading.faults)
    if kind == "dota":
        return read_dota(path, reading.faults)
    if path.is_file() and path.stat().st_size == 0:
        return []
    try:
        header = read_header(reading.root / image)
    except UserError as error:
        reading.problems.append(Problem(str(error)))
        return []
    size = header.width, header.height
    return read_yolo(path, size, reading.indexed, oriented, reading.faults)
