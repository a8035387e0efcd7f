"""Check of segmentation data: every image and mask is read, and all problems are listed."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from cgeartheye.config import MaskedData, Normalization, SegmentationData
from cgeartheye.data.checks.contact_sheet import contact_sheet
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
    whole_patches,
)
from cgeartheye.data.checks.image_stats import (
    ImageStats,
    compute_image_stats,
    digest_of,
    examine,
    shrink,
)
from cgeartheye.data.checks.swapped_colors import swapped_colors
from cgeartheye.data.formats.masks import UNLABELED, Legend, read_labels, stray_advice
from cgeartheye.data.image_io import read_image
from cgeartheye.data.index.segmentation import MaskSurvey, Sample, survey_masks
from cgeartheye.utils.errors import UserError

RARE = 0.001  # share of the labelled pixels
PADDING = 1.5  # times as large as an image that an input may be

_SAMPLES = 3  # images of a class on the contact sheet
_SIDE = 160  # pixels of each


@dataclass(frozen=True)
class MaskStats:
    """Statistics of one mask.

    Attributes:
        width: in pixels.
        height: in pixels.
        digest: SHA-256 of the class indices.
        pixels: of each class.
        strays: pixels of each value or colour that is no class.
    """

    width: int
    height: int
    digest: bytes
    pixels: list[int]
    strays: dict[str, int]


@dataclass(frozen=True)
class Examined:
    """Statistics of the pixels of a survey's files.

    Attributes:
        facts: of each image that can be read.
        masks: of each mask that can be read.
        unreadable: sentences.
        counts: pixels of each class, for each part.
    """

    facts: dict[str, ImageStats]
    masks: dict[str, MaskStats]
    unreadable: list[str]
    counts: dict[str, list[int]]


def check_masks(
    data: SegmentationData,
    normalization: Normalization | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """Examine segmentation data: folders, files, and the pixels of every image and mask.

    Args:
        data: the section of a config; `data.workers` processes decode the files.
        normalization: the one that the run will use, where it is known.
        progress: called with the number of files examined so far and in all.

    Raises:
        UserError: there is no root, so nothing can be looked at, or values or colours do not fit
            the catalog's classes.
    """
    found = survey_masks(data)
    seen = examine_files(found, data, progress)
    findings = common_findings(found, seen, data, normalization, _repeated(found, seen))
    counts = {name: mask.pixels for name, mask in seen.masks.items()}
    findings += swapped_colors(found, counts, data)
    return CheckResult(
        findings, found.legend.classes, seen.counts, _sheet(found, seen.masks, data), "pixels"
    )


def examine_files(
    found: MaskSurvey, data: MaskedData, progress: Callable[[int, int], None]
) -> Examined:
    """Read every image and mask of a survey once.

    Args:
        found: the survey.
        data: whose bands and stretch are used.
        progress: gets the number of files read, and of all.
    """
    samples = {sample for part in found.parts.values() for sample in part}
    images = sorted({image for sample in samples for image in sample.images})
    masks = sorted({sample.mask for sample in samples})
    files = [*((image, False) for image in images), *((mask, True) for mask in masks)]
    look = partial(_look, found.root, data.bands, data.stretch, found.legend)
    seen = Examined({}, {}, [], {})
    for (name, _), one in zip(files, examine(files, look, data.workers, progress), strict=True):
        if isinstance(one, ImageStats):
            seen.facts[name] = one
        elif isinstance(one, MaskStats):
            seen.masks[name] = one
        else:
            seen.unreadable.append(one)
    for part, of_part in found.parts.items():
        pixels = [seen.masks[sample.mask].pixels for sample in of_part if sample.mask in seen.masks]
        none = [0] * len(found.legend.classes)
        seen.counts[part] = [sum(of_class) for of_class in zip(none, *pixels, strict=True)]
    return seen


def common_findings(
    found: MaskSurvey,
    seen: Examined,
    data: MaskedData,
    normalization: Normalization | None,
    repeated: list[Finding],
) -> list[Finding]:
    """Return the findings that apply to all data with masks.

    Args:
        found: the survey.
        seen: statistics of its files.
        data: the config's.
        normalization: of the backbone, if known.
        repeated: findings on repeated images, inserted at their place.
    """
    facts, masks, classes = seen.facts, seen.masks, found.legend.classes
    samples = list({sample: None for part in found.parts.values() for sample in part})
    findings = [
        *(Finding("error", problem.sentence, problem.cases) for problem in found.problems),
        *(Finding("ok", note) for note in found.notes),
        readable(
            "images and masks", len(facts) + len(masks) + len(seen.unreadable), seen.unreadable
        ),
        _same_sizes(samples, facts, masks),
        _no_strays(masks, found.legend),
        *_used(found, masks),
        *repeated,
        *absent("a pixel", classes, seen.counts),
        *_shares(found.legend, seen.counts.get("train", []), masks),
    ]
    if facts:
        findings += [_sizes(list(facts.values()), data), *depth(facts, data.stretch)]
    train = [
        facts[image]
        for sample in found.parts.get("train", [])
        for image in sample.images
        if image in facts
    ]
    if train:
        findings.append(colors(train, normalization))
    return findings


def overlay_mask(
    image: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], legend: Legend
) -> npt.NDArray[np.uint8]:
    """Tint an image in the colours of its mask.

    Args:
        image: uint8 `[H, W, 3]`.
        labels: class indices `[H, W]`; 255 is left untinted.
        legend: its colors are used.
    """
    table = np.zeros((256, 3), dtype=np.uint16)
    table[: len(legend.colors)] = legend.colors
    mixed = (image.astype(np.uint16) + table[labels]) // 2
    tinted: npt.NDArray[np.uint8] = np.where((labels == UNLABELED)[..., None], image, mixed)
    return tinted.astype(np.uint8)


def _look(
    root: Path,
    bands: tuple[int, int, int],
    stretch: tuple[float, float] | None,
    legend: Legend,
    file: tuple[str, bool],
) -> ImageStats | MaskStats:
    name, is_mask = file
    if not is_mask:
        return compute_image_stats(root / name, bands, stretch)
    labels, strays = read_labels(root / name, legend)
    height, width = labels.shape
    pixels = torch.bincount(labels.flatten(), minlength=UNLABELED + 1)[: len(legend.classes)]
    return MaskStats(width, height, digest_of(labels), pixels.tolist(), strays)


def _same_sizes(
    samples: list[Sample], facts: dict[str, ImageStats], masks: dict[str, MaskStats]
) -> Finding:
    unequal = []
    for sample in samples:
        mask = masks.get(sample.mask)
        for name in sample.images:
            image = facts.get(name)
            if image and mask and (image.width, image.height) != (mask.width, mask.height):
                unequal.append(
                    f"{name} has {image.width} x {image.height} pixels, {sample.mask} has "
                    f"{mask.width} x {mask.height}"
                )
    if unequal:
        return Finding(
            "error", f"masks of another size than their image: {len(unequal):,}", unequal
        )
    return Finding("ok", "every mask has the size of its image")


def _no_strays(masks: dict[str, MaskStats], legend: Legend) -> Finding:
    strays: Counter[str] = Counter()
    for mask in masks.values():
        strays.update(mask.strays)
    if not strays:
        return Finding("ok", "every mask value is a class, or means: not labelled")
    what, pixels = strays.most_common(1)[0]
    others = f" (and {len(strays) - 1:,} more)" if len(strays) > 1 else ""
    cases = [
        f"{name}: "
        + ", ".join(f"{what} in {count:,} pixels" for what, count in mask.strays.items())
        for name, mask in masks.items()
        if mask.strays
    ]
    return Finding(
        "error",
        f"masks with values that are no class: {len(cases):,}; {what}{others} is in {pixels:,} "
        f"pixels: {stray_advice(legend)}",
        cases,
    )


def _used(found: MaskSurvey, masks: dict[str, MaskStats]) -> list[Finding]:
    """Look for masks that teach nothing."""
    empty = [name for name, mask in masks.items() if not any(mask.pixels)]
    return [
        Finding("warning", f"{what}: {len(cases):,}", cases)
        for what, cases in (
            ("masks in which nothing is labelled", empty),
            ("masks without an image", sorted(found.unused)),
        )
        if cases
    ]


def _repeated(found: MaskSurvey, seen: Examined) -> list[Finding]:
    return repeated(
        "mask",
        [
            Occurrence(
                part,
                sample.image,
                pixels_of(seen.facts, sample.image),
                pixels_of(seen.masks, sample.mask),
                f"{sample.image} ({part})",
            )
            for part, samples in found.parts.items()
            for sample in samples
        ],
    )


def pixels_of(known: Mapping[str, ImageStats | MaskStats], name: str) -> bytes | str:
    """Return what is the same for files with the same pixels, or the name of an unreadable one."""
    return known[name].digest if name in known else name


def _shares(legend: Legend, pixels: list[int], masks: dict[str, MaskStats]) -> list[Finding]:
    """Report the classes' shares of the labelled training pixels, and how many are labelled."""
    labeled = sum(pixels)
    if not labeled:
        return []
    every = sum(mask.width * mask.height for mask in masks.values())
    share = sum(sum(mask.pixels) for mask in masks.values()) / max(1, every)
    present = [
        (count / labeled, name) for count, name in zip(pixels, legend.classes, strict=True) if count
    ]
    least, rarest = min(present)
    sentence = f"{share:.1%} of all pixels are labelled"
    if len(present) == 1 and len(pixels) > 1:
        return [
            Finding(
                "error",
                f"{sentence}, those of the training part all '{rarest}': if 255 in the masks is a "
                "class, name the value of each class in data.values, such as [0, 255]",
            )
        ]
    sentence += f"; the rarest class in training is '{rarest}' with {least:.2%}"
    if least < RARE:
        return [Finding("warning", f"{sentence}: it will be learnt poorly")]
    return [Finding("ok", sentence)]


