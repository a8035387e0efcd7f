"""The demo: a small world drawn by code, models tuned on it, maps of its land and its change."""

import shutil
import time
from pathlib import Path

import numpy as np
import rasterio.shutil
import shapely
import torch
from rasterio.windows import from_bounds

from cgeartheye.config import (
    Backbone,
    ChangeData,
    ChangeDecoder,
    ChangeDetection,
    DetectionData,
    DetectionDecoder,
    FeatureCache,
    ObjectDetection,
    SceneClassification,
    SceneData,
    SegmentationData,
    SegmentationDecoder,
    SemanticSegmentation,
    Training,
)
from cgeartheye.data.synthetic import (
    COVER_COLOURS,
    DATES,
    GSD,
    LAND_COVER,
    SCENES,
    SEASONS,
    World,
    held_out_from,
    make_world,
    write_world,
)
from cgeartheye.demo_files import (
    CHIP,
    FOUND_CLASSES,
    LATER,
    OBJECT_SIDE,
    PATCH,
    SEASON,
    cut_boxes,
    cut_chips,
    cut_pairs,
    cut_patches,
    deliver,
    known_boxes,
    mapped_boxes,
    objects_of,
    tested_squares,
    write_tested,
)
from cgeartheye.errors import UserError
from cgeartheye.evaluation.box_panels import draw_found
from cgeartheye.evaluation.boxes import DetectionMetrics
from cgeartheye.evaluation.change_report import FALSE_ALARM, FOUND, MISSED, outcome
from cgeartheye.evaluation.metrics import ChangeMetrics, SegmentationMetrics
from cgeartheye.evaluation.page import Picture, Report
from cgeartheye.evaluation.sections import add_figures
from cgeartheye.tasks import runs
from cgeartheye.tasks.maps import map_scenes
from cgeartheye.training.progress import say

WORLD_SIZE = 3072  # pixels a side: 2.3 km
EPOCHS = 20
COVER_EPOCHS = 20
CHANGE_EPOCHS = 14
FINDER_EPOCHS = 10
MAPPED_SCORE = 0.05  # of objects; the figures take weak ones too
CLASSIFIER, SEGMENTER, DETECTOR = "scene-classification", "land-cover", "change"
FINDER = "objects"
MAP, CHANGE_MAP, OBJECT_MAP = "map", "change-map", "object-map"
CUT = "chips", "patches", "pairs", "boxes"
PARTS = "world", *CUT, "features", CLASSIFIER, SEGMENTER, DETECTOR, FINDER


