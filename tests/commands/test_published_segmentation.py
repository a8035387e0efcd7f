"""Every published segmentation config builds the network that it names."""

from pathlib import Path

import pytest
import torch

from cgeartheye.config import Normalization, SemanticSegmentation, load
from cgeartheye.data.index.catalog import MASKED
from cgeartheye.models.backbone import SIZES, VisionTransformer
from cgeartheye.tasks.segmentation.module import SegmentationTask
from cgeartheye.training.optimizer import learning_rate

CONFIGS = sorted((Path(__file__).parents[2] / "config" / "SemanticSegmentation").glob("*.py"))


def test_all_are_there() -> None:
    sets = ("ISAID", "cropland", "LoveDA", "Potsdam")
    expected = {f"CGEarthEye-{size}-518-{name}" for size in ("Base", "Giant") for name in sets}
    assert {path.stem for path in CONFIGS} == expected


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_builds_and_trains(path: Path) -> None:
    """On the meta device, where 1.1 billion parameters take no memory."""
    config = load(path)
    assert isinstance(config, SemanticSegmentation)
    size, side, catalog = path.stem.removeprefix("CGEarthEye-").split("-")
    assert (config.backbone.name, str(config.data.image_size)) == (size.lower(), side)
    assert config.backbone.normalization == Normalization()
    assert config.data.catalog is not None
    assert config.data.catalog.lower() == catalog.lower()
    classes = MASKED[config.data.catalog].classes
    with torch.device("meta"):
        vit = VisionTransformer(SIZES[config.backbone.name], grid=37)
        vit.requires_grad_(False)
        task = SegmentationTask(vit, Normalization(), classes, config)
        batch = {
            "image": torch.empty(2, 3, 518, 518),
            "mask": torch.empty(2, 518, 518, dtype=torch.uint8),
        }
        losses = task(batch)
    if size == "Giant":
        assert task.layers == [9, 19, 29, 39]
    assert losses.keys() == {"cross_entropy", "auxiliary"}
    trained = {name.split(".")[0] for name, p in task.named_parameters() if p.requires_grad}
    assert trained == {"decoder"}
    assert len(task.decoder.decode_head.conv_seg.weight) == len(classes)


def test_the_published_schedule_of_isaid() -> None:
    config = load(CONFIGS[0].parent / "CGEarthEye-Giant-518-ISAID.py")
    rate = [learning_rate(step, 4247, 8, config.training) for step in (0, 3000, 81_500, 159_999)]
    assert rate[:3] == pytest.approx([6e-11, 6e-5, 3e-5])
    assert 0 < rate[3] < 1e-9
    assert (config.data.batch_size, config.training.decoder_lr_mult) == (8, 10)