def _sizes(facts: list[ImageStats], data: MaskedData) -> Finding:
    sentence, median = describe_sizes(facts)
    if data.image_size > PADDING * median:
        return Finding(
            "warning",
            f"{sentence}; data.image_size {data.image_size} is mostly padding: try "
            f"{whole_patches(median)}",
        )
    return Finding("ok", sentence)


def _sheet(found: MaskSurvey, masks: dict[str, MaskStats], data: SegmentationData) -> Image.Image:
    """Show, for each class, where it is in the images that have most of it, without and with it."""
    legend = found.legend
    pairs = [pair for part in found.parts.values() for pair in part if pair.mask in masks]
    rows: dict[str, list[npt.NDArray[np.uint8]]] = {}
    for label, name in enumerate(legend.classes):
        most = sorted(pairs, key=lambda pair: -masks[pair.mask].pixels[label])[:_SAMPLES]
        thumbnails: list[npt.NDArray[np.uint8]] = []
        for pair in most:
            if masks[pair.mask].pixels[label]:
                thumbnails += _sample(found, pair, label, data)
        if thumbnails:
            rows[name] = thumbnails
    return contact_sheet(rows, _SIDE, dict(zip(legend.classes, legend.colors, strict=True)))


def _sample(
    found: MaskSurvey, pair: Sample, label: int, data: SegmentationData
) -> list[npt.NDArray[np.uint8]]:
    """Return two thumbnails around a pixel of a class: the image, and the mask laid over it."""
    try:
        image = read_image(found.root / pair.image, data.bands, data.stretch)
    except UserError:
        return []  # reported already
    labels, _ = read_labels(found.root / pair.mask, found.legend)
    if image.shape[1:] != labels.shape:
        return []  # reported already
    window = window_around(labels, label, data.image_size)
    shown = image[:, *window]
    tinted = overlay_mask(shown.permute(1, 2, 0).numpy(), labels[window].numpy(), found.legend)
    return [shrink(shown, _SIDE), shrink(torch.from_numpy(tinted).permute(2, 0, 1), _SIDE)]


def window_around(labels: Tensor, label: int, side: int) -> tuple[slice, slice]:
    """Return a square around the middle pixel of a class.

    Args:
        labels: class indices `[H, W]`.
        label: the class; it must occur.
        side: pixels of the square, at most.
    """
    places = (labels == label).nonzero()
    side = min(side, *labels.shape)
    corner = [
        min(max(0, int(center) - side // 2), length - side)
        for center, length in zip(places[len(places) // 2], labels.shape, strict=True)
    ]
    return slice(corner[0], corner[0] + side), slice(corner[1], corner[1] + side)
