"""Tiny downloads of published data sets, made by code."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from cgeartheye.data.index.catalog import ISAID, POTSDAM

CLASSES = ("AID", "RESISC45", "UCMerced", "RSSCN7", "WHU-RS19", "EuroSAT-RGB")


def picture(path: Path, seed: int, size: tuple[int, int] = (12, 10)) -> np.ndarray:
    """Write an image of `(width, height)` pixels with noise; return its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def labels_in_colors(path: Path, seed: int, size: tuple[int, int], colors: Sequence) -> np.ndarray:
    """Write a mask in colors; return the indices of the colors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.random.default_rng(seed).integers(0, len(colors), size[::-1])
    Image.fromarray(np.array(colors, dtype=np.uint8)[labels]).save(path)
    return labels


def isaid(folder: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, tuple]:
    """Write images of iSAID by `part/stem`; return the pixels and the labels of each."""
    found = {}
    for seed, (name, size) in enumerate(sizes.items()):
        part, stem = name.split("/")
        image = picture(folder / part / "images" / f"{stem}.png", seed, size)
        mask = folder / part / "Semantic_masks" / f"{stem}_instance_color_RGB.png"
        found[name] = image, labels_in_colors(mask, seed, size, ISAID.colors)
    return found


def potsdam(folder: Path, tiles: dict[str, tuple[int, int]]) -> dict[str, tuple]:
    """Write tiles of Potsdam with boundaries in black; return pixels and mask values of each."""
    found = {}
    for seed, (name, size) in enumerate(tiles.items()):
        image = picture(folder / "2_Ortho_RGB" / f"top_potsdam_{name}_RGB.tif", seed, size)
        mask = folder / "labels" / f"top_potsdam_{name}_label_noBoundary.tif"
        labels = labels_in_colors(mask, seed, size, ((0, 0, 0), *POTSDAM.colors))
        found[name] = image, labels
    return found


def pairs(folder: Path, names: Sequence[str], suffix: str = ".png") -> None:
    """Write a pair of dates and a mask for each part."""
    for number, part in enumerate(("train", "val", "test")):
        for other, name in enumerate(names):
            picture(folder / part / name / f"{number:05d}{suffix}", 10 * number + other)


def voc(path: Path, boxes: Sequence[tuple[str, tuple[float, ...]]]) -> None:
    """Write an XML file with horizontal boxes."""
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax>"
        f"<ymax>{y1}</ymax></bndbox></object>"
        for name, (x0, y0, x1, y1) in boxes
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{objects}</annotation>")


def robndbox(path: Path, name: str, corners: Sequence[int]) -> None:
    """Write an XML file of DIOR-R with one oriented box."""
    keys = [
        f"{a}_{c}" for c in ("left_top", "right_top", "right_bottom", "left_bottom") for a in "xy"
    ]
    inside = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, corners, strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<annotation><object><name>{name}</name><robndbox>{inside}</robndbox></object></annotation>"
    )


def pixels_of(path: Path) -> np.ndarray:
    """Return what another library reads, `[H, W]` or `[H, W, 3]`."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as source:
            bands = source.read()
    return bands[0] if len(bands) == 1 else bands.transpose(1, 2, 0)


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files of a data set, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
