"""Peak memory of opening small files that are damaged: images, masks, scenes and annotations.

Small valid files of every kind are made by code; bytes of copies are changed, mostly in their
heads, where sizes are, and each is opened as `check`, `train` and `map` open it. Reported is how
far the peak of the process grows above what the valid files take, and which file did it.

    python benchmarks/peak_memory_reading.py --files 2000
"""

import argparse
import json
import os
import resource
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rich.console import Console
from rich.table import Table

from cgeartheye.config import SegmentationData
from cgeartheye.data.formats.annotation_xml import read_xml
from cgeartheye.data.formats.coco import read_coco
from cgeartheye.data.formats.masks import make_legend, read_labels
from cgeartheye.data.formats.voc_dota_yolo import Faults
from cgeartheye.data.image_io import read_image
from cgeartheye.geo.reader import open_scene
from cgeartheye.utils.errors import UserError

SIDE = 64
HEAD = 400  # bytes in which two of three changes fall
CLASSES = ("background", "road")


def draw(folder: Path) -> dict[Path, list[Callable[[Path], object]]]:
    """Write a file of each kind; return what opens it."""
    legend = make_legend(SegmentationData(root=folder, classes=CLASSES))

    def image(path: Path) -> object:
        return read_image(path)

    def mask(path: Path) -> object:
        return read_labels(path, legend)

    def scene(path: Path) -> object:
        found = open_scene([path], ground=1.0)
        return found.read((0, min(found.height, SIDE)), (0, min(found.width, SIDE)))

    def coco(path: Path) -> object:
        return read_coco(path, True, Faults())

    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    openers: dict[Path, list[Callable[[Path], object]]] = {}
    for suffix in (".jpg", ".png", ".bmp"):
        Image.fromarray(pixels).save(folder / f"image{suffix}")
        openers[folder / f"image{suffix}"] = [image, scene]
    Image.fromarray(pixels[..., 0] % 2).save(folder / "mask.png")
    openers[folder / "mask.png"] = [mask]
    for name, options in {
        "tiled.tif": {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"},
        "strips.tif": {"compress": "lzw"},
    }.items():
        path = folder / name
        shape = {"width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8"}
        with rasterio.open(path, "w", driver="GTiff", **shape, **options) as file:
            file.write(pixels.transpose(2, 0, 1))
        openers[path] = [image, scene]
    code = {"counts": [100, 50, SIDE * SIDE - 150], "size": [SIDE, SIDE]}
    one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": code}
    (folder / "coco.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.jpg", "width": SIDE, "height": SIDE}],
                "annotations": [one],
                "categories": [{"id": 1, "name": "road"}],
            }
        )
    )
    openers[folder / "coco.json"] = [coco]
    box = "<xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax>"
    (folder / "voc.xml").write_text(
        f"<annotation><object><name>road</name><bndbox>{box}</bndbox></object></annotation>"
    )
    openers[folder / "voc.xml"] = [lambda path: read_xml(path, Faults())]
    shapes = [{"label": "road", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"}]
    (folder / "shapes.json").write_text(
        json.dumps({"shapes": shapes, "imageWidth": SIDE, "imageHeight": SIDE})
    )
    openers[folder / "shapes.json"] = [mask]
    return openers


def peak() -> float:
    """Return the most memory that this process has held, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """Return bytes of which one to four are others."""
    changed = bytearray(content)
    for _ in range(random.integers(1, 5)):
        end = min(len(changed), HEAD) if random.random() < 0.67 else len(changed)
        changed[random.integers(end)] = random.choice([0, 1, 0x39, 0x7F, 0xFF, 0x80])
    return bytes(changed)


def main() -> None:
    """Print how far the peak grows for each kind of file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2_000)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        openers = draw(Path(temporary))
        for path, ways in openers.items():
            for way in ways:
                way(path)
        begin = before = peak()
        grown = dict.fromkeys(openers, 0.0)
        refused = dict.fromkeys(openers, 0)
        for number in range(options.files):
            path, ways = list(openers.items())[number % len(openers)]
            damaged = path.with_name(f"damaged-{path.name}")
            damaged.write_bytes(mutated(path.read_bytes(), random))
            for way in ways:
                try:
                    way(damaged)
                except UserError:
                    refused[path] += 1
            grown[path] += peak() - before
            before = peak()
    table = Table("file", "refused", "MB above", title=f"{options.files:,} damaged files")
    for path, more in grown.items():
        table.add_row(path.name, f"{refused[path]:,}", f"{more:,.0f}")
    table.add_row("all", f"{sum(refused.values()):,}", f"{before - begin:,.0f}")
    Console().print(table)
    print(f"valid files: {begin:,.0f} MB; {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
