"""Finds out whether the masks of iSAID were painted with two classes' colors exchanged."""

import numpy as np
from scipy import ndimage

from cgeartheye.config import SegmentationData
from cgeartheye.data.checks.findings import Finding
from cgeartheye.data.formats.masks import Legend, read_labels
from cgeartheye.data.index.segmentation import MaskSurvey

TANK, ROUNDABOUT = "store_tank", "Roundabout"

_MASKS = 200  # of each class that are looked at
_LEAST = 5  # masks of each class that a finding needs
_TIMES = 2.0  # as many objects in a mask


def swapped_colors(
    found: MaskSurvey, counts: dict[str, list[int]], data: SegmentationData
) -> list[Finding]:
    """Look whether storage tanks and roundabouts have each other's colors.

    There are tools that paint (0, 63, 63) for roundabouts and (0, 191, 127) for tanks, and tools
    that do it the other way round. Tanks stand in groups, of which an image has a dozen;
    roundabouts are single.

    Args:
        found: the survey of the data.
        counts: pixels of each class, by mask.
        data: the section of the config.

    Returns:
        A warning with the legend that fits better, or nothing.
    """
    if data.catalog != "iSAID" or data.colors or data.values:
        return []
    legend = found.legend
    of_class = {name: legend.classes.index(name) for name in (TANK, ROUNDABOUT)}
    objects = {}
    for name, label in of_class.items():
        masks = [mask for mask, pixels in counts.items() if pixels[label]][:_MASKS]
        if len(masks) < _LEAST:
            return []
        objects[name] = float(np.mean([_count(found, legend, mask, label) for mask in masks]))
    if objects[ROUNDABOUT] < _TIMES * objects[TANK]:
        return []
    order = list(range(len(legend.classes)))
    first, second = of_class.values()
    order[first], order[second] = second, first
    colors = [list(legend.colors[label]) for label in order]
    return [
        Finding(
            "warning",
            f"'{TANK}' and '{ROUNDABOUT}' look swapped: a mask has {objects[ROUNDABOUT]:.1f} "
            f"objects called '{ROUNDABOUT}' and {objects[TANK]:.1f} called '{TANK}'; some tools "
            f"exchange their colors; if the contact sheet shows it too, set data.colors={colors}",
        )
    ]


def _count(found: MaskSurvey, legend: Legend, mask: str, label: int) -> int:
    """Return how many objects of a class a mask has."""
    labels, _ = read_labels(found.root / mask, legend)
    return int(ndimage.label(labels.numpy() == label)[1])
