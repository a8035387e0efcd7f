"""The tables that ship can be run as they are."""

from pathlib import Path

import pytest

from cgeartheye.config import BenchmarkTable, read_section
from cgeartheye.models.backbone import build_outline

CONFIG = Path(__file__).parents[2] / "config/Benchmark"


def test_images_of_the_small_table_divide_into_the_patches_of_its_backbones() -> None:
    """A side of 112 px is a multiple of 14, and no cell of a network of 32 px could run."""
    pytest.importorskip("timm")
    table = read_section(CONFIG / "Small.yaml", BenchmarkTable, [])
    sides = {name: entry.data["image_size"] for name, entry in table.datasets.items()}
    for backbone in table.backbones.values():
        bundle = build_outline(backbone, max(sides.values()))
        for name, side in sides.items():
            assert side % bundle.module.patch_size == 0, (name, backbone.name)
