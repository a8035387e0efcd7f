"""Check of detection data: every image and box is read, and all problems are listed."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from cgeartheye.boxes import oriented_of
from cgeartheye.config import DetectionData, Normalization
from cgeartheye.data.checks.box_contact_sheet import box_sheet
from cgeartheye.data.checks.boxes import AnnotatedBoxes, doubles, drawing, placement, scale
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

RARE = 10  # boxes of a class in training


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
        *placement(seen),
        *drawing(seen),
        doubles(seen, classes),
        *_repeated(found, facts),
        *absent("a box", classes, counts),
        *_numbers(found, counts.get("train", [])),
        *_used(found, objects),
        *scale(seen, classes, data),
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
) -> AnnotatedBoxes:
    names = [name for name, one in objects.items() for _ in range(len(one))]
    corners = np.concatenate([np.zeros((0, 4, 2)), *(one.corners for one in objects.values())])
    if data.boxes == "oriented":
        boxes = oriented_of(torch.from_numpy(corners)).numpy()
    else:
        boxes = boxes_of(corners, oriented=False).astype(np.float64)
    sizes = [(facts[name].width, facts[name].height) for name in names]
    scales = [eval_scale(high, wide, data.image_size, data.resize) for wide, high in sizes]
    return AnnotatedBoxes(
        names,
        np.repeat(np.arange(len(objects)), [len(one) for one in objects.values()]),
        _labels(objects),
        corners,
        boxes,
        np.array(sizes, dtype=np.float64).reshape(-1, 2),
        np.array(scales),
    )


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
    """Report how many boxes there are to learn from."""
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
    """List the images without objects, and those that are not used."""
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
    """List classes that hardly count in a test because most of their boxes are difficult."""
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
