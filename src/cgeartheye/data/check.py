"""The doctor: looks at everything that a config's data are, and says all that is wrong."""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Group
from rich.table import Table
from rich.text import Text

from cgeartheye.config import Normalisation, SceneClassification, SceneData
from cgeartheye.data.contact import contact_sheet
from cgeartheye.data.examine import Facts, examine
from cgeartheye.data.survey import Entry, Survey, misplaced, survey
from cgeartheye.files import replacing, write_text

IMBALANCE = 10  # times as many images in the largest class as in the smallest
ENLARGEMENT = 2.5  # times; RESISC45's 256 pixels at 518, a published protocol, are 2.0

_SAMPLES = 6  # images of a class on the contact sheet
_SHOWN = 5  # examples of a finding in the terminal
_ONLY_REPEATED = "images that occur more than once in the same part"
_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "red")}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: a sentence, and every case of what it says."""

    severity: Literal["ok", "warning", "error"]
    sentence: str
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CheckResult:
    """What the doctor says.

    Attributes:
        findings: in the order they were looked for.
        classes: names by index.
        counts: for each part, how many images each class has.
        sheet: a few images of every class.
    """

    findings: list[Finding]
    classes: tuple[str, ...]
    counts: dict[str, list[int]]
    sheet: Image.Image

    @property
    def ok(self) -> bool:
        """Whether no finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)


