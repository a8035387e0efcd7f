"""Masks of iSAID whose storage tanks and roundabouts have each other's colors."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cgeartheye.config import SegmentationData
from cgeartheye.data.checks.segmentation import check_masks
from cgeartheye.data.index.catalog import ISAID

COLORS = dict(zip(ISAID.classes, ISAID.colors, strict=True))


def draw(root: Path, swapped: bool) -> None:
    """Six patches, each with nine small tanks and a roundabout."""
    tank, roundabout = COLORS["store_tank"], COLORS["Roundabout"]
    if swapped:
        tank, roundabout = roundabout, tank
    for n, part in enumerate(["train"] * 5 + ["val"]):
        mask = np.zeros((56, 56, 3), np.uint8)
        for row in range(3):
            for column in range(3):
                mask[4 + 8 * row : 9 + 8 * row, 4 + 8 * column : 9 + 8 * column] = tank
        mask[34:50, 34:50] = roundabout
        pixels = np.random.default_rng(n).integers(0, 255, mask.shape, dtype=np.uint8)
        for folder, name, image in (
            ("img_dir", f"{n}.png", pixels),
            ("ann_dir", f"{n}_instance_color_RGB.png", mask),
        ):
            path = root / folder / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


def warned(data: SegmentationData) -> list[str]:
    findings = check_masks(data).findings
    return [one.sentence for one in findings if "look swapped" in one.sentence]


@pytest.mark.parametrize("swapped", [False, True])
def test_swapped_colors_are_named_with_the_legend_that_fits(tmp_path, swapped):
    draw(tmp_path, swapped)
    data = SegmentationData(root=tmp_path, catalog="iSAID", image_size=56, workers=0)
    found = warned(data)
    assert len(found) == swapped
    if swapped:
        colors = json.loads(found[0].rpartition("data.colors=")[2])
        fitting = data.model_copy(update={"colors": tuple(map(tuple, colors))})
        assert warned(fitting) == []
        counts = check_masks(fitting).counts["train"]
        assert counts[ISAID.classes.index("store_tank")] == 5 * 9 * 25