def demo(folder: Path) -> None:
    """Draw a world, learn its scenes, its land cover and its change from chips, map it.

    Everything goes below `folder`: `world/` (GeoTIFFs, exact masks and boxes), `chips/` (a folder
    of class folders) and `scene-classification/` (the classifier), `patches/` (images and masks)
    and `land-cover/` (the segmenter, on the classifier's backbone), `map/`, `pairs/`, `change/`
    and `change-map/` (the same of two dates), `boxes/`, `objects/` and `object-map/` (oriented
    boxes), and `report.html`.

    Raises:
        UserError: the folder holds something else, or cannot be written to.
    """
    started = time.monotonic()
    if folder.exists() and any(folder.iterdir()) and not (folder / "world").exists():
        raise UserError(f"{folder} holds other files: name an empty folder with --out")
    for part in (*PARTS, MAP, CHANGE_MAP, OBJECT_MAP):
        shutil.rmtree(folder / part, ignore_errors=True)
    say(f"drawing a world of {WORLD_SIZE} x {WORLD_SIZE} pixels at {GSD} m")
    world = make_world(WORLD_SIZE, seed=0)
    write_world(world, folder / "world")
    report = Report("Demo", "A world drawn by code, and what models learn of it")
    _show_world(world, report)

    count = cut_chips(world, folder / "chips")
    say(f"{count} chips of {CHIP} x {CHIP} pixels in {len(SCENES)} classes")
    figures = runs.train(_classifier(folder))
    report.section("Scenes", f"What each of {count} chips shows; a third of them is tested.")
    add_figures(report, figures)

    count = cut_patches(world, folder / "patches")
    say(f"{count} patches of {PATCH} x {PATCH} pixels with a mask of {len(LAND_COVER)} classes")
    figures = runs.train(_segmenter(folder))
    report.section(
        "Land cover",
        "The class of every pixel, by a decoder on the classifier's frozen backbone; tested on the "
        "east of the world, which it has not seen.",
    )
    add_figures(report, figures)

    scene = folder / "world" / "images" / f"1_{SEASON}.tif"
    map_scenes(folder / SEGMENTER, [scene], folder / MAP, {"vector": ("gpkg",)}, [])
    report.section("Map", f"All of {scene.name}, and the same measured on the map's east.")
    _show_map(world, folder / MAP / "map.tif", report)

    count = cut_pairs(world, folder / "pairs")
    say(f"{count} pairs of {PATCH} x {PATCH} pixels with a mask of what changed")
    figures = runs.train(_detector(folder))
    report.section(
        "Change",
        "Buildings that stand at one of two dates only, by a decoder on the features of both; "
        "tested on the east.",
    )
    add_figures(report, figures)
    first = folder / "world" / "images" / "1_autumn.tif"
    later = deliver(folder / "world" / "images" / "2_autumn.tif", folder / "world" / "later.tif")
    options = {"vector": ("gpkg",), "register": True}
    map_scenes(folder / DETECTOR, [first], folder / CHANGE_MAP, options, [], after=[later])
    crs, gsd, shift = LATER
    report.section(
        "Map of change",
        f"{first.name} against a scene that is in {crs}, at {gsd} m and displaced by "
        f"{shift[0]:g} and {shift[1]:g} m, which is found and undone; measured on the east.",
    )
    _show_change(world, folder / CHANGE_MAP / "map.tif", report)

    count = cut_boxes(world, folder / "boxes")
    say(f"{count} oriented boxes in chips of {PATCH} x {PATCH} pixels")
    figures = runs.train(_finder(folder))
    report.section(
        "Objects",
        "Oriented boxes of aeroplanes, ships and tanks, by a query detector on the classifier's "
        "frozen backbone; tested on the north of the world.",
    )
    add_figures(report, figures)
    area = write_tested(world, folder / "world" / "tested.gpkg")
    options = {"aoi": area, "score": MAPPED_SCORE}
    map_scenes(folder / FINDER, [scene], folder / OBJECT_MAP, options, [])
    report.section("Map of objects", f"Of {scene.name}, where the chips of the test lie.")
    _show_objects(world, folder / OBJECT_MAP / "map.gpkg", report)
    report.facts({"all of this took": f"{time.monotonic() - started:.0f} s"})
    report.write(folder / "report.html")
    say("what to open:")
    say(f"  {folder / 'report.html'}  the world, the figures, the map")
    say(
        f"  {folder / MAP / 'preview.html'}  the map over the scene; map.tif and map.gpkg for a GIS"
    )
    say(f"  {folder / CHANGE_MAP / 'preview.html'}  what changed, with a swipe between the dates")
    say(f"  {folder / OBJECT_MAP / 'preview.html'}  the objects, with their scores and headings")
    for run in (CLASSIFIER, SEGMENTER, DETECTOR, FINDER):
        say(f"  {folder / run / 'report.html'}  figures and pictures of the test")
    say(f"  {folder / 'world'}  the world as GeoTIFFs: four seasons, two dates, exact labels")


def _classifier(folder: Path) -> SceneClassification:
    """A `tiny` backbone tuned fully: it has no weights of its own yet to stay frozen on."""
    return SceneClassification(
        backbone=Backbone(name="tiny", tuning="full", gsd=GSD),
        data=SceneData(
            root=folder / "chips",
            train_fraction=0.67,
            image_size=56,
            crop_area=(0.5, 1.0),
            batch_size=32,
            workers=1,
        ),
        training=Training(
            epochs=EPOCHS, lr=1e-3, decoder_lr=1.0, clip_norm=1.0, warmup_epochs=2, evaluate_every=5
        ),
        work_dir=folder / CLASSIFIER,
    )


def _segmenter(folder: Path) -> SemanticSegmentation:
    return SemanticSegmentation(
        backbone=Backbone(name="tiny", weights=folder / CLASSIFIER / "model.safetensors", gsd=GSD),
        data=SegmentationData(
            root=folder / "patches",
            classes=LAND_COVER,
            colours=tuple(COVER_COLOURS[name] for name in LAND_COVER),
            gsd=GSD,
            image_size=PATCH,
            scale=(0.8, 1.25),
            batch_size=16,
            workers=1,
        ),
        decoder=SegmentationDecoder(kind="light", channels=256),
        cache=FeatureCache(views=4),
        training=Training(epochs=COVER_EPOCHS, lr=6e-4, warmup_epochs=1, evaluate_every=10),
        work_dir=folder / SEGMENTER,
    )


def _detector(folder: Path) -> ChangeDetection:
    return ChangeDetection(
        backbone=Backbone(name="tiny", weights=folder / CLASSIFIER / "model.safetensors", gsd=GSD),
        data=ChangeData(
            root=folder / "pairs", gsd=GSD, image_size=PATCH, batch_size=16, workers=1, rotation=0
        ),
        decoder=ChangeDecoder(kind="light", class_weights=(1.0, 3.0)),
        cache=FeatureCache(views=2),
        training=Training(epochs=CHANGE_EPOCHS, lr=6e-4, warmup_epochs=1, evaluate_every=6),
        work_dir=folder / DETECTOR,
    )


