"""Models in closed form, and small scenes to map with them; run as a program it maps one."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
import torch.nn.functional as F
from affine import Affine
from rasterio.crs import CRS
from torch import Tensor

from cgeartheye.mapping.options import Options
from cgeartheye.mapping.run import map_scene
from cgeartheye.mapping.sinks import writer

UTM = CRS.from_epsg(32650)
NORTH_UP = Affine(0.75, 0, 500_000, 0, -0.75, 4_400_000)


class Toy:
    """The mean of each colour over `2 radius + 1` pixels squared, as shares of three classes."""

    classes: Sequence[str] = ("red", "green", "blue")
    device = torch.device("cpu")

    def __init__(self, window: int = 28, radius: int = 1, gsd: float | None = None):
        self.window, self.radius, self.gsd = window, radius, gsd
        self.calls = 0

    def predict(self, images: Tensor) -> Tensor:
        self.calls += 1
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (3, self.window, self.window)
        return smooth(images, self.radius)


class ToyCells(Toy):
    """The same for whole windows."""

    def predict(self, images: Tensor) -> Tensor:
        return super().predict(images).mean((2, 3))


class SlowToy(Toy):
    """Leaves the time to be killed."""

    def predict(self, images: Tensor) -> Tensor:
        time.sleep(0.02)
        return super().predict(images)


class ToyChange(Toy):
    """By how much two dates differ around each pixel: 50 % at 40 grey values."""

    classes = ("unchanged", "changed")

    def predict(self, images: Tensor) -> Tensor:
        self.calls += 1
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (6, self.window, self.window)
        before, after = images.float().split(3, dim=1)
        difference = (after - before).abs().mean(1, keepdim=True)
        changed = torch.sigmoid((F.avg_pool2d(difference, 3, 1, 1) - 40) / 8)
        return torch.cat([1 - changed, changed], dim=1)


class SlowToyChange(ToyChange):
    """Leaves the time to be killed."""

    def predict(self, images: Tensor) -> Tensor:
        time.sleep(0.02)
        return super().predict(images)


def smooth(images: Tensor, radius: int) -> Tensor:
    """Shares of the three colours around each pixel, zeros around the image."""
    means = F.avg_pool2d(images.double() + 1, 2 * radius + 1, 1, radius)
    return (means / means.sum(1, keepdim=True)).float()


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Soft blobs of colour, uint8 `[3, H, W]`, never 0."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.integers(1, 256, (1, 3, height // 6 + 2, width // 6 + 2))).float()
    soft = F.interpolate(coarse, size=(height, width), mode="bilinear")[0].numpy()
    return (soft + rng.uniform(-10, 10, soft.shape)).clip(1, 255).astype(np.uint8)


def write_scene(
    path: Path, pixels: np.ndarray, transform: Affine = NORTH_UP, crs: Any = UTM, **options: Any
) -> Path:
    count, height, width = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=count,
        dtype=pixels.dtype,
        transform=transform,
        crs=crs,
        **options,
    ) as file:
        file.write(pixels)
    return path


def run_toy(scene: Path | Sequence[Path], out: Path, toy: Toy | None = None, **options: Any) -> Any:
    resume, after = options.pop("resume", False), options.pop("after", None)
    model = options.pop("model", {"name": "toy"})
    scenes, later = ([path] if isinstance(path, Path) else path for path in (scene, after))
    if toy is None:
        toy = Toy() if later is None else ToyChange()
    return map_scene(toy, scenes, out, model, Options(**options), resume=resume, after=later)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


if __name__ == "__main__":  # SCENE OUT, or FIRST OUT SECOND
    torch.set_num_threads(1)
    writer._SECONDS_BETWEEN_NOTES = 0
    pair = len(sys.argv) > 3
    run_toy(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        SlowToyChange(gsd=0.47) if pair else SlowToy(gsd=0.47),
        after=Path(sys.argv[3]) if pair else None,
        coregister=pair,
        resume=True,
        batch_size=4,
        probabilities=True,
    )


def content(path: Path) -> bytes:
    """The bytes of a file of a map; of JSON without the times at which, and where, it was made."""
    if path.name not in ("map.json", "item.json", "collection.json"):
        return path.read_bytes()
    facts = json.loads(path.read_text())
    for name in ("time", "id"):
        facts.pop(name, None)
    for name in ("created", "datetime"):
        facts.get("properties", {}).pop(name, None)
    return json.dumps(facts).encode()
