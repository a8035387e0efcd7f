"""Benchmarks run, at a size that takes a second and measures nothing."""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # they import each other
sys.path += [str(Path(__file__).parent), str(Path(__file__).parent / "commands")]  # the toys

from toy_things import CLASSES, write_things

import toy_runs

CASES = {
    "block_scheduler": "--rows 200",
    "backbone_forward": "--device cpu --sizes tiny --repeats 1",
    "embed_rate": "--side 300 --turns 1",
    "embedding_compression": "CHIPS --per-class 4",
    "embedding_search": "--count 3000 --turns 1",
    "label_clicks": "--side 200 --turns 1",
    "change_ban": "--size tiny --side 56 --batch 1 --turns 1",
    "frozen_tuning": "CHIPS --size 28 --batch 8 --epochs 2",
    "frozen_memory": "--size tiny --image-size 28 --batch 2 --precision fp32 --device cpu "
    "--repeats 1",
    "linear_probe": "--samples 200 --channels 6 --classes 3 --turns 1",
    "jlssd_kmeans": "--points 600 --clusters 10 --iterations 2 --turns 1",
    "map_overlap": "ROADS --window 56 --steps 2 --seeds 1",
    "peak_memory_reading": "--files 12",
    "pretraining_losses": "--batch 4 --prototypes 64",
    "pretraining_views": "CHIPS --repeats 1",
}
TABLE = """
backbones: {tiny: {name: tiny, weights: random}}
datasets: {chips: {task: scene_classification, data: {root: CHIPS, image_size: 28}}}
protocols: {knn: {kind: knn}}
set: {data.workers: 0, training.device: cpu}
"""
SLOW = {
    "benchmark_table": "TABLE OUT",
    "backbone_parity": "--side 28",
    "check_images": "--images 8 --side 40 --turns 0 --commit HEAD",
    "detection_map": "OUT --worlds 1 --epochs 1",
    "detection_step": "--side 112 --batch 1 --queries 20 --layers 1 --turns 1",
    "jlssd_curation": "--varied CHIPS --common CHIPS/field --test CHIPS --worlds 1 --pool 60 "
    "--num-places 20 --clusters 6 2 --steps 2 --batch 4 --out OUT",
    "mapping_rate": "--side 300",
    "pretraining_step": "CHIPS --size tiny --batch 4 --prototypes 64 --workers 0 --turns 1 "
    "--steps 1 --discard 0",
    "sliding_stride": "--tiles 1 --epochs 1",
    "export_accuracy": "RUN --rounds 1 --batch 1",
    "light_detector": "THINGS OUT --seeds 1 --soon 1",
    "map_engines": "--side 112 --window 56 --rounds 1",
    "ray_scaling": "--side 168 --window 56 --rounds 1 --workers 1",
    "s3_mosaic": "--files 7 --side 32 --window 56",
    "serve_jobs": "RUN SCENE OUT --jobs 3 --clients 2 --kill-worker 8 --kill-server 12 --limit 5",
}
NEEDS = {
    "export_accuracy": "nncf",
    "map_engines": "nncf",
    "ray_scaling": "ray",
    "s3_mosaic": "moto",
    "serve_jobs": "fastapi",
    "pretraining_losses": "lightly",
    "pretraining_step": "lightly",
}
SMALLER: dict[str, dict[str, Any]] = {
    "backbone_forward": {"SIDES": (28,), "CPU_BATCH": {28: 1}},
    "block_scheduler": {"ROUNDS": 1},
    "change_ban": {"VIT_SIDE": 56},
    "detection_map": {"SIZE": 1536},
    "embed_rate": {"mapping_rate.TILE": 768},
    "light_detector": {
        "OVERRIDES": (
            f"data.classes=[{', '.join(CLASSES)}]",
            "data.image_size=56",
            "training.epochs=1",
            "training.warmup_epochs=0",
            "training.evaluate_every=1",
        ),
        "RATE_SIDE": 56,
        "ROUNDS": 1,
    },
    "mapping_rate": {"ALONE": 0.1, "TILE": 768},
    "pretraining_losses": {"REPEATS": 1},
    "pretraining_views": {"BATCH": 4},
    "ray_scaling": {"ENCODED": 1},
    "sliding_stride": {"SIDE": 56, "TILE": 84, "WORLD": 1008},
}


@pytest.fixture(scope="session")
def roads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks of two classes: a band from edge to edge."""
    root = tmp_path_factory.mktemp("roads")
    for part in ("train", "val", "test"):
        for kind in ("Img", "Label"):
            (root / part / kind).mkdir(parents=True)
        for number in range(4):
            mask = np.zeros((56, 56), np.uint8)
            mask[10 * number : 10 * number + 14] = 1
            Image.fromarray(mask).save(root / part / "Label" / f"{number}.png")
            image = np.repeat((60 + 120 * mask)[..., None], 3, axis=2)
            Image.fromarray(image).save(root / part / "Img" / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boxes in the layout of NWPU VHR-10 as DIOR-R has it."""
    root = tmp_path_factory.mktemp("things")
    for part, count in (("trainval", 9), ("test", 8)):
        write_things(root, part, {f"{part}{n}": (n, 112, 112) for n in range(count)})
    return root


@pytest.mark.parametrize(
    "name", [*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_a_benchmark_prints_its_table(
    name: str,
    chips: Path,
    roads: Path,
    things: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    module = importlib.import_module(name)
    for constant, value in SMALLER.get(name, {}).items():
        target = constant if "." in constant else f"{name}.{constant}"
        monkeypatch.setattr(target, value)
    arguments = (CASES | SLOW)[name]
    table = tmp_path / "table.yaml"
    table.write_text(TABLE.replace("CHIPS", str(chips)))
    places = {"CHIPS": chips, "ROADS": roads, "THINGS": things, "TABLE": table}
    places["OUT"] = tmp_path / "out"
    if "RUN" in arguments:
        scene = toy_runs.land_scene(tmp_path / "scene.tif")
        places |= {"RUN": toy_runs.train_land(tmp_path / "land"), "SCENE": scene}
    for word, folder in places.items():
        arguments = arguments.replace(word, str(folder))
    monkeypatch.setattr(sys, "argv", [name, *arguments.split()])
    module.main()
    assert "┃" in capsys.readouterr().out
