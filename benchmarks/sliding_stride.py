"""The published test of iSAID, a window every 10 px, against windows that overlap by a third.

    python benchmarks/sliding_stride.py [--tiles 3] [--backbone WEIGHTS]

A light head on a frozen `tiny` learns the land cover of a drawn world from crops of 518 px; the
same model then predicts tiles of 896 px of another world with windows of 518 px, at both strides.
Shown are windows a tile, seconds a tile, and mean IoU over the tiles.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from cgeartheye.commands import tasks
from cgeartheye.config import (
    Backbone,
    FeatureCache,
    SegmentationData,
    SegmentationDecoder,
    SemanticSegmentation,
    Training,
)
from cgeartheye.inference.sliding_window import count_windows, slide
from cgeartheye.metrics.classification import SegmentationMetrics
from cgeartheye.synthetic import LAND_COVER, SEASONS, World, make_world
from cgeartheye.tasks.registry import pipeline_for
from cgeartheye.utils.console import bar

SIDE, TILE, STRIDE, WORLD, SEASON = 518, 896, 10, 2688, "summer"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiles", type=int, default=3)
    parser.add_argument("--backbone", type=Path, help="weights of a tiny; none: random")
    parser.add_argument("--epochs", type=int, default=64)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        task = train(Path(folder), given.backbone, given.epochs)
    world = make_world(WORLD, seed=1)
    picture, cover = world.image(SEASON), world.land_cover()
    corners = [(row, column) for row in range(0, WORLD, TILE) for column in range(0, WORLD, TILE)]
    tiles = [
        (picture[y : y + TILE, x : x + TILE], cover[y : y + TILE, x : x + TILE])
        for y, x in corners[:: len(corners) // given.tiles][: given.tiles]
    ]
    title = f"tiles of {TILE} px, windows of {SIDE} px, {torch.get_num_threads()} threads"
    table = Table("windows", "a tile", "seconds a tile", "mean IoU", title=title)
    # Half a pixel more, so that rounding does not make the stride 9.
    rows = {"every 10 px": 1 - (STRIDE + 0.5) / SIDE, "overlap of a third": 1 / 3}
    for name, overlap in rows.items():
        metrics, begin = SegmentationMetrics(len(LAND_COVER)), time.perf_counter()
        with bar(name, len(tiles), "tiles") as progress:
            for image, truth in tiles:
                pixels = torch.from_numpy(image.transpose(2, 0, 1).copy())
                (probabilities,) = slide([pixels], task.logits, SIDE, overlap, 8)
                metrics.update(probabilities.argmax(0), torch.from_numpy(truth.copy()))
                progress.advance()
        seconds = (time.perf_counter() - begin) / len(tiles)
        count = count_windows(TILE, TILE, SIDE, overlap)
        table.add_row(name, f"{count:,}", f"{seconds:.1f}", f"{metrics.compute()['miou']:.2f} %")
    Console().print(table)


def train(folder: Path, weights: Path | None, epochs: int):  # type: ignore[no-untyped-def]
    """Train a segmenter; return it."""
    world = make_world(WORLD, seed=0)
    for part, columns in (("train", range(0, WORLD - SIDE, SIDE)), ("val", [WORLD - SIDE])):
        write(world, folder / part, list(columns))
    config = SemanticSegmentation(
        backbone=Backbone(name="tiny", weights=weights or "random", gsd=0.75),
        data=SegmentationData(
            root=folder, classes=LAND_COVER, image_size=SIDE, scale=(0.8, 1.25), batch_size=4
        ),
        decoder=SegmentationDecoder(kind="light"),
        cache=FeatureCache(views=4),
        training=Training(epochs=epochs, lr=6e-4, evaluate_every=4),
        work_dir=folder / "run",
    )
    tasks.train(config)
    return tasks.load(pipeline_for(config), folder / "run", torch.device("cpu"))[0].eval()


def write(world: World, folder: Path, columns: list[int]) -> None:
    """Write crops and their masks, each season in turn."""
    (folder / "Img").mkdir(parents=True)
    (folder / "Label").mkdir()
    cover, pictures = world.land_cover(), [world.image(season) for season in SEASONS]
    places = [(top, left) for top in range(0, WORLD - SIDE + 1, SIDE) for left in columns]
    for number, (top, left) in enumerate(places):
        area = np.s_[top : top + SIDE, left : left + SIDE]
        image = pictures[number % len(pictures)][area]
        Image.fromarray(image).save(folder / "Img" / f"{number}.png")
        Image.fromarray(cover[area]).save(folder / "Label" / f"{number}.png")


if __name__ == "__main__":
    main()
