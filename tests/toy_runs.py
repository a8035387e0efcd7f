"""Small trained runs that several rooms test with, and a scene for them."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from tests.quicker import leave_charts_out

import cgeartheye as cge

sys.path.append(str(Path(__file__).parent / "commands"))  # the toys

from toy_change import draw_pair
from toy_land import draw
from toy_things import CLASSES as THINGS
from toy_things import write_things

LAND = ("wood", "field", "water")
TRAINING = {"epochs": 1, "log_every": 1, "device": "cpu", "lr": 1e-2}


def train_land(root: Path, epochs: int = 1) -> Path:
    """Train a segmenter of three kinds of land at 0.75 m/px; return its run directory."""
    for part, count in (("train", 4), ("val", 2)):
        for kind in ("Img", "Label"):
            (root / part / kind).mkdir(parents=True)
        for seed in range(count):
            for kind, picture in zip(("Img", "Label"), draw(seed, 56, 70), strict=True):
                Image.fromarray(picture).save(root / part / kind / f"{seed}.png")
    data = {
        "root": root,
        "classes": list(LAND),
        "image_size": 56,
        "workers": 0,
        "gsd": 0.75,
    }
    return _train(
        {
            "task": "semantic_segmentation",
            "backbone": {"name": "tiny", "weights": "random"},
            "data": data,
            # Features alone, so that its maps have few specks: simplified, these lose area.
            "decoder": {"kind": "light", "channels": 32, "pixels": False},
            "training": TRAINING | {"epochs": epochs},
        },
        root,
    )


def train_change(root: Path) -> Path:
    """Train a detector of change; its data are beside it, `val/Image1` and so on."""
    for part, count in (("train", 4), ("val", 2)):
        for seed in range(count):
            before, after, mask = draw_pair(seed, 60, 64)
            pictures = {"Image1": before, "Image2": after, "Label": mask.astype(np.uint8) * 255}
            for kind, picture in pictures.items():
                (root / part / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(root / part / kind / f"{seed}.png")
    return _train(
        {
            "task": "change_detection",
            "backbone": {"name": "tiny", "weights": "random", "layer_scale": 0.5},
            "data": {"root": root, "image_size": 56, "workers": 0, "gsd": 0.75},
            "decoder": {"kind": "light", "channels": 32},
        },
        root,
    )


def train_things(root: Path) -> Path:
    """Train a detector of oriented objects; its data are beside it, `images/val` and so on."""
    write_things(root, "train", {f"t{n}": (n, 112, 112) for n in range(4)})
    write_things(root, "val", {"v0": (100, 112, 112), "v1": (101, 80, 112)})
    return _train(
        {
            "task": "object_detection",
            "backbone": {"name": "tiny", "weights": "random", "layer_scale": 0.5},
            "data": {
                "root": root,
                "boxes": "oriented",
                "annotations": "Annotations/Oriented Bounding Boxes",
                "classes": THINGS,
                "image_size": 112,
                "workers": 0,
                "gsd": 0.75,
            },
            "decoder": {"kind": "light", "channels": 32},
        },
        root,
    )


def write_scene(path: Path, image: np.ndarray, gsd: float = 0.75) -> Path:
    """Write a GeoTIFF in UTM, tiled so that it can be read in parts."""
    height, width, _ = image.shape
    place = Affine(gsd, 0, 500_000, 0, -gsd, 4_400_000)
    with rasterio.open(path, "w", "GTiff", width, height, 3, "EPSG:32650", place, "uint8") as file:
        file.write(image.transpose(2, 0, 1))
    return path


def land_scene(path: Path, height: int = 112, width: int = 168, gsd: float = 0.75) -> Path:
    """Write a scene of the land that `train_land` learns."""
    return write_scene(path, draw(5, height, width)[0], gsd)


def _train(fields: dict[str, Any], root: Path) -> Path:
    shared = {"training": TRAINING, "cache": {"views": 1}, "work_dir": root / "run"}
    with pytest.MonkeyPatch.context() as patch:
        leave_charts_out(patch)  # fixtures of a session are made before those of a test
        return cge.train({**shared, **fields}, progress=False).path
