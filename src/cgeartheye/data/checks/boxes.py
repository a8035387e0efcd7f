"""Check of annotated boxes: where they are, how they are drawn, doubles, and sizes."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
import torch

from cgeartheye.boxes import paired_overlap
from cgeartheye.config import DetectionData
from cgeartheye.data.checks.findings import Finding

SAME = 0.99  # IoU of boxes that are one object
SMALL, LARGE = 32, 96  # COCO's limits, pixels a side of a square of the same area
PATCH = 14  # pixels a side of what the published backbones see as one
TINY = 8.0  # pixels: less than a patch of 14 shows
TINY_SHARE = 0.05  # of the boxes, from which the check warns
BEYOND = 1.0  # pixels outside the image that are rounding


@dataclass(frozen=True)
class AnnotatedBoxes:
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


def placement(seen: AnnotatedBoxes) -> list[Finding]:
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
    return findings or [Finding("ok", "every box is inside its image")]


def drawing(seen: AnnotatedBoxes) -> list[Finding]:
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
                "ok",
                f"boxes whose corners run counter-clockwise: {against.sum():,} of {len(flat):,}; "
                "their rectangles are the same, so nothing need be done",
            )
        )
    return findings or [Finding("ok", "every box has an area, and its corners are in order")]


def doubles(seen: AnnotatedBoxes, classes: tuple[str, ...]) -> Finding:
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


def scale(seen: AnnotatedBoxes, classes: tuple[str, ...], data: DetectionData) -> list[Finding]:
    """Report the size of objects as the network sees them.

    Args:
        seen: the boxes, their labels, and the factors from image to network pixels.
        classes: names by label.
        data: its `image_size` and GSD, for the advice on objects that are too small.
    """
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
    """Suggest what makes the median object two patches long where it is less than one.

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


def _sides(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the sides of boxes, `[n, 2]` in pixels."""
    if boxes.shape[1] == 5:
        return boxes[:, 2:4]
    sides: npt.NDArray[np.float64] = boxes[:, 2:] - boxes[:, :2]
    return sides


def _cases(seen: AnnotatedBoxes, which: npt.NDArray[np.bool_]) -> list[str]:
    return [_case(seen, place) for place in np.flatnonzero(which).tolist()]


def _case(seen: AnnotatedBoxes, place: int) -> str:
    return f"{seen.names[place]}: the box around {_middle(seen, place)}"


def _middle(seen: AnnotatedBoxes, place: int) -> str:
    x, y = seen.corners[place].mean(axis=0)
    return f"({x:.0f}, {y:.0f})"
