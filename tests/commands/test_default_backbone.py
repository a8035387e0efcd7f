import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import default_backbone
from benchmarks.default_backbone import Dense
from toy_things import CLASSES, write_things

from cgeartheye.models.backbone import SIZES, VisionTransformer
from cgeartheye.models.backbone.checkpoint_io import WeightsMetadata, save_tensors


@pytest.fixture
def weights(shallow: None, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    state = VisionTransformer(SIZES["tiny"], grid=4, layer_scale=0.5).state_dict()
    facts = WeightsMetadata((127.5,) * 3, (127.5,) * 3, gsd=0.5, image_size=56)
    save_tensors(tmp_path / "toy.safetensors", state, facts.to_metadata())
    return tmp_path / "toy.safetensors"


def test_a_small_run_of_everything(
    chips: Path,
    land: Path,
    pairs: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name, folder in (("chips", chips), ("land", land), ("pairs", pairs)):
        (data / name).symlink_to(folder)
    for part, count in (("trainval", 4), ("test", 3)):
        things = {f"{part}{number}": (number, 112, 112) for number in range(count)}
        write_things(data / "NWPU-VHR10", part, things)
    few = Dense(("wood", "field", "water"), image_size=28, zoom=1.5, views=1, steps=2)
    change = Dense(None, image_size=28, zoom=1.0, views=1, steps=2, class_weights=(1, 3))
    monkeypatch.setattr(default_backbone, "SIZES", (28,))
    monkeypatch.setattr(default_backbone, "SCENES", {"chips": {}})
    monkeypatch.setattr(default_backbone, "DENSE", {"land": few, "pairs": change})
    tasks = ("chips", "land", "pairs", *default_backbone.BOXES)
    monkeypatch.setattr(default_backbone, "TASKS", tasks)
    small = ["data.image_size=56", "training.epochs=1", "decoder.decoder_layers=1", "cache.views=1"]
    small.append(f"data.classes=[{', '.join(CLASSES)}]")
    monkeypatch.setattr(default_backbone, "BOX_OVERRIDES", small)
    out = tmp_path / "out"
    backbones = ["histograms", str(weights), f"timm/resnet18={weights}"]
    options = ["--backbones", *backbones, "--part", "val", "--out", str(out), "--seeds", "2"]
    monkeypatch.setattr(sys, "argv", ["default_backbone.py", str(data), *options])

    default_backbone.main()

    found = json.loads((out / "default_backbone.json").read_text())
    results = {(result["backbone"], result["task"]): result for result in found["results"]}
    assert len(results) == len(backbones) * len(tasks)
    for task in tasks:
        figures = results[str(weights), task]["figures"]
        for values in figures.values():
            assert len(values) == (1 if task in default_backbone.BOXES else 2)
            assert all(0 <= value <= 100 for value in values)
        assert results[str(weights), task]["cpu_seconds"] > 0
    # These chips differ by colour.
    assert np.mean(results["histograms", "chips"]["figures"]["linear, 28 px"]) > 50
    assert "scenes only" in results["histograms", "land"]["left_out"]
    # A network that does not fit its weights, and one that the task cannot use.
    assert "toy.safetensors" in results[f"timm/resnet18={weights}", "chips"]["left_out"]
    assert "multiple" in results[f"timm/resnet18={weights}", "land"]["left_out"]
    assert found["settings"]["dense"]["land"]["steps"] == 2
    assert found["machine"]["torch"] == torch.__version__
    assert "linear, 28 px" in capsys.readouterr().out


def test_names_of_backbones() -> None:
    name = default_backbone.backbone_of
    assert name("tiny") == {"name": "tiny"}
    assert name("random") == {"name": "tiny", "weights": "random"}
    assert name("w.safetensors") == {"name": "tiny", "weights": "w.safetensors"}
    assert name("timm/x=w.pth") == {"name": "timm/x", "weights": "w.pth"}
