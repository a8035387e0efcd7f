"""The demo: a small world drawn by code, models tuned on it, maps of its land and its change."""

import shutil
import time
from pathlib import Path

import numpy as np
import rasterio.shutil
import torch
from affine import Affine
from PIL import Image
from rasterio.enums import Resampling
from rasterio.transform import array_bounds
from rasterio.vrt import WarpedVRT
from rasterio.warp import calculate_default_transform
from rasterio.windows import from_bounds

from cgeartheye.config import (
    Backbone,
    ChangeData,
    ChangeDecoder,
    ChangeDetection,
    SceneClassification,
    SceneData,
    SegmentationData,
    SegmentationDecoder,
    SemanticSegmentation,
    Training,
)
from cgeartheye.config.schema import FeatureCache
from cgeartheye.data.synthetic import (
    COVER_COLOURS,
    DATES,
    GSD,
    LAND_COVER,
    SCENES,
    SEASONS,
    Square,
    World,
    held_out_from,
    make_world,
    split,
    write_world,
)
from cgeartheye.errors import UserError
from cgeartheye.evaluation.change_report import FALSE_ALARM, FOUND, MISSED, outcome
from cgeartheye.evaluation.metrics import ChangeMetrics, SegmentationMetrics
from cgeartheye.evaluation.page import Picture, Report
from cgeartheye.evaluation.sections import add_figures
from cgeartheye.files import replacing
from cgeartheye.tasks import runs
from cgeartheye.tasks.maps import map_scenes
from cgeartheye.training.progress import say

WORLD_SIZE = 3072  # pixels a side: 2.3 km
SEASON = "summer"  # of the scene that is mapped
CHIP = 96  # pixels a side of a chip that shows one scene: 72 m
EPOCHS = 20
PATCH = 126  # pixels a side of a chip of land cover; the network sees it as it is
COVER_EPOCHS = 24
CHANGE_EPOCHS = 24
LATER = "EPSG:32651", 0.6, (3.0, -2.0)
"""How the later scene is delivered: reference system (turned by 4 degrees), m a pixel, m off."""
CLASSIFIER, SEGMENTER, DETECTOR = "scene-classification", "land-cover", "change"
MAP, CHANGE_MAP = "map", "change-map"
PARTS = "world", "chips", "patches", "pairs", "features", CLASSIFIER, SEGMENTER, DETECTOR


def demo(folder: Path) -> None:
    """Draw a world, learn its scenes, its land cover and its change from chips, map it.

    Everything goes below `folder`: `world/` (GeoTIFFs, exact masks and boxes), `chips/` (a folder
    of class folders) and `scene-classification/` (the classifier), `patches/` (images and masks)
    and `land-cover/` (the segmenter, on the classifier's backbone), `map/`, `pairs/`, `change/`
    and `change-map/` (the same of two dates), and `report.html`.

    Raises:
        UserError: the folder holds something else, or cannot be written to.
    """
    started = time.monotonic()
    if folder.exists() and any(folder.iterdir()) and not (folder / "world").exists():
        raise UserError(f"{folder} holds other files: name an empty folder with --out")
    for part in (*PARTS, MAP, CHANGE_MAP):
        shutil.rmtree(folder / part, ignore_errors=True)
    say(f"drawing a world of {WORLD_SIZE} x {WORLD_SIZE} pixels at {GSD} m")
    world = make_world(WORLD_SIZE, seed=0)
    write_world(world, folder / "world")
    report = Report("Demo", "A world drawn by code, and what models learn of it")
    _show_world(world, report)

    count = _cut_chips(world, folder / "chips")
    say(f"{count} chips of {CHIP} x {CHIP} pixels in {len(SCENES)} classes")
    figures = runs.train(_classifier(folder))
    report.section("Scenes", f"What each of {count} chips shows; a third of them is tested.")
    add_figures(report, figures)

    count = _cut_patches(world, folder / "patches")
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

    count = _cut_pairs(world, folder / "pairs")
    say(f"{count} pairs of {PATCH} x {PATCH} pixels with a mask of what changed")
    figures = runs.train(_detector(folder))
    report.section(
        "Change",
        "Buildings that stand at one of two dates only, by a decoder on the features of both; "
        "tested on the east.",
    )
    add_figures(report, figures)
    first = folder / "world" / "images" / "1_autumn.tif"
    later = _deliver(folder / "world" / "images" / "2_autumn.tif", folder / "world" / "later.tif")
    options = {"vector": ("gpkg",), "register": True}
    map_scenes(folder / DETECTOR, [first], folder / CHANGE_MAP, options, [], after=[later])
    crs, gsd, shift = LATER
    report.section(
        "Map of change",
        f"{first.name} against a scene that is in {crs}, at {gsd} m and displaced by "
        f"{shift[0]:g} and {shift[1]:g} m, which is found and undone; measured on the east.",
    )
    _show_change(world, folder / CHANGE_MAP / "map.tif", report)
    report.facts({"all of this took": f"{time.monotonic() - started:.0f} s"})
    report.write(folder / "report.html")
    say("what to open:")
    say(f"  {folder / 'report.html'}  the world, the figures, the map")
    say(
        f"  {folder / MAP / 'preview.html'}  the map over the scene; map.tif and map.gpkg for a GIS"
    )
    say(f"  {folder / CHANGE_MAP / 'preview.html'}  what changed, with a swipe between the dates")
    for run in (CLASSIFIER, SEGMENTER, DETECTOR):
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
        training=Training(epochs=EPOCHS, lr=1e-3, decoder_lr=1.0, clip_norm=1.0, warmup_epochs=2),
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
        training=Training(epochs=COVER_EPOCHS, lr=6e-4, warmup_epochs=1, evaluate_every=6),
        work_dir=folder / SEGMENTER,
    )


