"""The demo: a small world drawn by code, models tuned on it, maps of its land and its change."""

import shutil
import time
from pathlib import Path

import numpy as np
import rasterio.shutil
import torch
from rasterio.windows import from_bounds

from cgeartheye.commands import tasks
from cgeartheye.commands.map import map_scenes
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
    SceneDecoder,
    SegmentationData,
    SegmentationDecoder,
    SemanticSegmentation,
    SlidingWindow,
    Training,
)
from cgeartheye.demo.datasets import (
    CHIP,
    FOUND_CLASSES,
    LATER,
    PATCH,
    SEASON,
    SHOWN,
    TWICE_SEEN,
    YARD,
    cut_boxes,
    cut_chips,
    cut_pairs,
    cut_patches,
    deliver,
    known_boxes,
    mapped_boxes,
    north_of,
    objects_of,
    write_outline,
)
from cgeartheye.metrics.classification import ChangeMetrics, SegmentationMetrics
from cgeartheye.metrics.detection.metrics import DetectionMetrics
from cgeartheye.reports.change import FALSE_ALARM, FOUND, MISSED, outcome
from cgeartheye.reports.draw_boxes import draw_found
from cgeartheye.reports.html import Picture, Report
from cgeartheye.reports.sections import add_figures
from cgeartheye.synthetic import (
    COVER_COLORS,
    DATES,
    GSD,
    LAND_COVER,
    SCENES,
    SEASONS,
    World,
    make_world,
    write_world,
)
from cgeartheye.utils.console import log_info
from cgeartheye.utils.errors import UserError

WORLD_SIZE = 2560  # pixels a side: 1.9 km
WORLD_SEED = 18  # north and south of this world have all there is
BACKBONE = Backbone(name="tiny", gsd=GSD)
FINDER_EPOCHS = 40
MAP_OVERLAP = 0.15  # share of a window
MAPPED_SCORE = 0.05  # of objects; the figures take weak ones too
CLASSIFIER, SEGMENTER, DETECTOR = "scene-classification", "land-cover", "change"
FINDER = "objects"
MAP, CHANGE_MAP, OBJECT_MAP = "map", "change-map", "object-map"
CUT = "chips", "patches", "pairs", "boxes"
PARTS = "world", *CUT, "features", CLASSIFIER, SEGMENTER, DETECTOR, FINDER


def demo(folder: Path) -> None:
    """Draw a world, learn its scenes, land cover, change and objects in the south, map the north.

    Everything goes below `folder`: `world/` (GeoTIFFs, exact masks and boxes), `chips/` (a folder
    of class folders) and `scene-classification/` (the classifier), `patches/` (images and masks),
    `land-cover/` (the segmenter) and `map/`, `pairs/`, `change/` and `change-map/` (the same of two
    dates), `boxes/`, `objects/` and `object-map/` (oriented boxes), and `report.html`. The backbone
    is the one that ships, and stays frozen.

    Raises:
        UserError: the folder holds something else, or cannot be written to.
    """
    started = time.monotonic()
    if folder.exists() and any(folder.iterdir()) and not (folder / "world").exists():
        raise UserError(f"{folder} holds other files: name an empty folder with --out")
    for part in (*PARTS, MAP, CHANGE_MAP, OBJECT_MAP):
        shutil.rmtree(folder / part, ignore_errors=True)
    log_info(f"drawing a world of {WORLD_SIZE} x {WORLD_SIZE} pixels at {GSD} m")
    world = make_world(WORLD_SIZE, WORLD_SEED)
    write_world(world, folder / "world")
    write_outline(north_of(world), folder / "world" / "north.gpkg")
    report = Report("Demo", "A world drawn by code, and what models learn of it")
    _show_world(world, report)
    for learn in (learn_scenes, learn_cover, learn_change, learn_objects):
        learn(world, folder, report)
    report.facts({"all of this took": f"{time.monotonic() - started:.0f} s"})
    report.write(folder / "report.html")
    log_info("what to open:")
    log_info(f"  {folder / 'report.html'}  the world, the figures, the maps")
    log_info(
        f"  {folder / MAP / 'preview.html'}  the map over the scene; map.tif and map.gpkg for a GIS"
    )
    log_info(
        f"  {folder / CHANGE_MAP / 'preview.html'}  what changed, with a swipe between the dates"
    )
    log_info(
        f"  {folder / OBJECT_MAP / 'preview.html'}  the objects, with their scores and headings"
    )
    for run in (CLASSIFIER, SEGMENTER, DETECTOR, FINDER):
        log_info(f"  {folder / run / 'report.html'}  figures and pictures of the test")
    log_info(f"  {folder / 'world'}  the world as GeoTIFFs: four seasons, two dates, exact labels")


