"""Every published config of change detection builds the network that it names."""

from pathlib import Path

import pytest
import torch

from cgeartheye.config import ChangeDetection, Normalization, load
from cgeartheye.models.backbone import SIZES, VisionTransformer
from cgeartheye.tasks.change.module import ChangeTask

CONFIGS = sorted((Path(__file__).parents[2] / "config" / "ChangeDetection").glob("*.py"))


def test_all_are_there() -> None:
    names = ("518-levircd", "224-sysucd", "224-cdd")
    expected = {f"CGEarthEye-{size}-{name}" for size in ("Base", "Giant") for name in names}
    assert {path.stem for path in CONFIGS} == expected


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_builds_and_trains(path: Path) -> None:
    """On the meta device, where 1.1 billion parameters take no memory."""
    config = load(path, ["decoder.side_weights=null"])
    assert isinstance(config, ChangeDetection)
    assert config.backbone.name == path.stem.split("-")[1].lower()
    assert config.data.catalog is not None
    assert config.data.catalog.lower().replace("-", "") == path.stem.split("-")[-1]
    side = config.data.image_size
    assert side == (512 if config.data.catalog == "LEVIR-CD" else 256)
    assert config.data.batch_size == (16 if config.data.catalog == "CDD" else 8)
    with torch.device("meta"):
        vit = VisionTransformer(SIZES[config.backbone.name], grid=16)
        vit.requires_grad_(False)
        task = ChangeTask(vit, Normalization(), ("unchanged", "changed"), config)
        batch = {
            "image1": torch.empty(2, 3, side, side),
            "image2": torch.empty(2, 3, side, side),
            "mask": torch.empty(2, side, side, dtype=torch.uint8),
        }
        losses = task(batch)
    if config.backbone.name == "giant":
        assert task.layers == [9, 19, 29, 39]
    assert losses.keys() == {"cross_entropy"}
    trained = {name.split(".")[0] for name, p in task.named_parameters() if p.requires_grad}
    assert trained == {"decoder"}
