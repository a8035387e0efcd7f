"""Check of change data: that of `check_masks`, and of the two dates against each other."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from cgeartheye.config import ChangeData, Normalization
from cgeartheye.data.checks.contact_sheet import contact_sheet
from cgeartheye.data.checks.findings import CheckResult, Finding
from cgeartheye.data.checks.image_stats import examine, shrink
from cgeartheye.data.checks.segmentation import (
    Examined,
    common_findings,
    examine_files,
    overlay_mask,
    pixels_of,
    window_around,
)
from cgeartheye.data.datasets.change import read_pair
from cgeartheye.data.formats.masks import read_labels
from cgeartheye.data.index.segmentation import MaskSurvey, Sample, survey_pairs
from cgeartheye.geo.phase_correlation import TRUSTED, Shift, phase_shift
from cgeartheye.utils.errors import UserError

DISPLACED = 2.0  # pixels from which a pair is named

_LARGEST = 1024  # pixels a side of what is compared
_SAMPLES, _SIDE = 4, 160  # pairs on the contact sheet, pixels of each


def check_pairs(
    data: ChangeData,
    normalization: Normalization | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """Examine change data: folders, files, the pixels of every image and mask, and every pair.

    Args:
        data: the section of a config; `data.workers` processes decode the files.
        normalization: the one that the run will use, where it is known.
        progress: called with the number of files and pairs examined so far and in all.

    Raises:
        UserError: there is no root, so nothing can be looked at.
    """
    found = survey_pairs(data)
    samples = list({sample: None for part in found.parts.values() for sample in part})
    seen = examine_files(found, data, lambda done, all: progress(done, all + len(samples)))
    files = len(seen.facts) + len(seen.masks) + len(seen.unreadable)
    align = partial(_align, found.root, data)
    shifts = examine(
        samples,
        align,
        data.workers,
        lambda done, all: progress(files + done, files + all),
    )
    findings = common_findings(found, seen, data, normalization, _repeated(found, seen))
    findings += _registered(samples, shifts)
    return CheckResult(
        findings, found.legend.classes, seen.counts, _sheet(found, seen, data), "pixels"
    )


def _align(root: Path, data: ChangeData, sample: Sample) -> Shift:
    before, after = (root / image for image in sample.images)
    pair = read_pair(before, after, data.bands, data.stretch)
    top, left = ((length - min(length, _LARGEST)) // 2 for length in pair.shape[1:])
    middle = pair[:, top : top + _LARGEST, left : left + _LARGEST].float()
    return phase_shift(middle[:3].mean(0).numpy(), middle[3:].mean(0).numpy())


def _repeated(found: MaskSurvey, seen: Examined) -> list[Finding]:
    """Look for dates that are the same, swapped, or in several pairs."""
    same: list[str] = []
    whole: dict[frozenset[bytes | str], list[tuple[tuple[bytes | str, ...], str]]] = defaultdict(
        list
    )
    parts_of: dict[bytes | str, dict[str, str]] = defaultdict(dict)
    for part, samples in found.parts.items():
        for sample in samples:
            dates = tuple(pixels_of(seen.facts, image) for image in sample.images)
            if dates[0] == dates[1]:
                same.append(f"{sample.image} = {sample.images[1]}")
            whole[frozenset(dates)].append((dates, f"{sample.image} ({part})"))
            for pixels, image in zip(dates, sample.images, strict=True):
                parts_of[pixels].setdefault(part, image)
    twice: list[str] = []
    swapped: list[str] = []
    for pairs in whole.values():
        if len(pairs) > 1:
            orders = {dates for dates, _ in pairs}
            shown = " = ".join(name for _, name in pairs)
            (twice if len(orders) == 1 else swapped).append(shown)
    shared = [
        " = ".join(f"{image} ({part})" for part, image in places.items())
        for places in parts_of.values()
        if len(places) > 1
    ]
    kinds = {
        "pairs whose two dates are the same image": same,
        "pairs that occur again with their dates swapped": swapped,
        "pairs that occur more than once": twice,
        "images that are in more than one part": shared,
    }
    findings = [
        Finding(
            "warning" if cases is same or cases is twice else "error",
            f"{what}: {len(cases):,}",
            cases,
        )
        for what, cases in kinds.items()
        if cases
    ]
    return findings or [Finding("ok", "no two images have the same pixels")]


def _registered(samples: list[Sample], shifts: list[Shift | str]) -> list[Finding]:
    """List the pairs that are not aligned."""
    sizes, displaced, unclear = [], [], 0
    for sample, shift in zip(samples, shifts, strict=True):
        if isinstance(shift, str):
            continue  # reported already: it cannot be read, or the sizes differ
        if shift.confidence < TRUSTED:
            unclear += 1
            continue
        size = float(np.hypot(shift.rows, shift.columns))
        sizes.append(size)
        if size > DISPLACED:
            displaced.append(
                (
                    size,
                    f"{sample.images[1]} is {shift.rows:+.1f} rows and {shift.columns:+.1f} "
                    f"columns off {sample.image}",
                )
            )
    if not sizes:
        return []
    sentence = f"dates are {np.median(sizes):.1f} pixels apart in the median"
    if unclear:
        sentence += f"; {unclear:,} of {len(sizes) + unclear:,} pairs have too little in common"
    if displaced:
        cases = [case for _, case in sorted(displaced, reverse=True)]
        sentence += f"; by more than {DISPLACED:g} pixels: {len(cases):,}"
        return [Finding("warning", sentence, cases)]
    return [Finding("ok", sentence)]


def _sheet(found: MaskSurvey, seen: Examined, data: ChangeData) -> Image.Image:
    """Show the pairs that change most: before, after, and after with the change tinted."""
    rows: dict[str, list[npt.NDArray[np.uint8]]] = {}
    for part, samples in found.parts.items():
        known = [sample for sample in samples if sample.mask in seen.masks]
        most = sorted(known, key=lambda sample: -seen.masks[sample.mask].pixels[1])
        thumbnails: list[npt.NDArray[np.uint8]] = []
        for sample in most[:_SAMPLES]:
            thumbnails += _thumbnails(found, sample, data)
        if thumbnails:
            rows[part] = thumbnails
    return contact_sheet(rows, _SIDE)


def _thumbnails(found: MaskSurvey, sample: Sample, data: ChangeData) -> list[npt.NDArray[np.uint8]]:
    try:
        before_path, after_path = (found.root / image for image in sample.images)
        pair = read_pair(before_path, after_path, data.bands, data.stretch)
    except UserError:
        return []  # reported already
    labels, _ = read_labels(found.root / sample.mask, found.legend)
    if pair.shape[1:] != labels.shape or not (labels == 1).any():
        return []
    window = window_around(labels, 1, data.image_size)
    before, after = pair[:, *window].split(3)
    tinted = overlay_mask(after.permute(1, 2, 0).numpy(), labels[window].numpy(), found.legend)
    changed = torch.from_numpy(tinted).permute(2, 0, 1)
    return [shrink(image, _SIDE) for image in (before, after, changed)]
