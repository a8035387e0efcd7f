"""What the demo learns from and maps, cut out of its world: chips, patches, pairs, boxes."""

from collections.abc import Sequence
from pathlib import Path

import geopandas
import numpy as np
import rasterio
import rasterio.shutil
import shapely
import torch
from affine import Affine
from PIL import Image
from rasterio.enums import Resampling
from rasterio.transform import array_bounds
from rasterio.vrt import WarpedVRT
from rasterio.warp import calculate_default_transform

from cgeartheye.data.synthetic import (
    COVER_COLOURS,
    DATES,
    GSD,
    LAND_COVER,
    OBJECTS,
    SCENES,
    SEASONS,
    Objects,
    Square,
    World,
    held_out_from,
    objects_in,
    split,
    write_detection_chips,
)
from cgeartheye.data.synthetic.export import EPSG, TRANSFORM
from cgeartheye.files import replacing, write_image
from cgeartheye.geometry import Detections, oriented_of

SEASON = "summer"  # of the scene that is mapped
CHIP = 96  # pixels a side of a chip that shows one scene: 72 m
PATCH = 126  # pixels a side of what pixels and objects are learned from
OBJECT_SIDE = 224  # of that as a detector sees it: a boat is smaller than a patch of the backbone
FOUND_CLASSES = ("aeroplane", "ship", "storage tank")  # of OBJECTS
LATER = "EPSG:32651", 0.6, (3.0, -2.0)
"""How the later scene is delivered: reference system (turned by 4 degrees), m a pixel, m off."""


def cut_chips(world: World, folder: Path) -> int:
    """Write the chips of all classes as PNG, one season each in turn; return how many."""
    seasons = {season: world.image(season) for season in SEASONS}
    chips = world.chips(CHIP)
    for number, (row, column, scene) in enumerate(chips):
        season = SEASONS[number % len(SEASONS)]
        pixels = seasons[season][row : row + CHIP, column : column + CHIP]
        write_image(
            folder / SCENES[scene] / f"{season}_{row}_{column}.png", Image.fromarray(pixels)
        )
    return len(chips)


def cut_patches(world: World, folder: Path) -> int:
    """Write images and masks: small ones of the west in all seasons, large ones of the east."""
    cover = Image.fromarray(world.land_cover())
    cover.putpalette([value for name in LAND_COVER for value in COVER_COLOURS[name]])
    pictures = {season: Image.fromarray(world.image(season)) for season in SEASONS}
    squares = _squares(world.size)
    for number, (part, box) in enumerate(squares):
        season = SEASON if part == "val" else SEASONS[number % len(SEASONS)]
        name = f"{season}_{box[1]}_{box[0]}.png"
        write_image(folder / part / "Img" / name, pictures[season].crop(box))
        write_image(folder / part / "Label" / name, cover.crop(box))
    return len(squares)


def cut_pairs(world: World, folder: Path) -> int:
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
            write_image(folder / part / f"Image{date}" / name, pictures[season, date].crop(box))
        write_image(folder / part / "Label" / name, change.crop(box))
    return len(squares)


def cut_boxes(world: World, folder: Path) -> int:
    """Write what shows objects: of the south at both dates, each in two seasons, of the north once.

    Returns:
        How many boxes there are.
    """
    learned, _ = split(world.size, PATCH, held_out="north")
    twice = [square for square in _shown(world, learned, DATES) for _ in range(2)]
    return sum(
        write_detection_chips(world, folder, part, squares, seasons, dates, FOUND_CLASSES)
        for part, squares, seasons, dates in (
            ("train", twice, SEASONS, DATES),
            ("val", tested_squares(world), (SEASON,), DATES[:1]),
        )
    )


def tested_squares(world: World) -> list[Square]:
    """The squares of the north that show objects at the first date."""
    return _shown(world, split(world.size, PATCH, held_out="north")[1], DATES[:1])


def objects_of(world: World, date: int) -> Objects:
    """Those of `FOUND_CLASSES`."""
    objects = world.boxes(date)
    return objects.those(np.isin(objects.labels, [OBJECTS.index(n) for n in FOUND_CLASSES]))


def known_boxes(objects: Objects) -> Detections:
    """Objects of `FOUND_CLASSES` as they would be found."""
    labels = [FOUND_CLASSES.index(OBJECTS[label]) for label in objects.labels]
    return boxes_of(objects.corners, labels, np.ones(len(labels)))


def mapped_boxes(path: Path) -> Detections:
    """Objects of a map of `FOUND_CLASSES`, a GeoPackage, in pixels of the world."""
    frame = geopandas.read_file(path)
    ring = shapely.get_coordinates(frame.geometry.to_numpy()).reshape(-1, 5, 2)[:, :4]
    pixels = (ring - (TRANSFORM.c, TRANSFORM.f)) / (TRANSFORM.a, TRANSFORM.e)
    return boxes_of(pixels, frame["value"].tolist(), frame["score"].to_numpy())


def boxes_of(corners: np.ndarray, labels: Sequence[int], scores: np.ndarray) -> Detections:
    """Oriented boxes of corners `[n, 4, 2]`."""
    return Detections(
        oriented_of(torch.from_numpy(corners.astype(np.float64))).float(),
        torch.from_numpy(scores.astype(np.float32)),
        torch.tensor(labels, dtype=torch.int64),
    )


def outline_of(square: Square) -> shapely.Polygon:
    """A square of the world on its map."""
    corner = TRANSFORM.c, TRANSFORM.f
    return shapely.transform(shapely.box(*square), lambda xy: xy * (GSD, -GSD) + corner)


def _shown(world: World, squares: list[Square], dates: tuple[int, ...]) -> list[Square]:
    known = [objects_of(world, date) for date in dates]
    return [s for s in squares if any(len(objects_in(some, s).labels) for some in known)]


def _squares(size: int) -> list[tuple[str, Square]]:
    """Parts and places of what is learned from, in the west, and of what is tested, in the east.

    The east is one column of squares, as large as it is wide.
    """
    parts = split(size, PATCH, test_side=size - held_out_from(size))
    names = "train", "val"
    return [(name, square) for name, part in zip(names, parts, strict=True) for square in part]


def deliver(source: Path, path: Path) -> Path:
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


def write_tested(world: World, path: Path) -> Path:
    """Write the outlines of the `tested_squares`."""
    on_map = [outline_of(square) for square in tested_squares(world)]
    with replacing(path) as temporary:
        geopandas.GeoDataFrame(geometry=on_map, crs=EPSG).to_file(
            temporary, driver="GPKG", layer="tested"
        )
    return path
