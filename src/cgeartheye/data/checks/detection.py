"""Check of detection data: every image and box is read, and all problems are listed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely
import torch
from PIL import Image

from cgeartheye.boxes import oriented_of, paired_overlap
from cgeartheye.config import DetectionData, Normalization
from cgeartheye.data.checks.box_contact_sheet import box_sheet
from cgeartheye.data.checks.findings import (
    CheckResult,
    Finding,
    Occurrence,
    absent,
    colors,
    depth,
    describe_sizes,
    readable,
    repeated,
)
from cgeartheye.data.checks.image_stats import ImageStats, compute_image_stats, examine
from cgeartheye.data.datasets.detection import boxes_of
from cgeartheye.data.formats.voc_dota_yolo import Objects
from cgeartheye.data.index.detection import BoxSurvey, survey_boxes
from cgeartheye.data.transforms.boxes import eval_scale

SAME = 0.99  # IoU of boxes that are one object
SMALL, LARGE = 32, 96  # COCO's limits, pixels a side of a square of the same area
PATCH = 14  # pixels a side of what the published backbones see as one
TINY = 8.0  # pixels: less than a patch of 14 shows
TINY_SHARE = 0.05  # of the boxes, from which the check warns
RARE = 10  # boxes of a class in training
BEYOND = 1.0  # pixels outside the image that are rounding


@dataclass(frozen=True)
class _Seen:
    """The objects of all images that can be read, one behind the other.

    Attributes:
        names: of the image of each.
        images: its number, int64 `[n]`.
        labels: int64 `[n]`.
        corners: as annotated, float64 `[n, 4, 2]`.
        boxes: horizontal `[n, 4]` or canonical oriented `[n, 5]`, float64.
        sizes: width and height of the image of each, `[n, 2]`.
        scales: pixels of a test's view for one on disk, `[n]`.
    """

    names: list[str]
    images: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    corners: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.float64]
    sizes: npt.NDArray[np.float64]
    scales: npt.NDArray[np.float64]


def check_boxes(
    data: DetectionData,
    normalization: Normalization | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """Examine detection data: folders, files, every box, and the pixels of every image.

    Args:
        data: the section of a config; `data.workers` processes decode the files.
        normalization: the one that the run will use, where it is known.
        progress: called with the number of images examined so far and in all.

    Raises:
        UserError: there is no root or nothing that could be annotations, so nothing can be looked
            at.
    """
    found = survey_boxes(data)
    objects = {name: one for part in found.parts.values() for name, one in part.items()}
    names = sorted(objects)
    facts: dict[str, ImageStats] = {}
    unreadable: list[str] = []
    look = partial(_look, found.root, data)
    for name, one in zip(names, examine(names, look, data.workers, progress), strict=True):
        if isinstance(one, ImageStats):
            facts[name] = one
        else:
            unreadable.append(one)
    classes = found.classes
    counts = {
        part: np.bincount(_labels(of_part), minlength=len(classes)).tolist()
        for part, of_part in found.parts.items()
    }
    seen = _gather({name: objects[name] for name in facts}, facts, data)
    findings = [
        *(Finding("error", problem.sentence, problem.cases) for problem in found.problems),
        *(Finding("ok", note) for note in found.notes),
        readable("images", len(names), unreadable),
        *_placed(seen),
        *_drawn(seen),
        _doubled(seen, classes),
        *_repeated(found, facts),
        *absent("a box", classes, counts),
        *_numbers(found, counts.get("train", [])),
        *_used(found, objects),
        *_scaled(seen, classes, data),
    ]
    if facts:
        sentence, _ = describe_sizes(list(facts.values()))
        findings += [Finding("ok", sentence), *depth(facts, data.stretch)]
    train = [facts[name] for name in found.parts.get("train", {}) if name in facts]
    if train:
        findings.append(colors(train, normalization))
    return CheckResult(findings, classes, counts, _sheet(found, facts, data), "boxes")


def _look(root: Path, data: DetectionData, name: str) -> ImageStats:
    return compute_image_stats(root / name, data.bands, data.stretch)


def _labels(objects: dict[str, Objects]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *(one.labels for one in objects.values())])


def _gather(
    objects: dict[str, Objects], facts: dict[str, ImageStats], data: DetectionData
) -> _Seen:
    names = [name for name, one in objects.items() for _ in range(len(one))]
    corners = np.concatenate([np.zeros((0, 4, 2)), *(one.corners for one in objects.values())])
    if data.boxes == "oriented":
        boxes = oriented_of(torch.from_numpy(corners)).numpy()
    else:
        boxes = boxes_of(corners, oriented=False).astype(np.float64)
    sizes = [(facts[name].width, facts[name].height) for name in names]
    scales = [eval_scale(high, wide, data.image_size, data.resize) for wide, high in sizes]
    return _Seen(
        names,
        np.repeat(np.arange(len(objects)), [len(one) for one in objects.values()]),
        _labels(objects),
        corners,
        boxes,
        np.array(sizes, dtype=np.float64).reshape(-1, 2),
        np.array(scales),
    )


def _placed(seen: _Seen) -> list[Finding]:
    """Look for boxes that are not in their image."""
    low, high = seen.corners.min(axis=1), seen.corners.max(axis=1)
    outside = np.asarray(((high <= 0) | (low >= seen.sizes)).any(axis=1))
    reach: npt.NDArray[np.float64] = np.maximum(-low, high - seen.sizes).max(axis=1, initial=0)
    beyond = reach > BEYOND
    partly = beyond & ~outside
    findings = []
    if outside.any():
        findings.append(
            Finding(
                "error",
                f"boxes wholly outside their image: {outside.sum():,}; nobody can find them: "
                "delete them, or look whether the image was cut or resized after it was annotated",
                _cases(seen, outside),
            )
        )
    if partly.any():
        findings.append(
            Finding(
                "warning",
                f"boxes that reach beyond their image by more than {BEYOND:g} pixel: "
                f"{partly.sum():,} of {len(partly):,}",
                _cases(seen, partly),
            )
        )
    return findings or [Finding("ok", "every box lies in its image")]


def _drawn(seen: _Seen) -> list[Finding]:
    """Look for boxes without area, and for corners in another order than around the object."""
    flat = np.asarray((_sides(seen.boxes) <= 0).any(axis=1))
    crossed = np.asarray(~shapely.is_valid(shapely.polygons(seen.corners)) & ~flat)
    x, y = seen.corners[..., 0], seen.corners[..., 1]
    area = (x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum(axis=1)
    against = (area < 0) & ~flat & ~crossed
    findings = []
    if flat.any():
        findings.append(
            Finding(
                "error",
                f"boxes without area: {flat.sum():,}; delete them or draw them again",
                _cases(seen, flat),
            )
        )
    if crossed.any():
        findings.append(
            Finding(
                "warning",
                f"boxes whose sides cross, their corners out of order: {crossed.sum():,}; the "
                "rectangle around the four counts",
                _cases(seen, crossed),
            )
        )
    if against.any():
        findings.append(
            Finding(
                "warning",
                f"boxes whose corners run counter-clockwise: {against.sum():,} of {len(flat):,}; "
                "the rectangle is the same, but its first corner may not be the object's",
                _cases(seen, against),
            )
        )
    return findings or [Finding("ok", "every box has an area, and its corners are in order")]


def _doubled(seen: _Seen, classes: tuple[str, ...]) -> Finding:
    """Look for objects that are annotated twice."""
    cases = []
    kinds = np.stack([seen.images, seen.labels], axis=1)
    order = np.lexsort(kinds.T[::-1])
    for places in np.split(order, np.flatnonzero(np.diff(kinds[order], axis=0).any(axis=1)) + 1):
        for one, other in _pairs(seen.boxes[places]):
            first, second = places[[one, other]].tolist()
            cases.append(
                f"{_case(seen, first)} and {_middle(seen, second)}: '{classes[seen.labels[first]]}'"
            )
    if cases:
        return Finding(
            "warning",
            f"objects that are annotated twice (IoU above {SAME:g}, same class): {len(cases):,}; "
            "delete one of the two",
            cases,
        )
    return Finding("ok", "no object is annotated twice")


def _pairs(boxes: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return which boxes of an image and class are the same."""
    # Only those with about the same middle can be. An image may have thousands: no table of pairs.
    centers = boxes[:, :2] if boxes.shape[1] == 5 else (boxes[:, :2] + boxes[:, 2:]) / 2
    reach = 0.02 * _sides(boxes).max(axis=1, initial=0, keepdims=True)
    tree = shapely.STRtree(shapely.points(centers))
    near = tree.query(shapely.box(*(centers - reach).T, *(centers + reach).T)).T
    near = near[near[:, 0] < near[:, 1]]
    first, second = (torch.from_numpy(boxes[rows]) for rows in near.T)
    same: list[tuple[int, int]] = near[(paired_overlap(first, second) > SAME).numpy()].tolist()
    return same


