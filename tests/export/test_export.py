"""Exported models answer as the models of the runs do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

from cgeartheye.boxes import overlap
from cgeartheye.commands import tasks
from cgeartheye.commands.export import export
from cgeartheye.commands.map import map_scenes
from cgeartheye.export.graph import write_onnx
from cgeartheye.export.quantize import quantize_openvino
from cgeartheye.inference.engines import open_engine
from cgeartheye.tasks import model_io
from cgeartheye.utils.errors import UserError

BOUND = 1e-4  # of probabilities and scores, 0..1
SLOW = pytest.param("dino", marks=pytest.mark.slow)  # an export of a minute or more
TASKS = ["scene", "segmentation", "change", "light", SLOW]


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


@pytest.mark.parametrize("name", ["light", SLOW])
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


@pytest.mark.parametrize("name", ["scene", "segmentation", "light"])
def test_openvino_computes_the_same_graph(
    runs: dict[str, Path], onnx: dict[str, Path], name: str
) -> None:
    own = load(runs[name])
    engine = open_engine("openvino", onnx[name] / "model.onnx", "fp32")
    images = windows(own, 3)
    with torch.inference_mode():
        for one, two in zip(own.task.outputs(images), engine(images), strict=True):
            assert torch.allclose(
                one, two, atol=20 * BOUND if name == "light" else BOUND, rtol=1e-3
            )


def test_openvino_keeps_the_order_of_the_dates(runs: dict[str, Path]) -> None:
    own, other = load(runs["change"]), load(export(runs["change"], "openvino"))
    pairs = windows(own, 2)
    pairs[:, 3:] = pairs[:, 3:].flip(-1)
    with torch.inference_mode():
        expected = own.task.probabilities(pairs)
        assert torch.allclose(expected, other.task.probabilities(pairs), atol=BOUND)
        turned = own.task.probabilities(pairs.roll(3, 1))
    assert not torch.allclose(expected, turned, atol=100 * BOUND)


def test_int8_opens_at_the_size_of_a_real_model(runs: dict[str, Path], tmp_path: Path) -> None:
    """OpenVINO opens a small int8 graph where it cannot open one of more tokens than channels."""
    openvino = pytest.importorskip("openvino")
    model = tasks.load_model(runs["segmentation"], [], torch.device("cpu"))
    side = 14 * 14
    assert (side // 14) ** 2 > model.task.backbone.embed_dim
    with torch.no_grad():  # as in a trained one; a scale of 1 would be left out
        model.task.backbone.norm.weight.uniform_(0.5, 2)
    write_onnx(model.task, "semantic_segmentation", side, tmp_path / "model.onnx")
    seen = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    graph = quantize_openvino(openvino.convert_model(tmp_path / "model.onnx"), seen)
    opened = openvino.Core().compile_model(graph, "CPU")
    found = torch.from_numpy(opened(seen.numpy())[0])
    with torch.inference_mode():
        expected = model.task.probabilities(seen)
    assert (found - expected).abs().max() < 0.2


def test_int8_agrees_or_is_refused(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs["segmentation"]
    images = [model_io.read_model(run).config.data.root / "train/Img"]
    # With AVX2 alone int8 products are added up in 16 bits: the toy loses more than a point.
    monkeypatch.setattr("cgeartheye.commands.export.LARGEST_LOSS", 4.0)
    folder = export(run, "openvino", "int8", images)
    measured = json.loads((folder / "model.json").read_text())["int8"]
    assert measured["agreement"] > 0.95
    assert abs(measured["miou"] - measured["miou_fp32"]) <= 4
    own, other = load(run), load(run, engine="openvino", precision="int8")
    seen = windows(own, 2)
    with torch.inference_mode():
        one, two = own.task.probabilities(seen), other.task.probabilities(seen)
    assert 0 < (one - two).abs().max() < 0.2
    written = other.files.export
    monkeypatch.setattr("cgeartheye.commands.export.export_model", lambda *_: written)
    monkeypatch.setattr("cgeartheye.commands.export.LEAST_AGREEMENT", 1.1)
    with pytest.raises(UserError, match=r"int8 agrees with float32 on \d"):
        export(run, "openvino", "int8", images)
    assert not list(folder.iterdir())


def test_a_map_by_an_engine_is_that_of_torch(
    runs: dict[str, Path], onnx: dict[str, Path], tmp_path: Path
) -> None:
    assert onnx["segmentation"].exists()
    picture = np.random.default_rng(0).integers(1, 255, (3, 90, 120), dtype=np.uint8)
    scene = tmp_path / "scene.tif"
    place = from_origin(500_000, 4_400_000, 0.75, 0.75)
    with rasterio.open(scene, "w", "GTiff", 120, 90, 3, "EPSG:32650", place, dtype="uint8") as file:
        file.write(picture)
    found = []
    for engine in ("torch", "onnx"):
        facts = map_scenes(runs["segmentation"], [scene], tmp_path / engine, {}, [], engine=engine)
        assert facts["settings"]["model"]["engine"] == engine
        with rasterio.open(tmp_path / engine / "map.tif") as file:
            found.append(file.read(1))
    assert (found[0] == found[1]).mean() > 0.999


def test_a_run_is_no_folder_for_its_export(runs: dict[str, Path], tmp_path: Path) -> None:
    run = runs["segmentation"]
    before = {path: path.read_bytes() for path in run.glob("model.*")}
    with pytest.raises(UserError, match="holds a trained model: give another --out"):
        export(run, "torch", "bf16", out=run)
    assert {path: path.read_bytes() for path in run.glob("model.*")} == before
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file cannot be written \(.*\): give another --out"):
        export(run, "torch", "bf16", out=tmp_path / "file")


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


def test_the_metadata_are_those_of_the_run(runs: dict[str, Path], onnx: dict[str, Path]) -> None:
    own = json.loads((runs["change"] / "model.json").read_text())
    metadata = json.loads((onnx["change"] / "model.json").read_text())
    same = set(own) - {"config", "backbone_fingerprint"}
    assert {name: metadata[name] for name in same} == {name: own[name] for name in same}
    assert list(metadata["export"]["inputs"]) == ["before", "after"]
    assert metadata["export"]["opset"] == 20
    read = model_io.read_model(onnx["change"])
    assert read.config.data == model_io.read_model(runs["change"]).config.data


@pytest.mark.parametrize("name", ["scene", "segmentation", "change", "light", SLOW])
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
