"""A map in which nothing was found is reported."""

from pathlib import Path

import numpy as np
import pytest
from toy_detector import ToyDetector, draw, scatter
from toy_map import Toy, picture, run_toy, write_scene


def test_a_map_of_one_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    red = np.zeros((3, 40, 50), np.uint8)
    red[0] = 200
    run_toy(write_scene(tmp_path / "red.tif", red), tmp_path / "a", Toy(gsd=2.0))
    output = " ".join(capsys.readouterr().out.split())
    assert "everything is taken for red. Likeliest causes: 2 m/px do not suit the model" in output
    assert "try --gsd 0.75" in output
    assert "--bands 1 2 3" in output
    run_toy(write_scene(tmp_path / "all.tif", picture(40, 50)), tmp_path / "b", Toy(gsd=2.0))
    assert "ikeliest causes" not in " ".join(capsys.readouterr().out.split())


def test_a_map_without_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write_scene(tmp_path / "a.tif", picture(60, 70))
    second = write_scene(tmp_path / "b.tif", picture(60, 70))
    run_toy(first, tmp_path / "map", after=second, vector_format=("gpkg",))
    output = " ".join(capsys.readouterr().out.split())
    assert "no change is found: the map is empty, and has no polygons" in output
    assert "--coregister" in output


def test_a_map_without_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boxes, labels = scatter(90, 90, 0, 12, True, 2)
    scene = write_scene(tmp_path / "scene.tif", draw(90, 90, boxes, labels))
    facts = run_toy(scene, tmp_path / "map", ToyDetector(oriented=True))
    assert facts["objects"] == 0
    assert "no object is found: the map is empty. Likeliest" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize(("text", "named"), [('{"f1": 0.0}', True), ('{"f1": 71.0}', False)])
def test_a_model_that_has_learned_little_is_named(
    tmp_path: Path, text: str, named: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    red = np.zeros((3, 40, 50), np.uint8)
    red[0] = 200
    (tmp_path / "test.json").write_text(text)
    scene = write_scene(tmp_path / "red.tif", red)
    run_toy(scene, tmp_path / "a", Toy(), model={"path": str(tmp_path / "model.safetensors")})
    output = " ".join(capsys.readouterr().out.split())
    assert ("has learned little (f1 0.0 % in its own test)" in output) == named