def learn_scenes(world: World, folder: Path, report: Report) -> None:
    """Classify chips that show one scene each.

    Args:
        world: whose chips and scene are used.
        folder: of the demo, where data, run and map go.
        report: gets the section of this task.
    """
    count = cut_chips(world, folder / "chips")
    log_info(f"{count} chips of {CHIP} x {CHIP} pixels in {len(SCENES)} classes")
    config = SceneClassification(
        backbone=BACKBONE,
        data=SceneData(
            root=folder / "chips",
            train_fraction=0.67,
            image_size=98,
            crop_area=(0.5, 1.0),
            batch_size=32,
            workers=1,
        ),
        decoder=SceneDecoder(kind="light"),
        cache=FeatureCache(views=2),
        training=Training(
            epochs=30, lr=1e-2, decoder_lr_mult=1.0, warmup_epochs=1, evaluate_every=30
        ),
        work_dir=folder / CLASSIFIER,
    )
    figures = tasks.train(config)
    report.section("Scenes", f"What each of {count} chips shows; a third of them is tested.")
    add_figures(report, figures)


def learn_cover(world: World, folder: Path, report: Report) -> None:
    """Learn the class of every pixel, and map it.

    Args:
        world: whose chips and scene are used.
        folder: of the demo, where data, run and map go.
        report: gets the section of this task.
    """
    count = cut_patches(world, folder / "patches")
    log_info(
        f"{count} patches of {PATCH} x {PATCH} pixels with a mask of {len(LAND_COVER)} classes"
    )
    config = SemanticSegmentation(
        backbone=BACKBONE,
        data=SegmentationData(
            root=folder / "patches",
            classes=LAND_COVER,
            colors=tuple(COVER_COLORS[name] for name in LAND_COVER),
            gsd=GSD * PATCH / SHOWN,
            image_size=SHOWN,
            scale=(1.0, 1.0),
            max_class_ratio=1.0,
            color_jitter=False,
            batch_size=8,
            workers=1,
        ),
        # The lowest layers still know where an edge is.
        decoder=SegmentationDecoder(kind="light", layers=(0, 2, 5, 11), channels=256, dice=0.5),
        window=SlidingWindow(overlap=MAP_OVERLAP),
        cache=FeatureCache(views=1),
        training=Training(epochs=14, lr=4e-4, warmup_epochs=1, evaluate_every=14),
        work_dir=folder / SEGMENTER,
    )
    figures = tasks.train(config)
    report.section(
        "Land cover",
        "The class of every pixel, by a decoder on the frozen backbone; tested on the north of the "
        "world, which it has not seen.",
    )
    add_figures(report, figures)
    scene = folder / "world" / "images" / f"1_{SEASON}.tif"
    options = {"vector_format": ("gpkg",), "aoi": folder / "world" / "north.gpkg"}
    map_scenes(folder / SEGMENTER, [scene], folder / MAP, options, [])
    report.section("Map", f"All of the north of {scene.name}, and the same measured on it.")
    _show_map(world, folder / MAP / "map.tif", report)


def learn_change(world: World, folder: Path, report: Report) -> None:
    """Learn which buildings came and went, and map them between two differing scenes.

    Args:
        world: whose chips and scene are used.
        folder: of the demo, where data, run and map go.
        report: gets the section of this task.
    """
    count = cut_pairs(world, folder / "pairs")
    log_info(f"{count} pairs of {PATCH} x {PATCH} pixels with a mask of what changed")
    config = ChangeDetection(
        backbone=BACKBONE,
        data=ChangeData(
            root=folder / "pairs",
            gsd=GSD * PATCH / SHOWN,
            image_size=SHOWN,
            color_jitter=False,
            batch_size=8,
            workers=1,
            rotation=0,
        ),
        decoder=ChangeDecoder(kind="light", class_weights=(1.0, 2.0)),
        window=SlidingWindow(overlap=MAP_OVERLAP),
        cache=FeatureCache(views=1),
        training=Training(epochs=12, lr=4e-4, warmup_epochs=1, evaluate_every=12),
        work_dir=folder / DETECTOR,
    )
    figures = tasks.train(config)
    report.section(
        "Change",
        "Buildings that stand at one of two dates only, by a decoder on the features of both; "
        "tested on the north.",
    )
    add_figures(report, figures)
    images = folder / "world" / "images"
    first = images / f"1_{TWICE_SEEN}.tif"
    later = deliver(images / f"2_{TWICE_SEEN}.tif", folder / "world" / "later.tif")
    options = {
        "vector_format": ("gpkg",),
        "coregister": True,
        "aoi": folder / "world" / "north.gpkg",
    }
    map_scenes(folder / DETECTOR, [first], folder / CHANGE_MAP, options, [], after=[later])
    crs, gsd, shift = LATER
    report.section(
        "Map of change",
        f"The north of {first.name} against a scene that is in {crs}, at {gsd} m and displaced by "
        f"{shift[0]:g} and {shift[1]:g} m, which is found and undone.",
    )
    _show_change(world, folder / CHANGE_MAP / "map.tif", report)


