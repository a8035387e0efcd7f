"""Scene data of a config, and everything that is wrong with their description.

Training stops at the first problem and the check lists them all, so this page collects problems
instead of raising them. It reads lists and folders, never a pixel.
"""

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from cgeartheye.config import SceneData
from cgeartheye.data.image_io import images_below
from cgeartheye.data.index.catalog import CATALOG, find_root
from cgeartheye.utils.errors import UserError, nearest

_PART_NAMES = {"train", "training", "val", "valid", "validation", "test"}

ClassFolders = dict[str, list[str]]
"""The images of each class folder, as paths below the root."""


@dataclass(frozen=True)
class Entry:
    """An image of a part.

    Attributes:
        name: its path below the root, with forward slashes.
        label: index of its class.
        where: the list file and line of the label, or the class folder.
    """

    name: str
    label: int
    where: str


@dataclass(frozen=True)
class Problem:
    """A mistake in the data: one sentence with the fix, and every case of it."""

    sentence: str
    cases: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Survey:
    """Result of a survey of scenes.

    Attributes:
        root: the folder that holds the images.
        classes: names by index.
        parts: the usable entries of `train`, `val` and, where it is another part, `test`.
        problems: what keeps the data from being trained on.
        empty: class folders without images, which are no classes.
    """

    root: Path
    classes: tuple[str, ...]
    parts: dict[str, list[Entry]]
    problems: list[Problem]
    empty: list[str] = field(default_factory=list)


def refuse(problems: list[Problem]) -> None:
    """Raise the first problem, if there is one, and count the others.

    Raises:
        UserError: there is a problem.
    """
    if problems:
        others = len(problems) - 1
        hint = f" (and {others} more: `cgeartheye check` lists all)" if others else ""
        raise UserError(problems[0].sentence + hint)


def survey(data: SceneData) -> Survey:
    """Find the images, labels and class names that a config describes, going on past mistakes.

    Raises:
        UserError: there is no root, so nothing can be looked at.
    """
    root = find_root(data.root, CATALOG[data.catalog].folders if data.catalog else ())
    problems: list[Problem] = []
    empty: list[str] = []
    lists: dict[str, list[Entry]] = {}
    folders: dict[str, ClassFolders] = {}
    # A test part that is the validation part again would look like a leak.
    other_test = None if data.test == data.val else data.test
    places = {"train": data.train, "val": data.val, "test": other_test}
    for part, place in places.items():
        if place is None:
            continue
        path = root / place
        if path.is_dir():
            folders[part] = _class_folders(root, path, problems, empty)
        elif path.is_file():
            lists[part] = _read_list(path, problems)
        else:
            beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            hint = nearest(path.name, beside)
            problems.append(Problem(f"no list file or folder {path}{hint}: correct data.{part}"))
    if data.train is None:
        whole = _class_folders(root, root, problems, empty)
        folders = split(whole, data.train_fraction, data.split_seed)

    if data.classes:
        classes, source = data.classes, "data.classes"
    elif data.catalog:
        classes, source = CATALOG[data.catalog].classes, f"the catalog's {data.catalog}"
    elif lists:
        classes, source = _names_from_lists(root, lists, problems), "the lists' own folders"
    else:
        first = next(iter(folders.values()), {})  # training, unless that is missing
        classes, source = tuple(sorted(first)), "the training part"

    parts = {}
    for part in places:
        if part in lists:
            labeled = _labeled(lists[part], len(classes), source, problems)
            parts[part] = _present(root, labeled, problems)
        elif part in folders:
            parts[part] = _label_folders(root, folders[part], classes, source, problems)
    problems += _class_problems(data, classes, source, parts)
    for part, entries in parts.items():
        if not entries:
            problems.append(
                Problem(f"the part '{part}' of {root} has no usable image: give it at least one")
            )
    return Survey(root, classes, parts, problems, empty)


def misplaced(entries: list[Entry], classes: tuple[str, ...]) -> list[Entry]:
    """Return the entries in the folder of another class than their label's."""
    known = set(classes)
    found = []
    for entry in entries:
        named = known.intersection(entry.name.split("/")[:-1])
        if named and classes[entry.label] not in named:
            found.append(entry)
    return found


def _class_folders(
    root: Path, folder: Path, problems: list[Problem], empty: list[str]
) -> ClassFolders:
    """Find the class folders in `folder`; hidden ones and those without images do not count."""
    by_class = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            images = [Path(os.path.relpath(image, root)) for image in images_below(path)]
            if images:
                by_class[path.name] = [image.as_posix() for image in images]
            else:
                empty.append(str(path))
    if not by_class:
        problems.append(Problem(f"{folder} has no class folders with images: correct the path"))
    elif folder == root and {name.lower() for name in by_class} <= _PART_NAMES:
        names = " and ".join(f"'{name}'" for name in by_class)
        problems.append(
            Problem(f"{root} holds parts, not classes: name {names} in data.train and data.val")
        )
    return by_class


def split(by_class: ClassFolders, train_fraction: float, seed: int) -> dict[str, ClassFolders]:
    """Share every class out between `train` and `val`; both get one where it has two or more.

    An image's turn in the draw is a hash of its path: neither the file system's order nor a
    library's generator has an influence.

    Args:
        by_class: images of each class.
        train_fraction: share of a class for `train`, 0..1.
        seed: of the draw.
    """
    train, val = {}, {}
    for name, images in by_class.items():
        drawn = sorted(images, key=lambda path: hashlib.sha256(f"{seed}/{path}".encode()).digest())
        count = max(1, min(round(train_fraction * len(drawn)), len(drawn) - 1))
        train[name], val[name] = sorted(drawn[:count]), sorted(drawn[count:])
    return {"train": train, "val": val}


