"""Exported models answer as the models of the runs do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cgeartheye.boxes import overlap
from cgeartheye.commands import tasks
from cgeartheye.commands.export import export
from cgeartheye.tasks import model_io

BOUND = 1e-4  # of probabilities and scores, 0..1
TASKS = ["scene", "segmentation", "change", "light", "dino"]


def load(folder: Path, **options: Any) -> tasks.LoadedModel:
    return tasks.load_model(folder, [], torch.device("cpu"), **options)


def windows(model: tasks.LoadedModel, count: int) -> torch.Tensor:
    side = model.config.data.image_size
    channels = 6 if model.config.task == "change_detection" else 3
    torch.manual_seed(count)
    noise = torch.randint(0, 60, (count, channels, side, side))
    ramp = torch.linspace(0, 190, side).expand(side, side)
    return (noise + ramp).to(torch.uint8)


@pytest.mark.parametrize("name", TASKS)
def test_onnx_gives_the_outputs_of_torch_for_any_batch(
    runs: dict[str, Path], onnx: dict[str, Path], name: str
) -> None:
    own, other = load(runs[name]), load(onnx[name])
    assert other.task.engine is not None
    for count in (1, 2, 5):  # the example of the export had 2
        images = windows(own, count)
        with torch.inference_mode():
            expected, found = own.task.outputs(images), other.task.outputs(images)
        assert len(expected) == len(found)
        for one, two in zip(expected, found, strict=True):
            scale = own.config.data.image_size if one.shape[-1] == 4 or name == "dino" else 1
            assert one.shape == two.shape
            assert torch.allclose(one, two, atol=BOUND * scale, rtol=1e-4)


@pytest.mark.parametrize("name", ["light", "dino"])
def test_detectors_find_the_same_boxes(
    runs: dict[str, Path], onnx: dict[str, Path], name: str
) -> None:
    own, other = load(runs[name]), load(onnx[name])
    images = windows(own, 3)
    with torch.inference_mode():
        pairs = zip(
            own.task.predict_windows(images), other.task.predict_windows(images), strict=True
        )
    for one, two in pairs:
        count = min(20, len(one.scores))
        assert len(one.scores) == len(two.scores) > 0
        best = overlap(one.boxes[:count], two.boxes).max(1)
        assert best.values.min() > 0.999
        assert torch.allclose(one.scores, two.scores, atol=BOUND)


@pytest.mark.parametrize("name", ["segmentation", "change", "scene"])
def test_openvino_gives_the_outputs_of_torch(runs: dict[str, Path], name: str) -> None:
    own, other = load(runs[name]), load(export(runs[name], "openvino"))
    images = windows(own, 3)
    with torch.inference_mode():
        for one, two in zip(own.task.outputs(images), other.task.outputs(images), strict=True):
            assert torch.allclose(one, two, atol=BOUND, rtol=1e-3)


def test_torch_keeps_the_backbone_and_the_precision(runs: dict[str, Path]) -> None:
    folder = export(runs["segmentation"], "torch", "bf16")
    own, other = load(runs["segmentation"]), load(folder)
    assert other.config.training.precision == "bf16"
    assert other.files.backbone_fingerprint is None
    assert (folder / "model.safetensors").stat().st_size < 0.6 * sum(
        x.nbytes for x in own.task.state_dict().values()
    )
    images = windows(own, 2)
    with torch.inference_mode():
        one, two = own.task.probabilities(images), other.task.probabilities(images)
    assert (one - two).abs().max() < 0.1
    assert (one.argmax(1) == two.argmax(1)).float().mean() > 0.95


def test_the_description_says_what_the_runs_does(
    runs: dict[str, Path], onnx: dict[str, Path]
) -> None:
    own = json.loads((runs["change"] / "model.json").read_text())
    told = json.loads((onnx["change"] / "model.json").read_text())
    same = set(own) - {"config", "backbone_fingerprint"}
    assert {name: told[name] for name in same} == {name: own[name] for name in same}
    assert list(told["export"]["inputs"]) == ["before", "after"]
    assert told["export"]["opset"] == 20
    read = model_io.read_model(onnx["change"])
    assert read.config.data == model_io.read_model(runs["change"]).config.data


@pytest.mark.parametrize("name", ["scene", "segmentation", "change", "dino"])
def test_figures_of_a_test_are_those_of_torch(
    runs: dict[str, Path], onnx: dict[str, Path], name: str
) -> None:
    config = model_io.read_model(onnx[name]).config
    before = (runs[name] / "report.html").stat().st_mtime_ns
    expected = json.loads((runs[name] / "test.json").read_text())
    found = tasks.test(config, onnx[name])
    assert found.keys() == expected.keys()
    for figure, value in expected.items():
        assert found[figure] == pytest.approx(value or 0, abs=0.5) or np.isnan(found[figure])
    assert (onnx[name] / "report.html").exists()
    assert (runs[name] / "report.html").stat().st_mtime_ns == before  # of torch's own test
