"""Boxes of a download: XML and text become COCO files."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cgeartheye.data.formats.annotation_xml import read_xml
from cgeartheye.data.formats.voc_dota_yolo import (
    Annotation,
    Faults,
    Written,
    corners_of_sides,
    gather,
    lines_of,
    spellings,
)
from cgeartheye.data.image_io import files_below, images_below, read_header
from cgeartheye.data.index.scene import split
from cgeartheye.data.published.data_set import PublishedDataSet
from cgeartheye.data.published.scenes import SEED
from cgeartheye.data.published.steps import Step, link
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import write_json

_LAST_OF_TRAINVAL = 11_725  # of DIOR's numbers, which are its names
_HORIZONTAL, _ORIENTED = "horizontal bounding boxes", "oriented bounding boxes"


def dior(known: PublishedDataSet, source: Path) -> list[Step]:
    """Return the steps that divide DIOR's images, and make a COCO file of each part's XML.

    Args:
        known: the data set.
        source: folder of the download.
    """
    images, annotations = _dior_files(source, _HORIZONTAL)
    parts: dict[str, dict[str, Path]] = {}
    for stem, path in images.items():
        parts.setdefault(_dior_part(stem), {})[stem] = path
    steps = [link(path, _dior_image(path)) for path in images.values()]
    for part, of_part in parts.items():
        name = f"Annotations/{part}.json"
        steps.append(_coco(known.classes, of_part, annotations, name))
    return steps


def dior_r(known: PublishedDataSet, source: Path) -> list[Step]:
    """Return the steps that divide DIOR's images, with oriented boxes beside them.

    Args:
        known: the data set.
        source: folder of the download.
    """
    images, annotations = _dior_files(source, _ORIENTED)
    steps = [link(path, _dior_image(path)) for path in images.values()]
    steps += [
        link(annotations[stem], f"Annotations/Oriented Bounding Boxes/{stem}.xml")
        for stem in images
    ]
    lists = {
        path.name: path for path in files_below(source, {".txt"}) if path.parent.name == "Main"
    }
    return steps + [link(path, f"ImageSets/Main/{name}") for name, path in lists.items()]


def vhr10(known: PublishedDataSet, source: Path) -> list[Step]:
    """Return the steps that divide NWPU VHR-10, and make a COCO file of each part.

    Args:
        known: the data set.
        source: folder of the download.
    """
    images = {
        path.stem: path for path in images_below(source) if path.parent.name == "positive image set"
    }
    texts = {
        path.stem: path
        for path in files_below(source, {".txt"})
        if path.parent.name == "ground truth"
    }
    _refuse_unannotated(images, texts)
    if not images:
        return []
    share = known.images["train"] / sum(known.images.values())
    halves = split({"": list(images)}, share, SEED)
    steps = []
    for part, half in (("trainval", halves["train"]), ("test", halves["val"])):
        of_part = {stem: images[stem] for stem in half[""]}
        steps += [link(path, f"images/{part}/{path.name}") for path in of_part.values()]
        name = f"Annotations/{part}.json"
        steps.append(_coco(known.classes, of_part, texts, name))
    return steps


def _dior_files(source: Path, kind: str) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return DIOR's images and its annotations of a kind, by number."""
    images: dict[str, Path] = {}
    for path in images_below(source):
        if re.fullmatch(r"\d{5}", path.stem):
            if path.stem in images:
                raise UserError(f"{images[path.stem]} and {path} are the same image: delete one")
            images[path.stem] = path
    annotations = {
        path.stem: path
        for path in files_below(source, {".xml"})
        if path.parent.name.casefold() == kind
    }
    _refuse_unannotated(images, annotations)
    return images, annotations


def _dior_part(stem: str) -> str:
    return "trainval" if int(stem) <= _LAST_OF_TRAINVAL else "test"


def _dior_image(path: Path) -> str:
    return f"images/{_dior_part(path.stem)}/{path.name}"


def _refuse_unannotated(images: Mapping[str, Path], annotations: Mapping[str, Path]) -> None:
    """Refuse images without an annotation file.

    Raises:
        UserError: there is one.
    """
    missing = [path for stem, path in images.items() if stem not in annotations]
    if missing:
        raise UserError(
            f"{missing[0]} (of {len(missing)}) has no annotation file: extract the annotations "
            "beside the images, or download them again"
        )


def _coco(
    classes: tuple[str, ...], images: Mapping[str, Path], annotations: Mapping[str, Path], name: str
) -> Step:
    """Return the step that writes a COCO file of a part; see `_write_coco`."""
    make = partial(_write_coco, classes, images, annotations, name)
    read = *images.values(), *(annotations[stem] for stem in images)
    return Step((name,), make, read, summary=True)


def _write_coco(
    classes: tuple[str, ...],
    images: Mapping[str, Path],
    annotations: Mapping[str, Path],
    name: str,
    out: Path,
) -> None:
    """Write a COCO file of a part.

    Args:
        classes: names by index; the ids of categories begin with 1.
        images: by stem.
        annotations: folder of their XML or text.
        name: of the new file.
        out: the new folder.

    Raises:
        UserError: an annotation has a mistake.
    """
    labels, faults = spellings(classes), Faults()
    listed: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for number, stem in enumerate(sorted(images), start=1):
        header, where = read_header(images[stem]), annotations[stem]
        listed.append(
            {
                "id": number,
                "file_name": images[stem].name,
                "width": header.width,
                "height": header.height,
            }
        )
        written = (
            read_xml(where, faults)
            if where.suffix == ".xml"
            else _read_vhr10(where, classes, faults)
        )
        objects = gather(written, labels, classes, where, faults)
        for corners, label, ignored in zip(
            objects.corners, objects.labels, objects.ignored, strict=True
        ):
            (x0, y0), (x1, y1) = corners.min(0).tolist(), corners.max(0).tolist()
            boxes.append(
                {
                    "id": len(boxes) + 1,  # tools take 0 for none
                    "image_id": number,
                    "category_id": int(label) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                    "ignore": int(ignored),
                }
            )
    if problems := faults.problems():
        raise UserError(problems[0].sentence)
    categories = [{"id": label + 1, "name": text} for label, text in enumerate(classes)]
    content = {"images": listed, "annotations": boxes, "categories": categories}
    write_json(out / name, content, indent=None)


def _read_vhr10(path: Path, classes: tuple[str, ...], faults: Faults) -> Written:
    """Read a text file of NWPU VHR-10: lines `(x1,y1),(x2,y2),class`, classes from 1."""
    found: Written = []
    for number, line in enumerate(lines_of(path, faults), start=1):
        if not line.strip():
            continue
        numbers = [int(text) for text in re.findall(r"-?\d+", line)]
        if len(numbers) != 5 or not 1 <= numbers[4] <= len(classes):
            faults.add(f"{path}:{number}", "is not (x1,y1),(x2,y2),class: download it again")
            continue
        corners = corners_of_sides(*numbers[:4])
        found.append((f"{path}:{number}", Annotation(classes[numbers[4] - 1], corners)))
    return found
