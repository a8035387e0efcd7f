"""Compare a folder with what is known of a published data set."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cgeartheye.config import ChangeData, DetectionData, SceneData, SegmentationData
from cgeartheye.data.checks.findings import Finding, readable
from cgeartheye.data.checks.image_stats import examine
from cgeartheye.data.image_io import images_below, read_whole_header
from cgeartheye.data.index.detection import survey_boxes
from cgeartheye.data.index.scene import Problem, survey
from cgeartheye.data.index.segmentation import survey_masks, survey_pairs
from cgeartheye.data.published.data_set import PublishedDataSet
from cgeartheye.data.published.registry import how_to_get
from cgeartheye.utils.errors import UserError
from cgeartheye.utils.io import digest


@dataclass(frozen=True)
class _Contents:
    """Contents of the folder of a data set.

    Attributes:
        images: of each part, as paths below the root.
        others: files of masks and of other dates.
        problems: what a config that reads it would meet.
        objects: boxes of all parts.
    """

    images: dict[str, list[str]]
    others: list[str]
    problems: list[Problem]
    objects: int | None = None


def verify(
    known: PublishedDataSet,
    folder: Path,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Finding]:
    """Count the files of a data set, compare their names and lists, and read every header.

    Args:
        known: what is known of it.
        folder: of the data set.
        workers: processes that read headers.
        progress: called with the number of files read so far and in all.

    Raises:
        UserError: there is no folder, or nothing in it that could be annotations.
    """
    if not folder.is_dir():
        raise UserError(how_to_get(known.name, folder))
    found = _contents(known, folder)
    findings = [Finding("error", one.sentence, one.cases) for one in found.problems]
    findings += _counted(known, found)
    if known.per_class is not None:
        findings += _class_folders(known, folder, known.per_class)
    findings += _named(known, found)
    findings += _lists(known, folder)
    if known.objects is not None and found.objects is not None:
        same = found.objects == known.objects
        sentence = f"objects: {found.objects:,}" + (
            "" if same else f", published {known.objects:,}"
        )
        findings.append(Finding("ok" if same else "warning", sentence))
    images = [name for names in found.images.values() for name in names]
    names = list(dict.fromkeys([*images, *found.others]))
    seen = dict(zip(names, examine(names, partial(_look, folder), workers, progress), strict=True))
    unreadable = [one for one in seen.values() if isinstance(one, str)]
    findings.append(readable("files", len(names), unreadable))
    sizes = {name: one for name in images if not isinstance(one := seen[name], str)}
    if known.side is not None:
        findings += _sizes(known.side, sizes)
    return findings


def _look(folder: Path, name: str) -> tuple[int, int]:
    header = read_whole_header(folder / name)
    return header.width, header.height


def _contents(known: PublishedDataSet, folder: Path) -> _Contents:
    """Find what a config that reads the folder would find."""
    data = known.data.model_copy(update={"root": folder})
    if isinstance(data, SceneData):
        scenes = survey(data)
        parts = {part: [one.name for one in entries] for part, entries in scenes.parts.items()}
        return _Contents(parts, [], scenes.problems)
    if isinstance(data, DetectionData):
        boxes = survey_boxes(data)
        return _Contents(
            {part: list(images) for part, images in boxes.parts.items()},
            [],
            boxes.problems,
            sum(len(one) for images in boxes.parts.values() for one in images.values()),
        )
    assert isinstance(data, SegmentationData | ChangeData)
    masks = survey_masks(data) if isinstance(data, SegmentationData) else survey_pairs(data)
    return _Contents(
        {part: [one.image for one in samples] for part, samples in masks.parts.items()},
        [
            name
            for samples in masks.parts.values()
            for one in samples
            for name in (*one.images[1:], one.mask)
        ],
        masks.problems,
    )


def _counted(known: PublishedDataSet, found: _Contents) -> Iterator[Finding]:
    """Compare the number of images of each part."""
    first = known.first_number
    for part, expected in known.images.items():
        names = (
            [name for images in found.images.values() for name in images]
            if part == "all"
            else found.images.get(part, [])
        )
        what = "images" if part == "all" else f"images of {known.part_name(part)}"
        if len(names) == expected:
            yield Finding("ok", f"{what}: {expected:,}")
        else:
            missing: list[str] = []
            if known.per_class is None and first is not None:
                missing = gaps([Path(name).stem for name in names], first, expected)
            yield Finding("error", f"{what}: {len(names):,}, published {expected:,}", missing)
        if first is not None:
            first += expected


def _class_folders(
    known: PublishedDataSet, folder: Path, per_class: int | Mapping[str, int]
) -> Iterator[Finding]:
    """Compare the number of images of each class folder, whatever lists name."""
    wrong = []
    for name in known.classes:
        expected = per_class if isinstance(per_class, int) else per_class[name]
        stems = [path.stem for path in images_below(folder / name)]
        if len(stems) != expected:
            missing: list[str] = []
            if known.first_number is not None:
                missing = gaps(stems, known.first_number, expected)
            wrong.append(
                f"{name}: {len(stems):,}, published {expected:,}"
                + (f"; missing {', '.join(missing)}" if missing else "")
            )
    if wrong:
        yield Finding("error", f"class folders with other numbers of images: {len(wrong)}", wrong)
    else:
        yield Finding("ok", f"all {len(known.classes)} class folders have their numbers of images")


def gaps(stems: Sequence[str], first: int, count: int) -> list[str]:
    """Return the names that are missing in a series that is numbered.

    Args:
        stems: that are there, such as `port_1`.
        first: number of the series.
        count: how many there should be.

    Returns:
        The missing ones; none where the names are not one series.
    """
    matches = [re.fullmatch(r"(.*?)(\d+)", stem) for stem in stems]
    found = [match for match in matches if match]
    if not found or len(found) < len(stems) or len({match[1] for match in found}) > 1:
        return []
    there = {int(match[2]) for match in found}
    lengths = {len(match[2]) for match in found}
    digits = lengths.pop() if len(lengths) == 1 else 0
    missing = sorted(set(range(first, first + count)) - there)
    return [f"{found[0][1]}{number:0{digits}d}" for number in missing]


def _named(known: PublishedDataSet, found: _Contents) -> Iterator[Finding]:
    """Look for images whose names are not those of the data set."""
    if known.stems is None:
        return
    odd = [
        name
        for names in found.images.values()
        for name in names
        if not re.fullmatch(known.stems, Path(name).stem)
    ]
    if odd:
        yield Finding(
            "warning", f"images with names that the data set does not have: {len(odd)}", odd
        )


def _lists(known: PublishedDataSet, folder: Path) -> Iterator[Finding]:
    """Compare lists with those that were published."""
    for name, expected in known.checksums.items():
        if (folder / name).is_file():
            if digest([folder / name]) == expected:
                yield Finding("ok", f"{name} is the published list")
            else:
                yield Finding(
                    "warning",
                    f"{name} is another list than the published one: figures do not compare",
                )


def _sizes(side: int, sizes: Mapping[str, tuple[int, int]]) -> Iterator[Finding]:
    odd = {name: size for name, size in sizes.items() if size != (side, side)}
    if not sizes:
        return
    if not odd:
        yield Finding("ok", f"all images have {side:,} x {side:,} pixels")
        return
    (width, height), count = Counter(odd.values()).most_common(1)[0]
    sentence = (
        f"images of other sizes than {side:,} x {side:,}: {len(odd):,}, of which {count:,} have "
        f"{width:,} x {height:,}"
    )
    if 2 * len(odd) > len(sizes):
        sentence += "; they were resized, so figures do not compare with published ones"
    yield Finding(
        "warning",
        sentence,
        [f"{name}: {width} x {height}" for name, (width, height) in odd.items()],
    )
