"""Every published detection config builds the network that it names."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from cgeartheye.config import Normalization, ObjectDetection, load
from cgeartheye.data.index.catalog import BOXED
from cgeartheye.models.backbone import SIZES, VisionTransformer
from cgeartheye.tasks.detection.module import DetectionTask
from cgeartheye.training.optimizer import learning_rate

FOLDER = Path(__file__).parents[2] / "config" / "ObjectDetection"
CONFIGS = sorted(FOLDER.rglob("*-784-*.py"))  # those of the publication


def test_all_are_there() -> None:
    kinds = {"HBB": "DIOR", "OBB": "DIORR"}
    assert {path.relative_to(FOLDER).with_suffix("").as_posix() for path in CONFIGS} == {
        f"{kind}/CGEarthEye-{size}-784-{name}"
        for kind, name in kinds.items()
        for size in ("Base", "Giant")
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_builds(path: Path) -> None:
    """On the meta device, where 1.1 billion parameters take no memory."""
    config = load(path)
    assert isinstance(config, ObjectDetection)
    size, side, _ = path.stem.removeprefix("CGEarthEye-").split("-")
    assert (config.backbone.name, str(config.data.image_size)) == (size.lower(), side)
    assert config.data.catalog is not None
    classes = BOXED[config.data.catalog].classes
    assert len(classes) == 20
    with torch.device("meta"):
        vit = VisionTransformer(SIZES[config.backbone.name], grid=56)
        vit.requires_grad_(False)
        task = DetectionTask(vit, Normalization(), classes, config)
        maps = task.encode(torch.empty(1, 3, 784, 784))
    if size == "Giant":
        assert task.layers == [13, 26, 39]
    assert maps.shape == (1, 3, vit.embed_dim, 56, 56)
    trained = {name.split(".")[0] for name, p in task.named_parameters() if p.requires_grad}
    assert trained == {"decoder"}
    assert task.oriented == (path.parent.name == "OBB")
    assert task.decoder.query_embedding.weight.shape == (900, 256)
    assert (len(task.decoder.encoder.layers), len(task.decoder.decoder.layers)) == (6, 6)
    assert task.decoder.bbox_head.reg_branches[0][4].out_features == (5 if task.oriented else 4)


def test_the_published_schedule() -> None:
    config = load(FOLDER / "HBB" / "CGEarthEye-Giant-784-DIOR.py")
    steps = 11_725 // 4
    rates = [learning_rate(step, steps, 4, config.training) for step in (0, 2 * steps, 60 * steps)]
    assert rates == pytest.approx([1e-7, 1e-4, 0], abs=1e-12)
    assert (config.training.clip_norm, config.data.batch_size) == (0.1, 4)


@pytest.mark.parametrize("verb", ["train", "test"])
@pytest.mark.parametrize(("own", "other"), [("hbb", "obb"), ("obb", "hbb")])
def test_a_tool_of_the_other_boxes_names_the_right_one(
    verb: str,
    own: str,
    other: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = next((FOLDER / other.upper()).glob("*-784-*.py"))
    tool = FOLDER.parents[1] / "tools" / f"{verb}_{own}.py"
    monkeypatch.setattr(sys, "argv", [str(tool), str(config)])
    monkeypatch.syspath_prepend(str(tool.parent))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(tool), run_name="__main__")
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].endswith(f"boxes: run tools/{verb}_{other}.py")
    assert str(config) in error
    assert "Traceback" not in error
