"""Layouts of folders of images and boxes that are in common use.

VOC, COCO, YOLO, DOTA, DIOR, HRSC2016, FAIR1M, xView, SpaceNet, labelme, and what CVAT, Label Studio
and Roboflow export: each has its own folders and its own names of the parts. What a config names
is taken as it is; the rest is looked for here, and what was chosen is stated.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cgeartheye.config import DetectionData
from cgeartheye.data.formats.labelme import is_labelme
from cgeartheye.data.formats.voc_dota_yolo import NAMES
from cgeartheye.data.image_io import SUFFIXES, files_below
from cgeartheye.data.index.catalog import BOXED
from cgeartheye.data.index.part_names import names_of, other_name
from cgeartheye.data.index.starred import starred
from cgeartheye.utils.errors import UserError

# Folders of a part's images: of most; of YOLO's exports and DOTA; of DIOR as it is published.
_IMAGES = (
    "images/{part}",
    "{part}/images",
    "JPEGImages-{part}",
    "JPEGImages/{part}",
    "{part}/JPEGImages",
    "{part}/AllImages",  # HRSC2016
    "{part}/*/images",  # FAIR1M
    "{part}_images",  # xView
    "*_{part}/RGB-PanSharpen",  # SpaceNet, as all that follow
    "{part}/*/RGB-PanSharpen",
    "{part}/RGB-PanSharpen",
    "*_{part}/PS-RGB",
    "{part}/*/PS-RGB",
    "{part}/PS-RGB",
    "images/{part}2017",  # COCO
    "{part}2017",
    "{part}",  # images beside their annotations
)
# Of all images, whose parts are lists or not there.
_WHOLE = (
    "JPEGImages",
    "images",
    "JPEGImages-*",
    "images/*",
    "FullDataSet/AllImages",
    "AllImages",
    "Images",
    "obj_train_data",  # CVAT
    "RGB-PanSharpen",
    "PS-RGB",
    "train_images",
    ".",
)
_LISTS = ("ImageSets/Main/{part}.txt", "ImageSets/{part}.txt", "Main/{part}.txt", "{part}.txt")
# Annotations: COCO's files, then folders.
_ORIENTED = ("Annotations/Oriented Bounding Boxes", "labelTxt/{part}", "{part}/labelTxt")
_ANNOTATIONS = (
    *(f"{folder}/{name}{{part}}{year}.json" for folder in ("Annotations", "annotations")
      for name in ("", "instances_") for year in ("", "2017")),
    "{part}/_annotations.coco.json",  # Roboflow
    "{part}/annotations.json",
    "{part}.json",
    "instances_{part}.json",
    "xView_{part}.geojson",
    "labels/{part}",
    "labels/{part}2017",
    "{part}/labels",
    "Annotations/Horizontal Bounding Boxes",
    *_ORIENTED,
    "{part}/annfiles",  # DOTA, as mmrotate cuts it
    "{part}/labelTxt-v1.0",
    "{part}/labelTxt-v1.0/labelTxt",
    "{part}/labelTxt-v1.5/DOTA-v1.5_{part}",
    "{part}/labelTxt-v1.5",
    "{part}/*/labelXml",
    "{part}/*/labelXmls",
    "{part}/labelXml",
    "{part}/labelXmls",
    "*_{part}/geojson/buildings",
    "{part}/*/geojson/buildings",
    "{part}/geojson/buildings",
    "*_{part}/geojson_buildings",
    "{part}/*/geojson_buildings",
    "{part}/geojson_buildings",
    "Annotations/{part}",
    "annotations/{part}",
    "{part}/Annotations",
    "{part}/annotations",
    "Annotations",
    "annotations",
    "labels",
    "labelTxt",
    "FullDataSet/Annotations",
    "annfiles",
    "labelXml",
    "labelXmls",
    "geojson/buildings",
    "geojson_buildings",
    "annotations/instances_default.json",  # CVAT
    "annotations/instances.json",
    "annotations.json",
    "result.json",  # Label Studio's COCO
    "project-*-at-*.json",  # Label Studio's own
    "_annotations.coco.json",
    "xView_train.geojson",
)  # fmt: skip
_FILES = (frozenset({".xml", ".txt"}), frozenset({".geojson"}), frozenset({".json"}))


@dataclass(frozen=True)
class Layout:
    """Location of a config's images and boxes.

    Attributes:
        root: the folder that holds them, the config's or one below it.
        data: the config, with images, annotations, lists and parts filled in.
        notes: what was chosen that the config leaves open, in sentences.
    """

    root: Path
    data: DetectionData
    notes: list[str] = field(default_factory=list)


def find_layout(root: Path, data: DetectionData) -> Layout:
    """Find the folders of images and annotations.

    Args:
        root: of the data.
        data: its config; what it names is not searched for.

    Returns:
        The first layout that has images and annotations of the training part: with the names of
        the parts as the config has them, else with other names of theirs, else without parts.

    Raises:
        UserError: there is nothing that could be annotations; it lists what is there instead.
    """
    for folder in _roots(root):
        for name in names_of(data.train, "train"):
            if layout := _with_parts(folder, data, name):
                return _with_notes(layout, root, data)
        if layout := _without_parts(folder, data):
            return _with_notes(layout, root, data)
    # Images may be missing, or annotations: a problem with either helps more than "nothing found".
    annotations = _annotations(root, data, data.train, "")
    if annotations is None:
        looked = [data.annotations] if data.annotations else [*_ORIENTED, *_ANNOTATIONS]
        raise UserError(
            f"no annotations of the part '{data.train}' in {root}: looked for "
            f"{_shown(looked, data.train)}; there {_inventory(root)}; name them in "
            "data.annotations, as in 'Annotations/{part}.json' or 'labels/{part}', or correct "
            "data.train"
        )
    known = (BOXED[data.catalog].images,) if data.catalog else ()
    images = data.images or (*known, *_IMAGES)[0]
    return Layout(root, data.model_copy(update={"images": images, "annotations": annotations}))


def annotation_files(folder: Path) -> list[Path]:
    """Return the annotation files in a folder and its subfolders.

    Of XML and text files, GeoJSON, and labelme's JSON the kind that there is most of: notes of
    other kinds may be beside them.
    """
    every = files_below(folder, frozenset().union(*_FILES))
    kinds = [[path for path in every if path.suffix.lower() in suffixes] for suffixes in _FILES]
    for found in sorted(kinds, key=len, reverse=True):
        found = [path for path in found if path.name not in NAMES and _may_be_one(path)]
        if found:
            return found
    return []


def _may_be_one(path: Path) -> bool:
    return path.suffix.lower() != ".json" or is_labelme(path)


def _roots(root: Path) -> Iterator[Path]:
    """Yield a folder and, while it holds nothing but another, that one, as archives do."""
    for _ in range(4):
        yield root
        inside = [path for path in root.iterdir() if not path.name.startswith((".", "__"))]
        if len([path for path in inside if path.is_dir()]) != 1:
            return
        root = next(path for path in inside if path.is_dir())


def _with_parts(root: Path, data: DetectionData, train: str) -> Layout | None:
    """Return the layout whose training part has a folder or a list of this name."""
    patterns, lists = _image_patterns(data), data.lists
    images = _first(root, [one for one in patterns if "{part}" in one], train, _has_images)
    if lists or images is None:
        lists = _first(root, [lists] if lists else _LISTS, train, Path.is_file) or lists
        images = _first(root, patterns, train, _has_images) if lists else images
    annotations = images and _annotations(root, data, train, images)
    if not images or not annotations or "{part}" not in f"{images}{annotations}{lists}":
        return None
    found = data.model_copy(
        update={"images": images, "annotations": annotations, "lists": lists, "train": train}
    )

    def is_there(name: str) -> bool:
        if found.lists and (root / found.lists.replace("{part}", name)).is_file():
            return True
        if "{part}" not in images:
            return "{part}" in annotations and bool(_annotations(root, found, name, images))
        if name == data.val:  # if it is empty, that is reported
            return _first(root, [images], name, Path.is_dir) is not None
        there = _first(root, [images], name, _has_images) is not None
        return there and _annotations(root, found, name, images) is not None

    val = other_name(data.val, "val", is_there)
    if data.val != "val" or data.test or is_there(val):
        return Layout(root, found.model_copy(update={"val": val}))
    # Only the training part is there: it is split.
    one: dict[str, str | None] = {"images": images.replace("{part}", train)}
    one["annotations"] = annotations.replace("{part}", train)
    return Layout(root, found.model_copy(update=one | {"lists": data.lists}))


def _without_parts(root: Path, data: DetectionData) -> Layout | None:
    """Return the layout of images in one folder without lists."""
    if data.lists or (data.train != "train" and not data.images):
        return None
    patterns = [pattern for pattern in _image_patterns(data) if "{part}" not in pattern]
    images = _first(root, patterns, "", _has_images if data.images else _has_images_itself)
    annotations = images and _annotations(root, data, "", images)
    if not images or not annotations or "{part}" in annotations:
        return None
    return Layout(root, data.model_copy(update={"images": images, "annotations": annotations}))


def _image_patterns(data: DetectionData) -> tuple[str, ...]:
    if data.images:
        return (data.images,)
    known = (BOXED[data.catalog].images,) if data.catalog else ()
    return (*known, *_IMAGES, *_WHOLE)


def _annotations(root: Path, data: DetectionData, part: str, images: str) -> str | None:
    """Return the first pattern that annotations of a part fit.

    Args:
        root: of the data.
        data: the config.
        part: of which they are; none (""): of all images.
        images: pattern of the images, which they may be beside.
    """
    if data.annotations:
        return _first(root, [data.annotations], part, _is_annotations)
    known = BOXED[data.catalog].annotations if data.catalog else ()
    first = _ORIENTED if data.boxes == "oriented" else ()
    patterns = [one for one in (*known, *first, *_ANNOTATIONS) if part or "{part}" not in one]
    found = _first(root, patterns, part, _is_annotations)
    if found is None and images:
        found = _first(root, [images], part, _has_annotations_of_its_images)
    return found


def _first(
    root: Path, patterns: Iterable[str], part: str, fits: Callable[[Path], bool]
) -> str | None:
    for pattern in patterns:
        places = starred(root, pattern.replace("{part}", part))
        if any(fits(place) for _, place in places):
            return pattern
    return None


def _has_images(folder: Path) -> bool:
    """Return whether an image is in a folder or below it."""
    return folder.is_dir() and (_has_images_itself(folder) or bool(files_below(folder, SUFFIXES)))


def _has_images_itself(folder: Path) -> bool:
    return folder.is_dir() and any(
        path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        for path in folder.iterdir()
    )


def _is_annotations(place: Path) -> bool:
    if place.is_dir():
        return any(path.parent == place for path in annotation_files(place))
    return place.is_file()


def _has_annotations_of_its_images(folder: Path) -> bool:
    """Return whether a file beside an image has its stem and could be its annotations."""
    if not folder.is_dir():
        return False
    images = {path.with_suffix("") for path in files_below(folder, SUFFIXES)}
    return any(path.with_suffix("") in images for path in annotation_files(folder))


def _with_notes(layout: Layout, root: Path, data: DetectionData) -> Layout:
    """Return a layout with notes on what differs from the config."""
    found = layout.data
    if found.lists and not data.lists:
        layout.notes.append(f"parts are lists: {found.lists}")
    for kind in ("train", "val"):
        name = getattr(found, kind)
        if name != getattr(data, kind):
            layout.notes.append(f"the part '{name}' is taken for data.{kind}")
    if layout.root != root:
        layout.notes.append(f"the data are in {layout.root}")
    places = {"images": found.images, "annotations": found.annotations}
    looked_for = [
        f"{kind} in {place}" for kind, place in places.items() if getattr(data, kind) is None
    ]
    if layout.notes and looked_for:
        layout.notes.insert(0, f"found {' and '.join(looked_for)}")
    return layout


def _shown(patterns: Sequence[str], part: str) -> str:
    """Return a few patterns, in words."""
    some = [pattern.replace("{part}", part) for pattern in dict.fromkeys(patterns)]
    more = f" and {len(some) - 6} places more" if len(some) > 6 else ""
    return f"{', '.join(some[:6])}{more}"


def _inventory(root: Path) -> str:
    """Describe the content of a folder: its subfolders and files by kind."""
    entries = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    folders = [f"{path.name}/ ({_kinds(path)})" for path in entries if path.is_dir()]
    files = _kinds(root) if any(path.is_file() for path in entries) else ""
    names = [*folders[:6], *([f"{len(folders) - 6} folders more"] if len(folders) > 6 else [])]
    names += [files] if files else []
    return f"are {', '.join(names)}" if names else "is nothing"


def _kinds(folder: Path) -> str:
    """Count the files of a folder, or the folders where it has none, by their endings."""
    try:
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return "unreadable"
    counts = Counter(path.suffix.lower() or path.name for path in entries if path.is_file())
    if counts:
        return ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common(3))
    return f"{len(entries):,} folders" if entries else "empty"
