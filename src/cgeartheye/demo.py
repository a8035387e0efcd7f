"""The demo: a small world drawn by code, a classifier tuned on it, a report."""

import shutil
from pathlib import Path

from PIL import Image

from cgeartheye.config import Backbone, SceneClassification, SceneData, Training
from cgeartheye.data.synthetic import SCENES, SEASONS, World, make_world, write_world
from cgeartheye.errors import UserError
from cgeartheye.files import replacing
from cgeartheye.tasks import runs
from cgeartheye.training.progress import say

WORLD_SIZE = 3072  # pixels a side: 2.3 km
CHIP = 96  # pixels a side: 72 m
EPOCHS = 20
RUN = "scene-classification"


def demo(folder: Path) -> None:
    """Draw a world, cut chips from it, train on two thirds of them, test on the rest.

    Everything goes below `folder`: `world/` (GeoTIFFs, exact masks and boxes), `chips/` (a folder
    of class folders), `scene-classification/` (the model and `report.html`).

    Raises:
        UserError: the folder holds something else, or cannot be written to.
    """
    marker = folder / "world"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise UserError(f"{folder} holds other files: name an empty folder with --out")
    for part in ("world", "chips", RUN):
        shutil.rmtree(folder / part, ignore_errors=True)
    say(f"drawing a world of {WORLD_SIZE} x {WORLD_SIZE} pixels at 0.75 m")
    world = make_world(WORLD_SIZE, seed=0)
    write_world(world, folder / "world")
    count = _cut_chips(world, folder / "chips")
    say(f"{count} chips of {CHIP} x {CHIP} pixels in {len(SCENES)} classes")
    runs.train(_config(folder))
    say("what to open:")
    say(f"  {folder / RUN / 'report.html'}  figures and pictures of the test")
    say(f"  {folder / 'world'}  the world as GeoTIFFs: four seasons, two dates, exact labels")


def _config(folder: Path) -> SceneClassification:
    """A `tiny` backbone tuned fully: it has no weights of its own yet to stay frozen on."""
    return SceneClassification(
        backbone=Backbone(name="tiny", tuning="full", gsd=0.75),
        data=SceneData(
            root=folder / "chips",
            train_fraction=0.67,
            image_size=56,
            crop_area=(0.5, 1.0),
            batch_size=32,
            workers=1,
        ),
        training=Training(epochs=EPOCHS, lr=1e-3, lr_batch=None, clip_norm=1.0, warmup_epochs=2),
        work_dir=folder / RUN,
    )


def _cut_chips(world: World, folder: Path) -> int:
    """Write the chips of all classes as PNG, one season each in turn; return how many."""
    seasons = {season: world.image(season) for season in SEASONS}
    chips = world.chips(CHIP)
    for number, (row, column, scene) in enumerate(chips):
        season = SEASONS[number % len(SEASONS)]
        pixels = seasons[season][row : row + CHIP, column : column + CHIP]
        name = f"{season}_{row}_{column}.png"
        with replacing(folder / SCENES[scene] / name) as path:
            Image.fromarray(pixels).save(path)
    return len(chips)
