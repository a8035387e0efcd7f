"""A run goes on with the data that it began with, or names the image that has changed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cgeartheye.config import ChangeData, DetectionData, SceneData, SegmentationData
from cgeartheye.data import (
    load_change_parts,
    load_detection_parts,
    load_parts,
    load_segmentation_parts,
)
from cgeartheye.tasks.data_identity import FILE, keep_identity
from cgeartheye.utils.errors import UserError


def image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 2, (20, 20), dtype=np.uint8)
    if "Label" not in path.parts:
        pixels = np.repeat(pixels[..., None] * 255, 3, axis=2)
    Image.fromarray(pixels).save(path)


def scenes(root: Path) -> object:
    for n in range(6):
        image(root / f"chips/{'ab'[n % 2]}/{n}.png", n)
    return lambda: load_parts(SceneData(root=root / "chips", image_size=28))


def masks(root: Path) -> object:
    for part in ("train", "val"):
        image(root / part / "Img/0.png", 1)
        image(root / part / "Label/0.png", 2)
    data = SegmentationData(root=root, classes=("x", "y"), image_size=28)
    return lambda: load_segmentation_parts(data)


def pairs(root: Path) -> object:
    for part in ("train", "val"):
        for n, kind in enumerate(("Image1", "Image2", "Label")):
            image(root / part / kind / "0.png", n)
    return lambda: load_change_parts(ChangeData(root=root, image_size=28))


def boxes(root: Path) -> object:
    for part in ("train", "val"):
        image(root / "images" / part / "0.png", 1)
        (root / "labelTxt" / part).mkdir(parents=True)
        (root / "labelTxt" / part / "0.txt").write_text("1 1 5 1 5 4 1 4 ship 0")
    return lambda: load_detection_parts(DetectionData(root=root, classes=("ship",)))


KINDS: list[tuple[Callable, str]] = [
    (scenes, "chips/a/0.png"),
    (masks, "train/Img/0.png"),
    (masks, "val/Label/0.png"),
    (pairs, "train/Image2/0.png"),
    (boxes, "images/train/0.png"),
    (boxes, "labelTxt/train/0.txt"),
]


@pytest.mark.parametrize(("kind", "victim"), KINDS)
def test_a_file_that_was_overwritten_is_named(tmp_path, kind, victim):
    load = kind(tmp_path / "data")
    run = tmp_path / "run"
    keep_identity(run, load(), resume=False)
    keep_identity(run, load(), resume=True)
    path = tmp_path / "data" / victim
    before = path.read_bytes()
    if path.suffix == ".txt":
        path.write_text("1 1 5 1 5 4 1 4 ship 1")
    else:
        image(path, 9)
    with pytest.raises(UserError, match=r"0\.png.* changed since this run began"):
        keep_identity(run, load(), resume=True)
    path.write_bytes(before)
    keep_identity(run, load(), resume=True)


def test_a_copy_is_the_same_and_an_image_less_is_not(tmp_path):
    load = boxes(tmp_path / "data")
    run = tmp_path / "run"
    image(tmp_path / "data/images/train/1.png", 3)
    (tmp_path / "data/labelTxt/train/1.txt").write_text("")
    keep_identity(run, load(), resume=False)
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(tmp_path / "copy", tmp_path / "data")
    os.utime(tmp_path / "data/images/train/1.png", (1, 1))
    keep_identity(run, load(), resume=True)
    (tmp_path / "data/images/train/1.png").unlink()
    (tmp_path / "data/labelTxt/train/1.txt").unlink()
    with pytest.raises(UserError, match=r"images/train/1\.png changed"):
        keep_identity(run, load(), resume=True)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"train": 3}', "[" * 100_000])
def test_a_damaged_note_is_named_and_none_is_no_hindrance(tmp_path, content):
    load = masks(tmp_path / "data")
    run = tmp_path / "run"
    keep_identity(run, load(), resume=True)
    (run / FILE).write_text(content)
    with pytest.raises(UserError, match="is damaged"):
        keep_identity(run, load(), resume=True)