def check_scenes(
    config: SceneClassification,
    normalisation: Normalisation | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckResult:
    """Examine the data of a config: lists, labels, files and the pixels of every image.

    Args:
        config: the run that the data are for; `data.workers` processes decode the images.
        normalisation: the one that the run will use, where it is known.
        progress: called with the number of images examined so far and in all.

    Raises:
        UserError: there is no root, so nothing can be looked at.
    """
    data = config.data
    found = survey(data)
    names = list({entry.name: None for entries in found.parts.values() for entry in entries})
    samples = _samples(found)
    wanted = {name for chosen in samples.values() for name in chosen}
    facts, unreadable = examine(found.root, names, wanted, data, progress)

    counts = {}
    for part, entries in found.parts.items():
        images = Counter(entry.label for entry in entries)
        counts[part] = [images[label] for label in range(len(found.classes))]
    findings = [
        *(Finding("error", problem.sentence, problem.cases) for problem in found.problems),
        _readable(len(names), unreadable),
        _placed(found),
        *_repeated(found, facts),
        *_balanced(found.classes, counts),
    ]
    if facts:
        findings += [_sizes(list(facts.values()), data), *_depth(facts, data)]
    train = [entry.name for entry in found.parts.get("train", []) if entry.name in facts]
    if train:
        findings.append(_colours([facts[name] for name in train], normalisation))
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


def render(result: CheckResult) -> Group:
    """Lay a result out for the terminal."""
    table = Table("class", *result.counts)
    for column in table.columns[1:]:
        column.justify = "right"
    for label, name in enumerate(result.classes):
        table.add_row(Text(name), *(f"{counts[label]:,}" for counts in result.counts.values()))
    lines = []
    for finding in result.findings:
        mark, colour = _MARKS[finding.severity]
        lines.append(Text.assemble((f"{mark} ", colour), finding.sentence))
        shown = finding.examples[:_SHOWN]
        if len(finding.examples) > _SHOWN:
            shown.append(f"and {len(finding.examples) - _SHOWN:,} more")
        lines += [Text(f"    {example[:300]}", style="dim") for example in shown]
    return Group(table, *lines)


def write(result: CheckResult, folder: Path) -> None:
    """Write `contact_sheet.png`, and `check.json` with every example of every finding."""
    with replacing(folder / "contact_sheet.png") as path:
        result.sheet.save(path)
    counts = {
        part: dict(zip(result.classes, images, strict=True))
        for part, images in result.counts.items()
    }
    findings = [asdict(finding) for finding in result.findings]
    facts = {"ok": result.ok, "findings": findings, "images": counts}
    write_text(folder / "check.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


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


def _readable(count: int, unreadable: dict[str, str]) -> Finding:
    if unreadable:
        sentence = f"images that cannot be read: {len(unreadable):,} of {count:,}"
        return Finding("error", sentence, list(unreadable.values()))
    return Finding("ok", f"all {count:,} images can be read")


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


def _repeated(found: Survey, facts: dict[str, Facts]) -> list[Finding]:
    """Look for images that occur twice: the same file, or another with the same pixels."""
    groups: dict[bytes | str, list[tuple[str, Entry]]] = defaultdict(list)
    for part, entries in found.parts.items():
        for entry in entries:
            pixels = facts[entry.name].digest if entry.name in facts else entry.name
            groups[pixels].append((part, entry))
    cases: dict[str, list[str]] = defaultdict(list)
    for group in groups.values():
        if len(group) == 1:
            continue
        if len({entry.label for _, entry in group}) > 1:
            kind = "images that occur with more than one label"
        elif len({part for part, _ in group}) == 1:
            kind = _ONLY_REPEATED
        elif len({entry.name for _, entry in group}) < len(group):
            kind = "files that are in more than one part"
        else:
            kind = "images with an exact copy in another part"
        cases[kind].append(
            " = ".join(
                f"{entry.name} ({part}, {found.classes[entry.label]})" for part, entry in group
            )
        )
    return [
        Finding("warning" if kind == _ONLY_REPEATED else "error", f"{kind}: {len(texts):,}", texts)
        for kind, texts in cases.items()
    ] or [Finding("ok", "no two images have the same pixels")]


def _balanced(classes: tuple[str, ...], counts: dict[str, list[int]]) -> list[Finding]:
    findings = []
    for part, images in counts.items():
        without = [name for name, count in zip(classes, images, strict=True) if count == 0]
        if without:
            sentence = f"classes without an image in {part}: {len(without)} of {len(classes)}"
            findings.append(Finding("warning", sentence, without))
    train = [count for count in counts.get("train", []) if count]
    if train:
        fewest, most = min(train), max(train)
        sentence = f"training images a class: {_span(fewest, most)}"
        if most > IMBALANCE * fewest:
            findings.append(Finding("warning", f"{sentence}; the rare ones will be learnt poorly"))
        else:
            findings.append(Finding("ok", sentence))
    return findings


def _sizes(facts: list[Facts], data: SceneData) -> Finding:
    sides = sorted(min(seen.width, seen.height) for seen in facts)
    median = statistics.median_low(sides)
    longest = max(max(seen.width, seen.height) for seen in facts)
    sentence = (
        f"short sides of the images: {_span(sides[0], sides[-1])} pixels, {median} in the median; "
        f"the longest side: {longest:,}"
    )
    factor = data.image_size / median
    if factor > ENLARGEMENT:
        enough = -(-median // 14) * 14  # whole patches of a ViT/14
        sentence += (
            f"; data.image_size {data.image_size} enlarges them {factor:.1f} times: try "
            f"{enough}, which has {(data.image_size / enough) ** 2:.0f} times fewer patches"
        )
        return Finding("warning", sentence)
    return Finding("ok", sentence)


def _depth(facts: dict[str, Facts], data: SceneData) -> list[Finding]:
    deep = [name for name, seen in facts.items() if seen.bits > 8]
    if not deep:
        return []
    sentence = f"images of more than 8 bits a band: {len(deep):,}"
    if data.stretch:
        low, high = data.stretch
        return [Finding("ok", f"{sentence}; {low:g} becomes black and {high:g} white")]
    sentence += (
        "; each is stretched by its own percentiles, so equal surfaces differ from image to image: "
        "set data.stretch to the values that become black and white"
    )
    return [Finding("warning", sentence, deep)]


def _colours(facts: list[Facts], normalisation: Normalisation | None) -> Finding:
    """Compare the training pixels with the normalisation."""
    pixels = sum(seen.width * seen.height for seen in facts)
    mean = np.sum([seen.sums for seen in facts], axis=0) / pixels
    variance = np.sum([seen.squares for seen in facts], axis=0) / pixels - mean**2
    std = np.sqrt(variance.clip(0))
    sentence = f"training pixels: mean {_triple(mean)}, standard deviation {_triple(std)}"
    if normalisation is None:
        return Finding("ok", sentence)
    centre = (mean - normalisation.mean) / normalisation.std
    spread = std / normalisation.std
    sentence += f"; normalised: {_triple(centre, 2)} and {_triple(spread, 2)}"
    if (abs(centre) > 1).any() or (spread < 0.5).any() or (spread > 2).any():
        sentence += (
            ", far from 0 and 1: check that backbone.normalisation is what the weights were "
            "trained with, and that data.bands and data.stretch are right"
        )
        return Finding("warning", sentence)
    return Finding("ok", sentence)


def _span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _triple(values: npt.NDArray[np.float64], digits: int = 1) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)
