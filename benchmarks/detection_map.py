"""Objects found by a map against those its detector finds on chips: harbours and airports, drawn.

    python benchmarks/detection_map.py OUT [--kind light] [--worlds 4] [--epochs 12]

Draws worlds of 2.3 km a side, learns oriented boxes of aeroplanes, ships and tanks from chips of
their south, tests on chips of their north, which shows other harbours and airports, and maps the
whole north as scenes. Recall is of all objects at an overlap of 0.5, of the class, by boxes with at
least some score; the last of the scores is the one that the test found best. An object is found
twice if two boxes overlap it so. A query detector (`--kind dino`) finds an object with several
boxes, any of which may be the right one; a map keeps the best of them. So it is compared with chips
as the network predicts them, and with chips where the best are kept in the same way ("once") too.
Directions are compared for what is at least 1.5 times as long as wide, modulo half a turn. The
backbone is the one that ships, or `--weights`, and stays frozen. Run again, it goes on where it
was, and maps anew.
"""

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import shapely
import torch
from rich.console import Console
from rich.table import Table

from cgeartheye.boxes import Detections, nms, overlap
from cgeartheye.commands import tasks
from cgeartheye.commands.map import map_scenes
from cgeartheye.config import (
    Backbone,
    DetectionData,
    DetectionDecoder,
    FeatureCache,
    ObjectDetection,
    Training,
)
from cgeartheye.demo.datasets import (
    FOUND_CLASSES,
    SEASON,
    boxes_of,
    known_boxes,
    mapped_boxes,
    objects_of,
    outline_of,
)
from cgeartheye.mapping.sinks.detection_filter import TWICE
from cgeartheye.synthetic import (
    DATES,
    GSD,
    SEASONS,
    World,
    held_out_from,
    make_world,
    objects_in,
    split,
    write_detection_chips,
    write_world,
)
from cgeartheye.synthetic.export import EPSG
from cgeartheye.tasks.detection.writer import LEAST_SCORE
from cgeartheye.tasks.model_io import read_model

SIZE = 3072  # pixels a side of a world
CHIP = 252  # of a chip: windows overlap by the longest ship, 117 px
SHOWN = 378  # of a chip as the network sees it: a boat is smaller than a patch
SAME = 0.5  # overlap from which on a box is an object's
ELONGATED = 1.5
POINTS, DEGREES = 2.0, 5.0  # that are allowed


@dataclass(frozen=True)
class Picture:
    """Known and detected objects of a chip or a map."""

    known: Detections
    found: Detections


@dataclass
class Score:
    """Counts of the known objects that were found."""

    objects: int = 0
    found: int = 0
    twice: int = 0
    boxes: int = 0

    def __post_init__(self) -> None:
        self.turns: list[float] = []  # degrees, of what is elongated
        self.classes = torch.zeros(2, len(FOUND_CLASSES))  # objects, and those found

    def add(self, picture: Picture, least: float) -> None:
        """Count a picture's boxes with a score."""
        known, found = picture.known, picture.found[picture.found.scores >= least]
        overlaps = overlap(found.boxes, known.boxes)
        hits = (overlaps >= SAME) & (found.labels[:, None] == known.labels)
        self.objects += len(known.labels)
        self.boxes += len(found.labels)
        self.found += int(hits.any(0).sum())
        for row, labels in zip(
            self.classes, (known.labels, known.labels[hits.any(0)]), strict=True
        ):
            row += labels.bincount(minlength=len(FOUND_CLASSES))
        self.twice += int((hits.sum(0) > 1).sum())
        for place in hits.any(0).nonzero()[:, 0].tolist():
            box = known.boxes[place]
            if box[2:4].max() >= ELONGATED * box[2:4].min():
                best = found.boxes[(overlaps[:, place] * hits[:, place]).argmax()]
                turn = (long_side(best) - long_side(box)) % np.pi
                self.turns.append(np.degrees(min(turn, np.pi - turn)))

    @property
    def recall(self) -> float:
        """Percent."""
        return 100 * self.found / max(self.objects, 1)


def long_side(box: torch.Tensor) -> float:
    """The direction of a box's longer side, radians."""
    return float(box[4]) + (np.pi / 2 if box[3] > box[2] else 0)