def _repeated(found: BoxSurvey, facts: dict[str, ImageStats]) -> list[Finding]:
    return repeated(
        "annotation",
        [
            Occurrence(
                part,
                name,
                facts[name].digest if name in facts else name,
                (one.corners.tobytes(), one.labels.tobytes()),
                f"{name} ({part})",
            )
            for part, objects in found.parts.items()
            for name, one in objects.items()
        ],
    )


def _numbers(found: BoxSurvey, counts: list[int]) -> list[Finding]:
    """Say how many boxes there are to learn from."""
    present = [(count, name) for count, name in zip(counts, found.classes, strict=True) if count]
    if not present:
        return []
    images = found.parts["train"].values()
    least, rarest = min(present)
    sentence = (
        f"{sum(counts):,} boxes in {len(images):,} training images, "
        f"{max(len(one) for one in images):,} at most; the rarest class is '{rarest}' with "
        f"{least:,}"
    )
    if least < RARE:
        return [Finding("warning", f"{sentence}: it will be learnt poorly")]
    return [Finding("ok", sentence)]


def _used(found: BoxSurvey, objects: dict[str, Objects]) -> list[Finding]:
    """Say which images show nothing, and which are not used."""
    findings = []
    empty = sorted(name for name, one in objects.items() if not len(one))
    if empty:
        findings.append(
            Finding("ok", f"images without an object, which are kept: {len(empty):,}", empty)
        )
    ignored = sum(int(one.ignored.sum()) for one in objects.values())
    if ignored:
        findings.append(
            Finding("ok", f"boxes that count neither way in a test (difficult): {ignored:,}")
        )
    findings += _mostly_difficult(found.classes, list(objects.values()))
    if found.unused:
        cases = sorted(found.unused)
        findings.append(
            Finding("warning", f"images that the annotations do not name: {len(cases):,}", cases)
        )
    return findings


