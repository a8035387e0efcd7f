"""Check of scene data: every list and image is read, and all problems are listed."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from cgeartheye.config import Normalization, SceneClassification, SceneData
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
    render,
    repeated,
    span,
    whole_patches,
    write,
)
from cgeartheye.data.checks.image_stats import ImageStats, compute_image_stats, examine
from cgeartheye.data.index.scene import Survey, misplaced, survey

__all__ = ["CheckResult", "Finding", "check_scenes", "render", "write"]

IMBALANCE = 10  # times as many images in the largest class as in the smallest
ENLARGEMENT = 2.5  # times; RESISC45's 256 pixels at 518, a published protocol, are 2.0

_SAMPLES = 6  # images of a class on the contact sheet


def check_scenes(
    config: SceneClassification,
    normalization: Normalization | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """Examine the data of a config: lists, labels, files and the pixels of every image.

    Args:
        config: the run that the data are for; `data.workers` processes decode the images.
        normalization: the one that the run will use, where it is known.
        progress: called with the number of images examined so far and in all.

    Raises:
        UserError: there is no root, so nothing can be looked at.
    """
    data = config.data
    found = survey(data)
    names = list({entry.name: None for entries in found.parts.values() for entry in entries})
    samples = _samples(found)
    wanted = {name for chosen in samples.values() for name in chosen}
    look = partial(_look, found.root, data, wanted)
    facts: dict[str, ImageStats] = {}
    unreadable: list[str] = []
    for name, seen in zip(names, examine(names, look, data.workers, progress), strict=True):
        if isinstance(seen, ImageStats):
            facts[name] = seen
        else:
            unreadable.append(seen)

    counts = {}
    for part, entries in found.parts.items():
        images = Counter(entry.label for entry in entries)
        counts[part] = [images[label] for label in range(len(found.classes))]
    findings = [
        *(Finding("error", problem.sentence, problem.cases) for problem in found.problems),
        *(
            [Finding("warning", "folders without images, which are no classes", found.empty)]
            if found.empty
            else []
        ),
        readable("images", len(names), unreadable),
        *([_placed(found)] if names else []),
        *_repeated(found, facts),
        *_balanced(found.classes, counts),
    ]
    if facts:
        findings += [_sizes(list(facts.values()), data), *depth(facts, data.stretch)]
    train = [entry.name for entry in found.parts.get("train", []) if entry.name in facts]
    if train:
        findings.append(colors([facts[name] for name in train], normalization))
    sheet = contact_sheet(
        {
            name: [
                thumbnail
                for sample in chosen
                if sample in facts and (thumbnail := facts[sample].thumbnail) is not None
            ]
            for name, chosen in samples.items()
        }
    )
    return CheckResult(findings, found.classes, counts, sheet)


def _look(root: Path, data: SceneData, wanted: set[str], name: str) -> ImageStats:
    return compute_image_stats(root / name, data.bands, data.stretch, thumbnail=name in wanted)


def _samples(found: Survey) -> dict[str, list[str]]:
    """Choose images of each class, evenly over the sorted names, from training if it has any."""
    chosen = {}
    for label, name in enumerate(found.classes):
        of_part = [
            sorted(entry.name for entry in entries if entry.label == label)
            for entries in found.parts.values()
        ]
        images = next((images for images in of_part if images), [])
        places = np.linspace(0, len(images) - 1, min(_SAMPLES, len(images))).astype(int)
        chosen[name] = [images[place] for place in places]
    return chosen


def _placed(found: Survey) -> Finding:
    strays = [
        f"{entry.where}: {entry.name} has label {entry.label}, '{found.classes[entry.label]}'"
        for entries in found.parts.values()
        for entry in misplaced(entries, found.classes)
    ]
    if strays:
        sentence = f"images whose label disagrees with their folder: {len(strays):,}"
        return Finding("error", sentence, strays)
    return Finding("ok", "no label disagrees with the folder of its image")


def _repeated(found: Survey, facts: dict[str, ImageStats]) -> list[Finding]:
    return repeated(
        "label",
        [
            Occurrence(
                part,
                entry.name,
                facts[entry.name].digest if entry.name in facts else entry.name,
                entry.label,
                f"{entry.name} ({part}, {found.classes[entry.label]})",
            )
            for part, entries in found.parts.items()
            for entry in entries
        ],
    )


def _balanced(classes: tuple[str, ...], counts: dict[str, list[int]]) -> list[Finding]:
    findings = absent("an image", classes, counts)
    train = [count for count in counts.get("train", []) if count]
    if train:
        fewest, most = min(train), max(train)
        sentence = f"training images a class: {span(fewest, most)}"
        if most > IMBALANCE * fewest:
            findings.append(Finding("warning", f"{sentence}; the rare ones will be learnt poorly"))
        else:
            findings.append(Finding("ok", sentence))
    return findings


def _sizes(facts: list[ImageStats], data: SceneData) -> Finding:
    sentence, median = describe_sizes(facts)
    factor = data.image_size / median
    if factor > ENLARGEMENT:
        enough = whole_patches(median)
        sentence += (
            f"; data.image_size {data.image_size} enlarges them {factor:.1f} times: try "
            f"{enough}, which has {(data.image_size / enough) ** 2:.0f} times fewer patches"
        )
        return Finding("warning", sentence)
    return Finding("ok", sentence)