def main() -> int:
    """Print the tables; return 1 if the map finds less, finds twice, or turns too far."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--kind", default="light", choices=["light", "dino"], help="of decoder")
    parser.add_argument("--weights", type=Path, help="of a tiny backbone [those that ship]")
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=12)
    given = parser.parse_args()
    out = given.out.resolve()
    worlds = [make_world(SIZE, seed) for seed in range(given.worlds)]
    if not (out / "data").exists():
        write_chips(worlds, out / "data")
    config = configure(out, given.kind, given.weights, given.epochs)
    figures = tasks.train(config, resume=True)
    chips = out / "chips.csv"
    tasks.test(config, out=chips)
    best = read_model(config.work_dir).score_threshold
    assert best is not None, "the test found nothing"
    on_chip = on_chips(worlds, pd.read_csv(chips))
    pictures = {
        "chips": on_chip,
        "once": [Picture(each.known, nms(each.found, TWICE["oriented"])) for each in on_chip],
        "map": on_maps(worlds, out, config.work_dir),
    }
    table = Table(title=f"AP50 of the chips {figures['ap50']:.1f} %")
    for name in ("score", "", "objects", "found", "recall %", "boxes", "twice", "turn", "95 %"):
        table.add_column(name, justify="right")
    for least in (LEAST_SCORE, 0.1, 0.2, best):
        scores = {name: Score() for name in pictures}
        for name, score in scores.items():
            for picture in pictures[name]:
                score.add(picture, least)
            turns = np.percentile(score.turns or [np.nan], (50, 95))
            counts = score.objects, score.found, f"{score.recall:.1f}", score.boxes, score.twice
            cells = (f"{least:.2f}", name, *map(str, counts), *(f"{turn:.1f}°" for turn in turns))
            table.add_row(*cells, end_section=name == "map")
    Console().print(table)
    objects, found = scores["map"].classes.tolist()
    shares = zip(FOUND_CLASSES, found, objects, strict=True)
    found_shares = (f"{name} {part:.0f} of {whole:.0f}" for name, part, whole in shares)
    Console().print(f"found on the map from a score of {best:.2f} on: {', '.join(found_shares)}")
    less = scores["chips"].recall - scores["map"].recall
    turned = float(np.median(scores["map"].turns or [np.nan]))
    return int(less > POINTS or scores["map"].twice > 0 or not turned <= DEGREES)


def write_chips(worlds: Sequence[World], folder: Path) -> None:
    """Write what shows objects: of the south at both dates in two seasons; the north whole."""
    for world in worlds:
        learned, tested = split(world.size, CHIP, held_out="north")
        known = [objects_of(world, date) for date in DATES]
        shown = [s for s in learned if any(len(objects_in(some, s).labels) for some in known)]
        for part, squares, seasons, dates in (
            ("train", [s for s in shown for _ in range(2)], SEASONS, DATES),
            ("val", tested, (SEASON,), DATES[:1]),
        ):
            write_detection_chips(world, folder, part, squares, seasons, dates, FOUND_CLASSES)


def configure(out: Path, kind: str, weights: Path | None, epochs: int) -> ObjectDetection:
    """The detector of the demo, for more worlds."""
    light = kind == "light"
    return ObjectDetection(
        backbone=Backbone(name="tiny", weights=weights, gsd=GSD),
        data=DetectionData(
            root=out / "data",
            boxes="oriented",
            classes=FOUND_CLASSES,
            annotations="Annotations/Oriented Bounding Boxes",
            gsd=GSD,
            image_size=SHOWN,
            scale=(0.8, 1.25),
            batch_size=4,
            workers=1,
        ),
        decoder=DetectionDecoder(kind="light", channels=128)
        if light
        else DetectionDecoder(
            channels=96, queries=60, encoder_layers=0, decoder_layers=3, heads=4, ffn_dim=192,
            num_dn_queries=60,
        ),
        cache=FeatureCache(views=1 if light else 3),
        training=Training(
            epochs=epochs,
            lr=1e-3,
            decoder_lr_mult=1.0,
            weight_decay=1e-2 if light else 1e-4,
            clip_norm=5.0,
            warmup_epochs=1,
            evaluate_every=max(1, epochs // 4),
            precision="bf16" if light else "fp32",
        ),
        work_dir=out / "run",
    )  # fmt: skip


def on_chips(worlds: Sequence[World], found: pd.DataFrame) -> list[Picture]:
    """Return the detections of the test, chip by chip."""
    pictures = []
    of_chip = dict(list(found.groupby(found["path"].map(lambda path: Path(path).stem))))
    for world in worlds:
        for square in split(world.size, CHIP, held_out="north")[1]:
            stem = f"{world.seed}_{DATES[0]}_{SEASON}_{square[1]}_{square[0]}"
            rows = of_chip.get(stem, found[:0])
            corners = rows[[f"{axis}{n}" for n in range(4) for axis in "xy"]].to_numpy(float)
            labels = [FOUND_CLASSES.index(name) for name in rows["class"]]
            known = objects_in(objects_of(world, DATES[0]), square)
            preds = boxes_of(corners.reshape(-1, 4, 2), labels, rows["score"].to_numpy())
            pictures.append(Picture(known_boxes(known), preds))
    return pictures


def on_maps(worlds: Sequence[World], out: Path, run: Path) -> list[Picture]:
    """Return the detections of maps of the norths, one scene for each world."""
    pictures = []
    for world in worlds:
        folder = out / f"world{world.seed}"
        if not folder.exists():
            write_world(world, folder)
        north = shapely.box(0, 0, world.size, world.size - held_out_from(world.size))
        area = out / f"north{world.seed}.gpkg"
        geopandas.GeoDataFrame(geometry=[outline_of(north.bounds)], crs=EPSG).to_file(
            area, layer="north"
        )
        scene = folder / "images" / f"{DATES[0]}_{SEASON}.tif"
        into = out / f"map{world.seed}"
        shutil.rmtree(into, ignore_errors=True)
        map_scenes(run, [scene], into, {"aoi": area, "score_threshold": LEAST_SCORE}, [])
        objects = objects_of(world, DATES[0])
        centers = objects.corners.mean(1)
        known = objects.select(shapely.contains_xy(north, centers[:, 0], centers[:, 1]))
        pictures.append(Picture(known_boxes(known), mapped_boxes(into / "map.gpkg")))
    return pictures


if __name__ == "__main__":
    raise SystemExit(main())