def _mostly_difficult(classes: tuple[str, ...], objects: list[Objects]) -> list[Finding]:
    """Say which classes hardly count in a test, since most of their boxes are difficult."""
    findings = []
    labels = np.concatenate([np.zeros(0, np.int64), *(one.labels for one in objects)])
    difficult = np.concatenate([np.zeros(0, bool), *(one.ignored & ~one.crowds for one in objects)])
    for label, name in enumerate(classes):
        of_class = difficult[labels == label]
        if of_class.sum() * 2 > len(of_class):
            findings.append(
                Finding(
                    "warning",
                    f"more than half of the boxes of '{name}' are difficult ({of_class.sum():,} of "
                    f"{len(of_class):,}) and count neither way in a test: make sure that the "
                    "annotations mean it",
                )
            )
    return findings


def _scaled(seen: _Seen, classes: tuple[str, ...], data: DetectionData) -> list[Finding]:
    """Say how large objects are when the network sees them."""
    if not seen.names:
        return []
    sides = _sides(seen.boxes) * seen.scales[:, None]
    roots = np.sqrt(sides.prod(axis=1))
    small, large = roots < SMALL, roots > LARGE
    kinds = (("small", small), ("medium", ~small & ~large), ("large", large))
    cases = [
        f"{name}: "
        + ", ".join(
            f"{int((kind & (seen.labels == label)).sum()):,} {what}" for what, kind in kinds
        )
        for label, name in enumerate(classes)
    ]
    shares = ", ".join(f"{kind.mean():.0%} {what}" for what, kind in kinds)
    findings = [
        Finding(
            "ok",
            f"boxes as the network sees them, {SMALL} and {LARGE} pixels a side the limits: "
            f"{shares}",
            cases,
        )
    ]
    findings += _patches(float(np.median(roots)), data)
    shorter = sides.min(axis=1)
    tiny, lost = shorter < TINY, shorter < data.min_box_size
    if tiny.mean() > TINY_SHARE:
        advice = (
            "data.resize shrinks the images: set it to false, raise data.image_size, or cut them"
            if (seen.scales < 1).any()
            else "resample the images to a finer GSD"
        )
        findings.append(
            Finding(
                "warning",
                f"boxes with a side below {TINY:g} pixels as the network sees them: "
                f"{tiny.sum():,} of {len(tiny):,} ({lost.sum():,} below data.min_box_size="
                f"{data.min_box_size:g}); {advice}",
                _cases(seen, tiny),
            )
        )
    return findings


def _patches(median: float, data: DetectionData) -> list[Finding]:
    """Say what makes the median object two patches long where it is less than one.

    Args:
        median: its size, the root of its area, in pixels as the network sees it.
        data: the section of a config.
    """
    if not 0 < median < PATCH:
        return []
    factor = 2 * PATCH / median
    if data.resize:
        side = math.ceil(data.image_size * factor / PATCH) * PATCH
        advice = f"data.image_size={side}"
    elif data.gsd:
        advice = f"images of a GSD of {data.gsd / factor:.2g} m"
    else:
        advice = f"images enlarged {factor:.1f} times, by a finer GSD"
    return [
        Finding(
            "warning",
            f"the median object is {median:.0f} pixels as the network sees it, less than a patch "
            f"of {PATCH}: {advice} would make it two, or cut the images into smaller ones",
        )
    ]


def _sheet(found: BoxSurvey, facts: dict[str, ImageStats], data: DetectionData) -> Image.Image:
    """Show examples of each class with their boxes, from training if it has any."""
    known = {
        name: one
        for part in reversed(list(found.parts.values()))
        for name, one in part.items()
        if name in facts
    }
    train = {name: one for name, one in found.parts.get("train", {}).items() if name in facts}
    return box_sheet(found.root, found.classes, [train, known], data)


def _sides(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the sides of boxes, `[n, 2]` in pixels."""
    if boxes.shape[1] == 5:
        return boxes[:, 2:4]
    sides: npt.NDArray[np.float64] = boxes[:, 2:] - boxes[:, :2]
    return sides


def _cases(seen: _Seen, which: npt.NDArray[np.bool_]) -> list[str]:
    return [_case(seen, place) for place in np.flatnonzero(which).tolist()]


def _case(seen: _Seen, place: int) -> str:
    return f"{seen.names[place]}: the box around {_middle(seen, place)}"


def _middle(seen: _Seen, place: int) -> str:
    x, y = seen.corners[place].mean(axis=0)
    return f"({x:.0f}, {y:.0f})"
