"""Predictions of trained models: those that the command line writes."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from toy_command import command

import cgeartheye as cge


def read_pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def test_classes_are_those_of_the_command(workspace: Path, tmp_path: Path) -> None:
    run, chips = workspace / "runs" / "mine", workspace / "chips"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        command("predict", run, chips, "--out", tmp_path / "all.json")
        predictions = cge.load_model(run).predict(chips)
        predictions.save(tmp_path / "own.json")
    written = json.loads((tmp_path / "all.json").read_text())
    assert json.loads((tmp_path / "own.json").read_text()) == written
    for row, one in zip(written, predictions, strict=True):
        assert (row["class"], row["score"]) == (one.label, pytest.approx(one.score, abs=1e-6))
        assert list(row["probabilities"].values()) == pytest.approx(one.probabilities, abs=1e-6)
    frame = predictions.to_frame()
    assert frame["class"].tolist() == [row["class"] for row in written]
    predictions[1:2].save(tmp_path / "one.csv")
    assert pd.read_csv(tmp_path / "one.csv")["path"].tolist() == [written[1]["path"]]


def test_arrays_are_predicted_as_their_files(workspace: Path) -> None:
    model = cge.load_model(workspace / "runs" / "mine", device="cpu")
    path = workspace / "chips" / "wood" / "0.png"
    pixels = read_pixels(path)
    expected = model.predict(path)[0].probabilities
    for image in (pixels, torch.from_numpy(pixels).permute(2, 0, 1), pixels / 255):
        assert (model.predict(image)[0].probabilities == expected).all()
    two = model.predict(np.stack([pixels, pixels]), batch_size=1)
    assert [one.name for one in two] == ["image_0", "image_1"]
    assert (two[0].image == pixels).all()
    with pytest.raises(cge.UserError, match="no CRS"):
        two.save(workspace / "two.geojson")


def test_masks_are_those_of_the_command(land_run: Path, tmp_path: Path) -> None:
    images = land_run.parent / "val" / "Img"
    command("predict", land_run, images, "--out", tmp_path / "command")
    model = cge.load_model(land_run)
    predictions = model.predict(images)
    predictions.save(tmp_path / "own")
    arrays = model.predict([read_pixels(images / "0.png"), images / "1.png"])
    for number, (one, other) in enumerate(zip(predictions, arrays, strict=True)):
        written = read_pixels(tmp_path / "command" / f"{number}.png")
        assert (one.mask == written).all()
        assert (other.mask == written).all()
        assert (read_pixels(tmp_path / "own" / f"{number}.png") == written).all()
        assert one.shares["wood"] == pytest.approx((written == 0).mean())
        blend = one.picture().astype(int) * 2 - one.image
        assert len(np.unique(blend[written == written[0, 0]] // 2, axis=0)) <= 4  # one color
    assert len(predictions.to_frame()) == 6
    arrays.save(tmp_path / "arrays")
    assert sorted(p.name for p in (tmp_path / "arrays").iterdir()) == ["1.png", "image_0.png"]


def test_change_of_folders_and_of_arrays(change_run: Path, tmp_path: Path) -> None:
    before, after = (change_run.parent / "val" / name for name in ("Image1", "Image2"))
    command("predict", change_run, before, after, "--out", tmp_path / "command")
    model = cge.load_model(change_run)
    folders = model.predict(before, after)
    arrays = model.predict(*(read_pixels(folder / "1.png") for folder in (before, after)))
    written = [read_pixels(tmp_path / "command" / f"{number}.png") for number in (0, 1)]
    assert all((one.mask == mask).all() for one, mask in zip(folders, written, strict=True))
    assert (arrays[0].mask == written[1]).all()
    assert (folders[1].image == read_pixels(after / "1.png")).all()
    with pytest.raises(cge.UserError, match="two dates: give `after`"):
        model.predict(before)
    with pytest.raises(cge.UserError, match="2 images of the first date and 1 of the second"):
        model.predict(before, read_pixels(after / "1.png"))
    with pytest.raises(cge.UserError, match="image_0 has 64 x 60 pixels, but its other date"):
        model.predict(read_pixels(before / "1.png"), np.zeros((9, 9, 3), np.uint8))


def test_boxes_are_those_of_the_command(things_run: Path, tmp_path: Path) -> None:
    images = things_run.parent / "images" / "val"
    command("predict", things_run, images, "--out", tmp_path / "all.csv")
    written = pd.read_csv(tmp_path / "all.csv")
    model = cge.load_model(things_run)
    frame = model.predict(images).to_frame()
    assert frame["class"].tolist() == written["class"].tolist()
    columns = [f"{axis}{n}" for n in range(4) for axis in "xy"]
    assert np.allclose(frame[columns], written[columns], atol=1e-3)
    assert np.allclose(frame["score"], written["score"], atol=1e-6)
    every = model.predict(read_pixels(images / "v0.png"), score_threshold=0.0)[0]
    assert len(every) >= written["path"].eq(str(images / "v0.png")).sum() > 0
    assert every.boxes.shape == (len(every), 5)
    assert len(every.above(1.0)) == 0
    assert (np.diff(every.scores) <= 0).all()
    assert every.picture().dtype == np.uint8


def test_a_model_describes_itself(workspace: Path, things_run: Path) -> None:
    model = cge.load_model(workspace / "runs" / "mine")
    assert model.image_size == 28
    assert model.gsd == pytest.approx(0.75 * 40 / 29)
    assert not model.module.training
    for part in ("scene classification", "brick, field, water, wood", "tiny, frozen", "1.03 m/px"):
        assert part in model._repr_html_()
    predictions = model.predict(workspace / "chips")
    shown = predictions._repr_html_()
    assert shown.count("<img") == 8
    assert "8 more" in shown
    assert len(predictions.plot(max_images=3)) == 3
    assert predictions[0].plot().get_title() == predictions[0].caption()
    with pytest.raises(cge.UserError, match="sees one date"):
        model.predict(workspace / "chips", workspace / "chips")
    with pytest.raises(cge.UserError, match="no trained model in"):
        cge.load_model(workspace / "chips")
    with pytest.raises(cge.UserError, match="no such field"):
        cge.load_model(things_run, **{"window.overlp": 0.5})