def _finder(folder: Path) -> ObjectDetection:
    return ObjectDetection(
        backbone=Backbone(name="tiny", weights=folder / CLASSIFIER / "model.safetensors", gsd=GSD),
        data=DetectionData(
            root=folder / "boxes",
            boxes="oriented",
            classes=FOUND_CLASSES,
            annotations="Annotations/Oriented Bounding Boxes",
            gsd=GSD,
            image_size=OBJECT_SIDE,
            scale=(0.8, 1.25),
            batch_size=8,
            workers=1,
        ),
        # The pixels' attention to each other would take most of the time.
        decoder=DetectionDecoder(
            channels=96,
            queries=60,
            encoder_layers=0,
            decoder_layers=3,
            heads=4,
            hidden=192,
            denoising=60,
        ),
        cache=FeatureCache(views=2),
        training=Training(
            epochs=FINDER_EPOCHS,
            lr=2e-3,
            decoder_lr=1.0,
            weight_decay=1e-4,
            clip_norm=0.5,
            warmup_epochs=1,
            evaluate_every=FINDER_EPOCHS // 2 or 1,
        ),
        work_dir=folder / FINDER,
    )


def _show_world(world: World, report: Report) -> None:
    report.section("World", f"{world.size * GSD / 1000:.1f} km a side, {GSD} m a pixel.")
    report.pictures([Picture(world.image(season), season) for season in SEASONS], width=200)


def _show_map(world: World, path: Path, report: Report) -> None:
    """Add pictures of the map and the truth, and what the map is worth in the east."""
    with rasterio.open(path) as file:
        mapped = file.read(1)
    truth, east = world.land_cover(), held_out_from(world.size)
    metrics = SegmentationMetrics(len(LAND_COVER))
    predicted, labels = (torch.from_numpy(x[:, east:].copy()) for x in (mapped, truth))
    metrics.update(predicted, labels)
    add_figures(report, metrics.compute())
    palette = np.array([COVER_COLOURS[name] for name in LAND_COVER], np.uint8)
    report.legend({name: COVER_COLOURS[name] for name in LAND_COVER})
    pictures = [
        Picture(world.image(SEASON), "scene"),
        Picture(palette[mapped], "map"),
        Picture(palette[truth], "truth"),
    ]
    report.pictures(pictures, width=300)


def _show_objects(world: World, path: Path, report: Report) -> None:
    """Add what the map is worth, and pictures of where most was found."""
    found = mapped_boxes(path)
    squares = shapely.union_all([shapely.box(*square) for square in tested_squares(world)])
    objects = objects_of(world, DATES[0])
    middles = objects.corners.mean(1)
    known = known_boxes(objects.those(shapely.contains_xy(squares, middles[:, 0], middles[:, 1])))
    metrics = DetectionMetrics(len(FOUND_CLASSES), oriented=True)
    metrics.update(0, found, known.boxes, known.labels, torch.zeros(len(known), dtype=torch.bool))
    add_figures(report, metrics.compute())
    rows = metrics.per_class(FOUND_CLASSES)
    report.table(list(rows[0]), [list(row.values()) for row in rows], bars=["AP50"])
    sure = found[found.scores >= metrics.score_threshold]
    north = world.image(SEASON)[: world.size - held_out_from(world.size)]
    report.pictures([Picture(draw_found(north, sure, FOUND_CLASSES), "found")], width=900)


def _show_change(world: World, path: Path, report: Report) -> None:
    """Add pictures of both dates and the map, and what the map is worth in the east."""
    with rasterio.open(path) as file, rasterio.open(path.parents[1] / "world/change.tif") as truth:
        mapped = file.read(1)
        window = from_bounds(*file.bounds, truth.transform).round_offsets().round_lengths()
        labels = truth.read(1, window=window)
    metrics = ChangeMetrics()
    known = np.where(mapped == 255, 255, labels)
    east = held_out_from(world.size) - int(window.col_off)
    predicted = np.where(mapped == 255, 0, mapped)
    metrics.update(*(torch.from_numpy(x[:, east:].copy()) for x in (predicted, known)))
    add_figures(report, metrics.compute())
    report.legend({"found": FOUND, "missed": MISSED, "false alarm": FALSE_ALARM})
    pictures = [Picture(world.image("autumn", date), f"date {date}") for date in DATES]
    pictures.append(Picture(outcome(known, mapped), "map of change"))
    report.pictures(pictures, width=300)
