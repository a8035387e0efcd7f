"""Tiny data sets for the tests beside this file."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parent / "formats"))  # for what tests share

MakeImage = Callable[[Path, int], None]


@pytest.fixture
def make_image() -> MakeImage:
    """Write a small PNG, different for every seed."""

    def make(path: Path, seed: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)

    return make


@pytest.fixture
def make_folders(make_image: MakeImage) -> Callable[[Path, dict[str, int]], list[str]]:
    """Write `<root>/<class>/<class>_<n>.png`; return the paths below the root."""

    def make(root: Path, counts: dict[str, int]) -> list[str]:
        names = [f"{name}/{name}_{n}.png" for name, count in counts.items() for n in range(count)]
        for seed, name in enumerate(names):
            make_image(root / name, seed)
        return names

    return make


@pytest.fixture
def write_list() -> Callable[[Path, dict[str, int]], None]:
    """Write a list file with a line an image."""

    def write(path: Path, labels: dict[str, int]) -> None:
        path.write_text("".join(f"{name} {label}\n" for name, label in labels.items()))

    return write
