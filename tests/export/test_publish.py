"""An exported folder as an application: the same files, the same map, carried in a ZIP file."""

import io
import json
import sys
from pathlib import Path

import pytest
import rasterio
from stac_model.schema import MLModelProperties

sys.path.append(str(Path(__file__).parents[1]))  # the toys

import toy_runs
from cgeartheye.apps.card import CARD, read_card
from cgeartheye.apps.publish import publish
from cgeartheye.apps.registry import FACTS, Registry
from cgeartheye.commands.export import export
from cgeartheye.commands.map import map_scenes
from cgeartheye.jobs.runner import Runner
from cgeartheye.utils.errors import UserError


def test_an_exported_graph_is_published_as_it_is(
    onnx: dict[str, Path], runs: dict[str, Path], tmp_path: Path
) -> None:
    source = onnx["segmentation"]
    card = publish(source, "Land", registry=tmp_path / "apps")
    assert (card.files, card.engine, card.precision) == (("model.onnx",), "onnx", "fp32")
    of_run = publish(runs["segmentation"], "Land", name="run", registry=tmp_path / "apps")
    assert (of_run.files, of_run.engine) == (("model.safetensors",), "torch")
    assert card.parameters == of_run.parameters
    assert (card.mean, card.std) == (of_run.mean, of_run.std)
    folder = tmp_path / "apps" / "land"
    assert (folder / "model.onnx").read_bytes() == (source / "model.onnx").read_bytes()
    assert (folder / "thumbnail.jpg").exists()
    item = json.loads((folder / CARD).read_text())
    MLModelProperties.model_validate(
        {k: v for k, v in item["properties"].items() if k.startswith("mlm:")}
    )
    assert item["assets"]["weights"]["href"] == "./model.onnx"
    assert str(tmp_path.parent) not in (folder / FACTS).read_text()

    # In a ZIP file to another machine, where a worker makes a job's map with it.
    Registry(tmp_path / "apps").export("land", tmp_path / "land.zip")
    other = Registry(tmp_path / "other")
    assert other.take(tmp_path / "land.zip") == read_card(folder)
    scene = toy_runs.land_scene(tmp_path / "scene.tif")
    answers = io.StringIO()
    Runner(answers).run(
        {
            "kind": "map",
            "model": str(other.path("land")),
            "scenes": [str(scene)],
            "after": None,
            "options": {},
            "out": str(tmp_path / "job"),
        }
    )
    assert json.loads(answers.getvalue().splitlines()[-1])["ended"] == "successful"
    map_scenes(source, [scene], tmp_path / "map", {}, [])
    maps = []
    for made in ("job", "map"):
        with rasterio.open(tmp_path / made / "map.tif") as file:
            maps.append(file.read(1))
    assert (maps[0] == maps[1]).all()


def test_fewer_bits_stay_fewer(runs: dict[str, Path], tmp_path: Path) -> None:
    source = export(runs["segmentation"], "torch", "bf16", out=tmp_path / "bf16")
    card = publish(source, "Land", registry=tmp_path / "apps")
    assert (card.engine, card.precision) == ("torch", "bf16")
    assert card.weights_bytes == (source / "model.safetensors").stat().st_size


def test_a_description_of_other_files_is_refused(onnx: dict[str, Path], tmp_path: Path) -> None:
    publish(onnx["segmentation"], "Land", registry=tmp_path / "apps")
    facts = tmp_path / "apps" / "land" / FACTS
    told = json.loads(facts.read_text())
    told["export"]["files"] = ["../../beside.onnx"]
    facts.write_text(json.dumps(told))
    with pytest.raises(UserError, match="not the one of its card"):
        Registry(tmp_path / "other").take(tmp_path / "apps" / "land")
