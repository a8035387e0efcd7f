"""Findings that the checks of all kinds of data share."""

import statistics
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Group
from rich.table import Table
from rich.text import Text

from cgeartheye.config import Normalization
from cgeartheye.data.checks.image_stats import ImageStats
from cgeartheye.utils.io import json_text, write_image, write_text

_SHOWN = 5  # examples of a finding in the terminal
_ONLY_REPEATED = "images that occur more than once in the same part"
_MARKS = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "error": ("✗", "red"),
    "skipped": ("–", "dim"),
}


@dataclass(frozen=True)
class Finding:
    """One result of a check: a sentence, and every case that it applies to."""

    severity: Literal["ok", "warning", "error", "skipped"]
    sentence: str
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CheckResult:
    """Result of a check.

    Attributes:
        findings: in the order they were looked for.
        classes: names by index.
        counts: for each part, how many images, labelled pixels or boxes each class has.
        sheet: a few images of every class.
        unit: what was counted.
    """

    findings: list[Finding]
    classes: tuple[str, ...]
    counts: dict[str, list[int]]
    sheet: Image.Image
    unit: Literal["images", "pixels", "boxes"] = "images"

    @property
    def ok(self) -> bool:
        """Return whether no finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)

    @property
    def is_empty(self) -> bool:
        """Return whether nothing was counted, so there is nothing to show either."""
        return not any(map(any, self.counts.values()))


def render(result: CheckResult) -> Group:
    """Lay a result out for the terminal."""
    if result.is_empty:
        return render_findings(result.findings)
    table = Table("class", *result.counts)
    for column in table.columns[1:]:
        column.justify = "right"
    for label, name in enumerate(result.classes):
        table.add_row(
            Text(name),
            *(
                f"{counts[label]:,}"
                if result.unit != "pixels"
                else f"{counts[label] / max(1, sum(counts)):.2%}"
                for counts in result.counts.values()
            ),
        )
    return Group(table, render_findings(result.findings))


def render_findings(findings: Sequence[Finding]) -> Group:
    """Lay findings out for the terminal, with a few examples of each."""
    lines = []
    for finding in findings:
        mark, color = _MARKS[finding.severity]
        lines.append(Text.assemble((f"{mark} ", color), finding.sentence))
        shown = finding.examples[:_SHOWN]
        if len(finding.examples) > _SHOWN:
            shown.append(f"and {len(finding.examples) - _SHOWN:,} more")
        lines += [Text(f"    {example[:300]}", style="dim") for example in shown]
    return Group(*lines)


def write(result: CheckResult, folder: Path) -> None:
    """Write `check.json` with every example of every finding, and `contact_sheet.png`.

    Where nothing was counted, there is no sheet; an older one is removed.
    """
    sheet = folder / "contact_sheet.png"
    if result.is_empty:
        sheet.unlink(missing_ok=True)
    else:
        write_image(sheet, result.sheet)
    counts = {
        part: dict(zip(result.classes, images, strict=True))
        for part, images in result.counts.items()
    }
    findings = [asdict(finding) for finding in result.findings]
    facts = {"ok": result.ok, "findings": findings, result.unit: counts}
    write_text(folder / "check.json", json_text(facts, indent=2) + "\n")


def readable(what: str, count: int, unreadable: list[str]) -> Finding:
    """Return a finding on how many files cannot be read, and why.

    Args:
        what: the files are called so, in the plural.
        count: files in all.
        unreadable: a sentence for each that cannot be read.
    """
    if unreadable:
        sentence = f"{what} that cannot be read: {len(unreadable):,} of {count:,}"
        return Finding("error", sentence, unreadable)
    if not count:
        return Finding("warning", f"there are no {what} to read")
    return Finding("ok", f"all {count:,} {what} can be read")


class Occurrence(NamedTuple):
    """An image in a part.

    Attributes:
        part: its name.
        name: of the image's file.
        pixels: the same for images that have the same pixels.
        answer: what is to be learnt of it.
        shown: the image in words.
    """

    part: str
    name: str
    pixels: bytes | str
    answer: Hashable
    shown: str


def repeated(what: str, occurrences: list[Occurrence]) -> list[Finding]:
    """Look for images that occur twice: the same file, or another with the same pixels.

    Args:
        what: the kind of answer: label or mask.
        occurrences: all images of all parts; none: there is nothing to find.
    """
    if not occurrences:
        return []
    groups: dict[bytes | str, list[Occurrence]] = defaultdict(list)
    for occurrence in occurrences:
        groups[occurrence.pixels].append(occurrence)
    cases: dict[str, list[str]] = defaultdict(list)
    for group in groups.values():
        if len(group) == 1:
            continue
        if len({one.answer for one in group}) > 1:
            kind = f"images that occur with more than one {what}"
        elif len({one.part for one in group}) == 1:
            kind = _ONLY_REPEATED
        elif len({one.name for one in group}) < len(group):
            kind = "files that are in more than one part"
        else:
            kind = "images with an exact copy in another part"
        cases[kind].append(" = ".join(one.shown for one in group))
    return [
        Finding("warning" if kind == _ONLY_REPEATED else "error", f"{kind}: {len(texts):,}", texts)
        for kind, texts in cases.items()
    ] or [Finding("ok", "no two images have the same pixels")]


def absent(what: str, classes: tuple[str, ...], counts: dict[str, list[int]]) -> list[Finding]:
    """Look for classes of which a part has no sample.

    Args:
        what: is counted, e.g. `box`.
        classes: names by index.
        counts: of each part, by class, `[K]`.
    """
    findings = []
    for part, numbers in counts.items():
        without = [name for name, count in zip(classes, numbers, strict=True) if count == 0]
        if without:
            sentence = f"classes without {what} in {part}: {len(without)} of {len(classes)}"
            findings.append(Finding("warning", sentence, without))
    return findings


def describe_sizes(facts: list[ImageStats]) -> tuple[str, int]:
    """Return a description of the images' sizes, and the median of their short sides in pixels."""
    sides = sorted(min(seen.width, seen.height) for seen in facts)
    median = statistics.median_low(sides)
    longest = max(max(seen.width, seen.height) for seen in facts)
    return (
        f"short sides of the images: {span(sides[0], sides[-1])} pixels, {median} in the median; "
        f"the longest side: {longest:,}"
    ), median