def learn_objects(world: World, folder: Path, report: Report) -> None:
    """Learn to find aeroplanes, ships and tanks, and map them.

    Args:
        world: whose chips and scene are used.
        folder: of the demo, where data, run and map go.
        report: gets the section of this task.
    """
    count = cut_boxes(world, folder / "boxes")
    log_info(f"{count} oriented boxes in chips of {YARD} x {YARD} pixels")
    config = ObjectDetection(
        backbone=BACKBONE,
        data=DetectionData(
            root=folder / "boxes",
            boxes="oriented",
            classes=FOUND_CLASSES,
            annotations="Annotations/Oriented Bounding Boxes",
            gsd=GSD,
            image_size=YARD * 3 // 2,
            scale=(0.9, 1.1),
            batch_size=2,
            workers=1,
        ),
        decoder=DetectionDecoder(kind="light", channels=128),
        cache=FeatureCache(views=2),
        training=Training(
            epochs=FINDER_EPOCHS,
            lr=1e-3,
            decoder_lr_mult=1.0,
            weight_decay=1e-2,
            clip_norm=5.0,
            warmup_epochs=1,
            evaluate_every=FINDER_EPOCHS,
        ),
        work_dir=folder / FINDER,
    )
    figures = tasks.train(config)
    report.section(
        "Objects",
        "Oriented boxes of aeroplanes, ships and tanks, by a dense detector on the frozen "
        "backbone; tested on the north of the world.",
    )
    add_figures(report, figures)
    scene = folder / "world" / "images" / f"1_{TWICE_SEEN}.tif"
    options = {"aoi": folder / "world" / "north.gpkg", "score_threshold": MAPPED_SCORE}
    map_scenes(folder / FINDER, [scene], folder / OBJECT_MAP, options, [])
    report.section("Map of objects", f"All of the north of {scene.name}, measured on it.")
    _show_objects(world, folder / OBJECT_MAP / "map.gpkg", report)


def _show_world(world: World, report: Report) -> None:
    report.section("World", f"{world.size * GSD / 1000:.1f} km a side, {GSD} m a pixel.")
    report.pictures([Picture(world.image(season), season) for season in SEASONS], width=200)


def _show_map(world: World, path: Path, report: Report) -> None:
    """Add pictures of the map and the truth, and what the map is worth."""
    north = _rows_of(world)
    with rasterio.open(path) as file:
        mapped = file.read(1)[north]
    truth = world.land_cover()[north]
    metrics = SegmentationMetrics(len(LAND_COVER))
    metrics.update(torch.from_numpy(mapped), torch.from_numpy(truth))
    add_figures(report, metrics.compute())
    palette = np.array([COVER_COLORS[name] for name in LAND_COVER], np.uint8)
    report.legend({name: COVER_COLORS[name] for name in LAND_COVER})
    pictures = [
        Picture(world.image(SEASON)[north], "scene"),
        Picture(palette[mapped], "map"),
        Picture(palette[truth], "truth"),
    ]
    report.pictures(pictures, width=900)


def _show_change(world: World, path: Path, report: Report) -> None:
    """Add pictures of both dates and the map, and what the map is worth."""
    north = _rows_of(world)
    with rasterio.open(path) as file, rasterio.open(path.parents[1] / "world/change.tif") as truth:
        mapped = file.read(1)
        window = from_bounds(*file.bounds, truth.transform).round_offsets().round_lengths()
        labels = truth.read(1, window=window)
    metrics = ChangeMetrics()
    known = np.where(mapped == 255, 255, labels)
    predicted = np.where(mapped == 255, 0, mapped)
    metrics.update(torch.from_numpy(predicted), torch.from_numpy(known))
    add_figures(report, metrics.compute())
    report.legend({"found": FOUND, "missed": MISSED, "false alarm": FALSE_ALARM})
    pictures = [Picture(world.image(TWICE_SEEN, date)[north], f"date {date}") for date in DATES]
    pictures.append(Picture(outcome(known, mapped)[: north.stop], "map of change"))
    report.pictures(pictures, width=900)


def _show_objects(world: World, path: Path, report: Report) -> None:
    """Add what the map is worth, and a picture of what was found."""
    north = _rows_of(world)
    objects = objects_of(world, DATES[0])
    known = known_boxes(objects.select(objects.corners[..., 1].mean(1) < north.stop))
    found = mapped_boxes(path)
    metrics = DetectionMetrics(len(FOUND_CLASSES), oriented=True)
    metrics.update(0, found, known.boxes, known.labels, torch.zeros(len(known), dtype=torch.bool))
    add_figures(report, metrics.compute())
    rows = metrics.per_class(FOUND_CLASSES)
    report.table(list(rows[0]), [list(row.values()) for row in rows], bars=["AP50"])
    sure = found[found.scores >= metrics.score_threshold]
    picture = draw_found(world.image(TWICE_SEEN)[north], sure, FOUND_CLASSES)
    report.pictures([Picture(picture, "found")], width=900)


def _rows_of(world: World) -> slice:
    """Rows of the north."""
    return slice(0, north_of(world)[3])
