"""A folder as a user of the API has it: chips, a config, a trained run, a scene."""

import os
import random
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

import cgeartheye as cge

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]
sys.path += [str(Path(__file__).parents[1] / "commands")]  # the toys

from toy_land import draw

import toy_runs
from toy_runs import write_scene

CLASSES = ("brick", "field", "water", "wood")
COLORS = ((150, 110, 90), (125, 130, 90), (90, 105, 140), (85, 118, 85))


def draw_chip(label: int, seed: int, side: int = 40) -> np.ndarray:
    noise = np.random.default_rng([label, seed]).normal(0, 20, (side, side, 3))
    return (np.array(COLORS[label]) + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of examples in docstrings and docs: chips/, mine.yaml, runs/mine, scene.tif."""
    root = tmp_path_factory.mktemp("workspace")
    for label, name in enumerate(CLASSES):
        (root / "chips" / name).mkdir(parents=True)
        for seed in range(4):
            Image.fromarray(draw_chip(label, seed)).save(root / "chips" / name / f"{seed}.png")
    (root / "mine.yaml").write_text(
        "backbone: {name: tiny}\n"
        "data: {root: chips, image_size: 28, batch_size: 8, workers: 0, gsd: 0.75,\n"
        "  train_fraction: 0.5}\n"
        "training: {epochs: 2, lr: 1e-2, log_every: 1, device: cpu}\n"
        "cache: {views: 1}\n"
    )
    write_scene(root / "scene.tif", draw(5, 112, 168)[0])
    before = Path.cwd()
    os.chdir(root)
    try:
        cge.train("mine.yaml", progress=False)
    finally:
        os.chdir(before)
    return root


@pytest.fixture
def fresh_workspace(workspace: Path, tmp_path: Path) -> Path:
    """A copy of the workspace, for examples that write into it."""
    return Path(shutil.copytree(workspace, tmp_path / "workspace"))


@pytest.fixture(scope="session")
def land_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained segmenter of three kinds of land."""
    return toy_runs.train_land(tmp_path_factory.mktemp("land"))


@pytest.fixture(scope="session")
def change_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained detector of change; its data are beside it, `val/Image1` and so on."""
    return toy_runs.train_change(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="session")
def things_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained detector of oriented objects; its data are beside it, `images/val` and so on."""
    return toy_runs.train_things(tmp_path_factory.mktemp("things"))


def _global_state() -> dict[str, Any]:
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002 - that it is left alone
        "random": random.getstate(),
        "gradients": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "default type": torch.get_default_dtype(),
        "folder": os.getcwd(),
        "environment": {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"},
        "matplotlib": {k: v for k, v in mpl.rcParams.items() if k not in {"backend"}},
        "GDAL": rasterio.env.hasenv(),
    }


@pytest.fixture(autouse=True)
def figures_closed() -> Iterator[None]:
    """Plots of one test are none of the next."""
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Every test of the API ends with the global state that it began with."""
    before, filters = _global_state(), list(warnings.filters)
    yield
    after = _global_state()
    for name, value in before.items():
        assert after[name] == value, name
    assert set(filters) <= set(warnings.filters)  # libraries add theirs as they are imported