def whole_patches(side: int) -> int:
    """Return the smallest input of a ViT/14 that has so many pixels a side, or more."""
    return -(-side // 14) * 14


def depth(facts: dict[str, ImageStats], stretch: tuple[float, float] | None) -> list[Finding]:
    """Describe how images of more than 8 bits become 8."""
    deep = [name for name, seen in facts.items() if seen.bits > 8]
    if not deep:
        return []
    sentence = f"images of more than 8 bits a band: {len(deep):,}"
    if stretch:
        low, high = stretch
        return [Finding("ok", f"{sentence}; {low:g} becomes black and {high:g} white")]
    sentence += (
        "; each is stretched by its own percentiles, so equal surfaces differ from image to image: "
        "set data.stretch to the values that become black and white"
    )
    return [Finding("warning", sentence, deep)]


def colors(facts: list[ImageStats], normalization: Normalization | None) -> Finding:
    """Compare the training pixels with the normalisation."""
    pixels = sum(seen.width * seen.height for seen in facts)
    mean = np.sum([seen.sums for seen in facts], axis=0) / pixels
    variance = np.sum([seen.squares for seen in facts], axis=0) / pixels - mean**2
    std = np.sqrt(variance.clip(0))
    sentence = f"training pixels: mean {_triple(mean)}, standard deviation {_triple(std)}"
    if normalization is None:
        return Finding("ok", sentence)
    center = (mean - normalization.mean) / normalization.std
    spread = std / normalization.std
    sentence += f"; normalised: {_triple(center, 2)} and {_triple(spread, 2)}"
    if (abs(center) > 1).any() or (spread < 0.5).any() or (spread > 2).any():
        sentence += (
            ", far from 0 and 1: check that backbone.normalization is what the weights were "
            "trained with, and that data.bands and data.stretch are right"
        )
        return Finding("warning", sentence)
    return Finding("ok", sentence)


def span(low: int, high: int) -> str:
    """Return `12` or `12 to 1,300`."""
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _triple(values: npt.NDArray[np.float64], digits: int = 1) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)
