"""Scenes mapped by trained models, through the command line."""

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from PIL import Image
from rasterio.crs import CRS
from toy_land import draw
from toy_things import draw_things

from cgeartheye.cli import main
from cgeartheye.commands import tasks
from cgeartheye.config import load
from cgeartheye.inference.sliding_window import slide
from cgeartheye.tasks import model_io
from cgeartheye.tasks.registry import pipeline_for

pytestmark = pytest.mark.usefixtures("shallow")
NORTH_UP = Affine(0.75, 0, 500_000, 0, -0.75, 4_400_000)


def command(*arguments: object) -> None:
    """Run a command that must end well."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert not caught.value.code


def write_scene(path: Path, image: np.ndarray) -> Path:
    """Write a GeoTIFF of 0.75 m pixels."""
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "crs": CRS.from_epsg(32650)}
    height, width, _ = image.shape
    with rasterio.open(
        path, "w", **profile, height=height, width=width, transform=NORTH_UP
    ) as file:
        file.write(image.transpose(2, 0, 1))
    return path


def test_a_segmenter_maps_what_it_predicts_for_chips(land_config: Path, tmp_path: Path) -> None:
    config = load(land_config, ["training.epochs=1", "data.gsd=0.75"])
    tasks.train(config)
    run = tmp_path / "run"
    picture, _ = draw(5, 150, 203)
    scene = write_scene(tmp_path / "scene.tif", picture)
    out = tmp_path / "map"
    command("map", run, scene, "--out", out, "--vector-format", "gpkg", "--probabilities")

    facts = json.loads((out / "map.json").read_text())
    assert facts["settings"]["model_gsd"] == 0.75
    assert not facts["model_grid"]["resampled"]
    task, _ = tasks.load(pipeline_for(load(run / "config.yaml")), run, torch.device("cpu"))
    image = torch.from_numpy(picture).permute(2, 0, 1)
    (expected,) = slide([image], task.eval().logits, 56, config.window.overlap, 8)
    with rasterio.open(out / "map.tif") as file, rasterio.open(out / "probabilities.tif") as deep:
        assert file.transform == NORTH_UP
        assert np.abs(deep.read() / 100 - expected.numpy()).max() < 0.0051  # in percent
        clear = expected.topk(2, 0).values
        clear = (clear[0] - clear[1] > 1e-3).numpy()
        assert clear.mean() > 0.9
        assert (file.read(1) == expected.argmax(0).numpy())[clear].all()
        legend = load(run / "config.yaml").data
        assert [c["name"] for c in facts["classes"]] == list(legend.classes)
    polygons = geopandas.read_file(out / "map.gpkg")
    assert set(polygons["class"]) <= {"wood", "field", "water"}
    assert polygons.area.sum() == pytest.approx(150 * 203 * 0.75**2)


def test_a_classifier_maps_cells(config_file: Path, tmp_path: Path) -> None:
    # Chips of 40 pixels of 0.75 m are shrunk to 29 pixels, of which 28 are seen.
    tasks.train(load(config_file, ["training.epochs=1", "data.gsd=0.75"]))
    run = tmp_path / "run"
    assert model_io.read_model(run).gsd == pytest.approx(0.75 * 40 / 29)
    scene = write_scene(tmp_path / "scene.tif", draw(5, 120, 200)[0])
    out = tmp_path / "map"
    command("map", run, scene, "--out", out, "--vector-format", "geojson")
    cells = geopandas.read_file(out / "map.geojson")
    assert len(cells) == 4 * 6
    assert set(cells["class"]) <= {"brick", "field", "water", "wood"}
    assert cells["confidence"].between(0.25, 1).all()


def test_the_gsd_is_read_from_the_images(land_config: Path, tmp_path: Path) -> None:
    root = tmp_path / "placed"
    for part in ("train", "val"):
        (root / part / "Img").mkdir(parents=True)
        (root / part / "Label").mkdir()
        for number in range(2):
            image, mask = draw(number, 60, 60)
            write_scene(root / part / "Img" / f"{number}.tif", image)
            Image.fromarray(mask).save(root / part / "Label" / f"{number}.png")
    tasks.train(load(land_config, [f"data.root={root}", "training.epochs=1", "backbone.gsd=0.3"]))
    assert model_io.read_model(tmp_path / "run").gsd == pytest.approx(0.75, rel=1e-3)


def test_bands_of_the_training_are_those_of_the_map(land_config: Path, tmp_path: Path) -> None:
    tasks.train(load(land_config, ["training.epochs=1"]))
    run, scene = tmp_path / "run", write_scene(tmp_path / "scene.tif", draw(5, 60, 70)[0])
    swapped = tmp_path / "swapped.tif"
    with rasterio.open(scene) as file, rasterio.open(swapped, "w", **file.profile) as other:
        other.write(file.read()[::-1])
    command("map", run, scene, "--out", tmp_path / "one")
    command("map", run, swapped, "--out", tmp_path / "two", "--set", "data.bands=[3,2,1]")
    command("map", run, swapped, "--out", tmp_path / "three", "--bands", 3, 2, 1)
    maps = []
    for name in ("one", "two", "three"):
        with rasterio.open(tmp_path / name / "map.tif") as file:
            maps.append(file.read(1))
    assert (maps[0] == maps[1]).all()
    assert (maps[0] == maps[2]).all()


def test_mistakes_are_one_sentence(
    land_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks.train(load(land_config, ["training.epochs=1"]))
    run, scene = tmp_path / "run", write_scene(tmp_path / "scene.tif", draw(5, 60, 70)[0])
    arguments = ["map", run, scene, "--out", tmp_path / "map"]
    for options, words in [
        (["--vector-format", "shp"], "one of gpkg"),
        (["--overlap", "1"], "give a share of 0 to 0.9"),
        (["--device", "toaster"], "no device 'toaster'"),
        (["--bands", "1", "2", "4"], "band 4"),
        (["--aoi", "gone.gpkg"], "gone.gpkg"),
        ([tmp_path / "gone.tif"], "gone.tif"),
    ]:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in [*arguments, *options]])
        assert caught.value.code == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ")
        assert words in error
    command(*arguments, "--resume")  # nothing to go on with: it begins


@pytest.mark.parametrize("boxes", ["horizontal", "oriented"])
def test_a_detector_maps_what_it_finds_in_a_large_image(
    things_config: Path, tmp_path: Path, boxes: str
) -> None:
    tasks.train(load(things_config, ["data.gsd=0.75", f"data.boxes={boxes}"]))
    run, out = tmp_path / "run", tmp_path / "map"
    picture = draw_things(7, 260, 200)[0]
    scene = write_scene(tmp_path / "scene.tif", picture)
    wide = "window.overlap=0.7"  # more than the largest object needs
    command("map", run, scene, "--out", out, "--score-threshold", 0, "--set", wide)
    facts = json.loads((out / "map.json").read_text())
    assert facts["kind"] == "objects"
    assert facts["settings"]["score_threshold"] == 0
    assert facts["settings"]["model_max_object_size"] == model_io.read_model(run).max_object_size
    assert facts["overlap_m"] == pytest.approx(0.7 * 112 * 0.75, rel=1e-3)
    found = geopandas.read_file(out / "map.gpkg")
    config = load(run / "config.yaml", ["data.resize=false", wide])
    task, _ = tasks.load(pipeline_for(config), run, torch.device("cpu"))
    image = torch.from_numpy(picture).permute(2, 0, 1)
    with torch.no_grad():
        (expected,) = task.eval().predict({"image": [image], "size": torch.tensor([[260, 200]])})
    sides = (
        expected.boxes[:, 2:4]
        if boxes == "oriented"
        else expected.boxes[:, 2:] - expected.boxes[:, :2]
    )
    longest = 0.75 * sides.amax(1)[:20].sort().values
    best = found.sort_values("score", ascending=False)[:20]
    np.testing.assert_allclose(best["score"], expected.scores[:20], atol=2e-4)
    np.testing.assert_allclose(np.sort(best["length_m"]), longest, rtol=5e-3)
    assert ("heading" in found.columns) == (boxes == "oriented")