def _read_list(path: Path, problems: list[Problem]) -> list[Entry]:
    """Read lines `Port/port_263.jpg 20`; blank lines and lines that start with # do not count."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        problems.append(Problem(f"{path} cannot be read as a list: save it as UTF-8 text"))
        return []
    entries, bad = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match line.rsplit(maxsplit=1):
            case [name, label] if label.removeprefix("-").isdecimal():
                name = name.strip().replace("\\", "/").removeprefix("./")
                entries.append(Entry(name, int(label), f"{path}:{number}"))
            case _:
                bad.append(f"{path}:{number}: '{line.strip()}'")
    if bad:
        problems.append(
            Problem(
                f"{bad[0]}{more(bad)} is not a path and a label, as in 'Port/port_1.jpg 20'", bad
            )
        )
    return entries


def _names_from_lists(
    root: Path, lists: dict[str, list[Entry]], problems: list[Problem]
) -> tuple[str, ...]:
    """Name each label after the one folder that contains its images."""
    folders: dict[int, set[str]] = {}
    for entry in (entry for entries in lists.values() for entry in entries):
        folders.setdefault(entry.label, set()).add(Path(entry.name).parent.name)
    names = tuple("+".join(sorted(folders[label])) for label in sorted(folders))
    one_to_one = all(len(found) == 1 for found in folders.values()) and len({*names}) == len(names)
    if "" in names or not one_to_one or sorted(folders) != list(range(len(folders))):
        problems.append(
            Problem(
                f"the lists in {root} do not give each label from 0 a folder of its own: "
                "name the classes in data.classes, in the order of their labels"
            )
        )
    return names


def _labeled(entries: list[Entry], count: int, source: str, problems: list[Problem]) -> list[Entry]:
    """Return the entries whose label is the index of a class."""
    strays = [
        f"{entry.where}: label {entry.label} of {entry.name}"
        for entry in entries
        if not 0 <= entry.label < count
    ]
    if strays:
        problems.append(
            Problem(
                f"{strays[0]}{more(strays)} is out of range: {source} names {count} classes, so "
                f"labels run from 0 to {count - 1}; correct the label or the classes",
                strays,
            )
        )
    return [entry for entry in entries if 0 <= entry.label < count]


def _present(root: Path, entries: list[Entry], problems: list[Problem]) -> list[Entry]:
    """Return the entries whose image exists."""
    present, missing = [], []
    for entry in entries:
        if os.path.isfile(os.path.join(root, entry.name)):
            present.append(entry)
        else:
            missing.append(f"{entry.where}: {entry.name}")
    if missing:
        problems.append(
            Problem(
                f"{missing[0]}{more(missing)} is not in {root}: {len(missing)} of "
                f"{len(entries)} images are missing; restore them or take their lines out",
                missing,
            )
        )
    return present


def _label_folders(
    root: Path,
    by_class: ClassFolders,
    classes: tuple[str, ...],
    source: str,
    problems: list[Problem],
) -> list[Entry]:
    """Label the images of class folders by the folders' names."""
    index = {name: label for label, name in enumerate(classes)}
    unknown = [name for name in by_class if name not in index]
    if unknown:
        problems.append(
            Problem(
                f"the class folder '{unknown[0]}'{more(unknown)} in {root} is not among the "
                f"{len(classes)} classes of {source}{nearest(unknown[0], list(classes))}: "
                "rename the folder or correct the classes",
                unknown,
            )
        )
    return [
        Entry(image, index[name], name)
        for name, images in by_class.items()
        if name in index
        for image in images
    ]


def _class_problems(
    data: SceneData, classes: tuple[str, ...], source: str, parts: dict[str, list[Entry]]
) -> list[Problem]:
    """Find class names that are doubled, left over, or in another order than the labels."""
    problems = []
    doubled = [name for name, times in Counter(classes).items() if times > 1]
    if doubled:
        problems.append(
            Problem(f"{source} has '{doubled[0]}' twice: name each class once", doubled)
        )
    entries = [entry for part in parts.values() for entry in part]
    images = Counter(entry.label for entry in entries)
    highest = max(images, default=len(classes) - 1)
    if data.classes and highest < len(classes) - 1:
        problems.append(
            Problem(
                f"data.classes names {len(classes)} classes, but no image in {data.root} has a "
                f"label above {highest}: take out '{classes[-1]}' or correct the labels",
                list(classes[highest + 1 :]),
            )
        )
    elsewhere = Counter(entry.label for entry in misplaced(entries, classes))
    disordered = [label for label, times in elsewhere.items() if 2 * times > images[label]]
    if disordered:
        first = misplaced([e for e in entries if e.label == disordered[0]], classes)[0]
        problems.append(
            Problem(
                f"{first.where}: {first.name} and most images of label {first.label} are in "
                f"another folder than '{classes[first.label]}', its name in {source}: "
                "put the classes in the order of the labels",
                [f"label {label}: '{classes[label]}'" for label in disordered],
            )
        )
    return problems


def more(cases: list[str]) -> str:
    """Return " (and 3 more)" for four cases, and nothing for one."""
    return f" (and {len(cases) - 1} more)" if len(cases) > 1 else ""