def _detector(folder: Path) -> ChangeDetection:
    return ChangeDetection(
        backbone=Backbone(name="tiny", weights=folder / CLASSIFIER / "model.safetensors", gsd=GSD),
        data=ChangeData(
            root=folder / "pairs", gsd=GSD, image_size=PATCH, batch_size=16, workers=1, rotation=0
        ),
        decoder=ChangeDecoder(kind="light", class_weights=(1.0, 3.0)),
        cache=FeatureCache(views=4),
        training=Training(epochs=CHANGE_EPOCHS, lr=6e-4, warmup_epochs=1, evaluate_every=6),
        work_dir=folder / DETECTOR,
    )


def _cut_chips(world: World, folder: Path) -> int:
    """Write the chips of all classes as PNG, one season each in turn; return how many."""
    seasons = {season: world.image(season) for season in SEASONS}
    chips = world.chips(CHIP)
    for number, (row, column, scene) in enumerate(chips):
        season = SEASONS[number % len(SEASONS)]
        pixels = seasons[season][row : row + CHIP, column : column + CHIP]
        _save(folder / SCENES[scene] / f"{season}_{row}_{column}.png", Image.fromarray(pixels))
    return len(chips)


def _cut_patches(world: World, folder: Path) -> int:
    """Write images and masks: small ones of the west in all seasons, large ones of the east."""
    cover = Image.fromarray(world.land_cover())
    cover.putpalette([value for name in LAND_COVER for value in COVER_COLOURS[name]])
    pictures = {season: Image.fromarray(world.image(season)) for season in SEASONS}
    squares = _squares(world.size)
    for number, (part, box) in enumerate(squares):
        season = SEASON if part == "val" else SEASONS[number % len(SEASONS)]
        name = f"{season}_{box[1]}_{box[0]}.png"
        _save(folder / part / "Img" / name, pictures[season].crop(box))
        _save(folder / part / "Label" / name, cover.crop(box))
    return len(squares)


def _cut_pairs(world: World, folder: Path) -> int:
    """Write pairs and masks at the same places, small ones of any two seasons."""
    change = Image.fromarray(world.change())
    pictures = {
        (season, date): Image.fromarray(world.image(season, date))
        for season in SEASONS
        for date in DATES
    }
    squares = _squares(world.size)
    for number, (part, box) in enumerate(squares):
        seasons = SEASONS[number % 4], SEASONS[number // 4 % 4]
        if part == "val":
            seasons = "autumn", "autumn"
        name = f"{box[1]}_{box[0]}.png"
        for date, season in zip(DATES, seasons, strict=True):
            _save(folder / part / f"Image{date}" / name, pictures[season, date].crop(box))
        _save(folder / part / "Label" / name, change.crop(box))
    return len(squares)


def _squares(size: int) -> list[tuple[str, Square]]:
    """Parts and places of what is learned from, in the west, and of what is tested, in the east.

    The east is one column of squares, as large as it is wide.
    """
    parts = split(size, PATCH, test_side=size - held_out_from(size))
    names = "train", "val"
    return [(name, square) for name, part in zip(names, parts, strict=True) for square in part]


def _deliver(source: Path, path: Path) -> Path:
    """Write a scene in another reference system, at another resolution and displaced."""
    crs, gsd, (east, north) = LATER
    with rasterio.open(source) as file:
        moved = Affine.translation(east, north) @ file.transform
        bounds = array_bounds(file.height, file.width, moved)
        transform, width, height = calculate_default_transform(
            file.crs, crs, file.width, file.height, *bounds, resolution=gsd
        )
        with (
            WarpedVRT(
                file,
                src_transform=moved,
                crs=crs,
                transform=transform,
                width=width,
                height=height,
                resampling=Resampling.bilinear,
                add_alpha=True,
            ) as warped,
            replacing(path) as temporary,
        ):
            rasterio.shutil.copy(warped, temporary, driver="GTiff", tiled=True, compress="deflate")
    return path


def _save(path: Path, image: Image.Image) -> None:
    with replacing(path) as temporary:
        image.save(temporary, "PNG")


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
