"""The demo: a small world drawn by code, a classifier and a segmenter tuned on it, a map of it."""

import shutil
import time
from pathlib import Path

import numpy as np
import rasterio
import torch
from PIL import Image

from cgeartheye.config import (
    Backbone,
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
    GSD,
    LAND_COVER,
    SCENES,
    SEASONS,
    World,
    make_world,
    write_world,
)
from cgeartheye.errors import UserError
from cgeartheye.evaluation.metrics import SegmentationMetrics
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
CLASSIFIER, SEGMENTER, MAP = "scene-classification", "land-cover", "map"


def demo(folder: Path) -> None:
    """Draw a world, learn its scenes and its land cover from chips, map it.

    Everything goes below `folder`: `world/` (GeoTIFFs, exact masks and boxes), `chips/` (a folder
    of class folders) and `scene-classification/` (the classifier), `patches/` (images and masks)
    and `land-cover/` (the segmenter, on the classifier's backbone), `map/`, and `report.html`.

    Raises:
        UserError: the folder holds something else, or cannot be written to.
    """
    started = time.monotonic()
    if folder.exists() and any(folder.iterdir()) and not (folder / "world").exists():
        raise UserError(f"{folder} holds other files: name an empty folder with --out")
    for part in ("world", "chips", "patches", "features", CLASSIFIER, SEGMENTER, MAP):
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
    report.facts({"all of this took": f"{time.monotonic() - started:.0f} s"})
    report.write(folder / "report.html")
    say("what to open:")
    say(f"  {folder / 'report.html'}  the world, the figures, the map")
    say(
        f"  {folder / MAP / 'preview.html'}  the map over the scene; map.tif and map.gpkg for a GIS"
    )
    for run in (CLASSIFIER, SEGMENTER):
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
        training=Training(epochs=EPOCHS, lr=1e-3, lr_batch=None, clip_norm=1.0, warmup_epochs=2),
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
        training=Training(
            epochs=COVER_EPOCHS, lr=6e-3, lr_batch=None, warmup_epochs=1, evaluate_every=6
        ),
        work_dir=folder / SEGMENTER,
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
    east, count = _east(world.size), 0
    for part, left, right, side, seasons in (
        ("train", 0, east, PATCH, SEASONS),
        ("val", east, world.size, world.size - east, (SEASON,)),
    ):
        for top in range(0, world.size - side + 1, side):
            for x in range(left, right - side + 1, side):
                season = seasons[count % len(seasons)]
                box = x, top, x + side, top + side
                name = f"{season}_{top}_{x}.png"
                _save(folder / part / "Img" / name, pictures[season].crop(box))
                _save(folder / part / "Label" / name, cover.crop(box))
                count += 1
    return count


def _east(size: int) -> int:
    """The first column of the third of the world that is tested."""
    return size * 2 // 3


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
    truth, east = world.land_cover(), _east(world.size)
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
