"""Every published config builds the network that it names."""

import os
import subprocess
from pathlib import Path

import pytest
import torch

from cgeartheye.config import Normalization, load
from cgeartheye.data.index.catalog import CATALOG
from cgeartheye.models.backbone import SIZES, VisionTransformer
from cgeartheye.tasks.scene.module import SceneTask

CONFIGS = sorted((Path(__file__).parents[2] / "config" / "SceneClassification").glob("*.py"))
SCRIPTS = sorted((Path(__file__).parents[2] / "tools").glob("dist_t*_*.sh"))
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


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_a_script_starts_its_program_on_as_many_processes(script: Path) -> None:
    """The command that it becomes: `echo` takes the place of Python."""
    arguments = ["bash", script, "mine.py", "2", "--work-dir", "run"]
    done = subprocess.run(
        arguments, env=os.environ | {"PYTHON": "echo"}, capture_output=True, text=True, check=True
    )
    program = script.with_name(script.stem.removeprefix("dist_") + ".py")
    start = "-m torch.distributed.run --standalone --nproc_per_node=2"
    assert done.stdout.split() == [*start.split(), str(program), "mine.py", "--work-dir", "run"]
    assert program.exists()
