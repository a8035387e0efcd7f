"""Every published config builds the network that it names."""

from pathlib import Path

import pytest
import torch

from cgeartheye.config import Normalization, load
from cgeartheye.data.index.catalog import CATALOG
from cgeartheye.models.backbone import SIZES, VisionTransformer
from cgeartheye.tasks.scene.module import SceneTask

CONFIGS = sorted((Path(__file__).parents[2] / "config" / "SceneClassification").glob("*.py"))
MILLIONS = {"small": 22, "base": 86, "large": 307, "huge": 632, "giant": 1136}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_builds_and_predicts(path: Path) -> None:
    """On the meta device, where 1.1 billion parameters take no memory."""
    config = load(path)
    size, side, catalog = path.stem.removeprefix("CGEarthEye-").split("-")
    assert (config.backbone.name, str(config.data.image_size)) == (size.lower(), side)
    assert config.data.catalog == catalog
    assert config.backbone.normalization == Normalization()
    # A fifth is trained on; the rest is tested.
    assert (config.data.train, config.data.val) == ("val_20per.txt", "train_80per.txt")
    assert (config.data.batch_size, config.training.epochs, config.training.lr) == (32, 100, 1e-4)
    assert (config.training.base_batch_size, config.training.decoder_lr_mult) == (128, 1)
    assert config.data.resize_to == (532 if side == "518" else 230)
    classes = CATALOG[config.data.catalog].classes
    with torch.device("meta"):
        vit = VisionTransformer(SIZES[config.backbone.name], grid=config.data.image_size // 14)
        task = SceneTask(vit, config.backbone.normalization, classes, config)
        images = torch.empty(2, 3, config.data.image_size, config.data.image_size)
        prediction = task.predict({"image": images})
    assert prediction.probabilities.shape == (2, 30 if catalog == "AID" else 45)
    parameters = sum(p.numel() for p in vit.parameters()) / 1e6
    assert parameters == pytest.approx(MILLIONS[size.lower()], rel=0.02)
