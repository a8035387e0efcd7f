"""Data of the demo, cut out of its world: chips, patches, pairs, boxes."""

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

from cgeartheye.boxes import Detections, oriented_of
from cgeartheye.geo.raster_writer import replacing_raster
from cgeartheye.synthetic import (
    COVER_COLORS,
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
from cgeartheye.synthetic.export import EPSG, TRANSFORM
from cgeartheye.utils.io import replacing, write_image

SEASON = "summer"  # of the land cover
TWICE_SEEN = "autumn"  # of change and objects: there are scenes of both dates
CHIP = 96  # pixels a side of a chip that shows one scene: 72 m
PATCH = 126  # pixels a side of what pixels are learned from
SHOWN = 210  # of that as the network sees it: its patches are as large as houses
YARD = 252  # pixels a side of what objects are learned from: ships are half as long
FOUND_CLASSES = ("aeroplane", "ship", "storage tank")  # of OBJECTS
LATER = "EPSG:32651", 0.6, (3.0, -2.0)
"""The later scene's CRS, m/px and offset in m; it is turned by 4 degrees."""


def north_of(world: World) -> Square:
    """Return the tested and mapped third of a world, from which only chips are learned."""
    return 0, 0, world.size, world.size - held_out_from(world.size)


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
    """Write images and masks, enlarged."""
    picture, cover = Image.fromarray(world.image(SEASON)), Image.fromarray(world.land_cover())
    cover.putpalette([value for name in LAND_COVER for value in COVER_COLORS[name]])
    squares = _squares(world)
    for part, square in squares:
        name = f"{square[1]}_{square[0]}.png"
        _write_enlarged(folder / part / "Img" / name, picture, square)
        _write_enlarged(folder / part / "Label" / name, cover, square)
    return len(squares)


def cut_pairs(world: World, folder: Path) -> int:
    """Write pairs and masks, enlarged, at the same places."""
    mask = Image.fromarray(world.change())
    pictures = {date: Image.fromarray(world.image(TWICE_SEEN, date)) for date in DATES}
    squares = _squares(world)
    for part, square in squares:
        name = f"{square[1]}_{square[0]}.png"
        for date, picture in pictures.items():
            _write_enlarged(folder / part / f"Image{date}" / name, picture, square)
        _write_enlarged(folder / part / "Label" / name, mask, square)
    return len(squares)


def cut_boxes(world: World, folder: Path) -> int:
    """Write what shows objects: of the south at both dates, of the north at the first.

    Returns:
        How many boxes there are.
    """
    learned, tested = split(world.size, YARD, held_out="north")
    return sum(
        write_detection_chips(
            world, folder, part, _shown(world, squares, dates), (TWICE_SEEN,), dates, FOUND_CLASSES
        )
        for part, squares, dates in (("train", learned, DATES), ("val", tested, DATES[:1]))
    )


def objects_of(world: World, date: int) -> Objects:
    """Those of `FOUND_CLASSES`."""
    objects = world.boxes(date)
    return objects.select(np.isin(objects.labels, [OBJECTS.index(n) for n in FOUND_CLASSES]))


def known_boxes(objects: Objects) -> Detections:
    """Objects of `FOUND_CLASSES` as they would be found."""
    labels = [FOUND_CLASSES.index(OBJECTS[label]) for label in objects.labels]
    return boxes_of(objects.corners, labels, np.ones(len(labels)))


def mapped_boxes(path: Path) -> Detections:
    """Objects of a map of `FOUND_CLASSES`, a GeoPackage, in pixels of the world."""
    frame = geopandas.read_file(path, layer="map")  # beside its layer of styles
    ring = shapely.get_coordinates(frame.geometry.to_numpy()).reshape(-1, 5, 2)[:, :4]
    pixels = (ring - (TRANSFORM.c, TRANSFORM.f)) / (TRANSFORM.a, TRANSFORM.e)
    return boxes_of(pixels, frame["value"].tolist(), frame["score"].to_numpy())


def boxes_of(corners: np.ndarray, labels: Sequence[int], scores: np.ndarray) -> Detections:
    """Return the oriented boxes of corners.

    Args:
        corners: `[n, 4, 2]`, pixels.
        labels: class indices, n.
        scores: `[n]`, 0..1.
    """
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


def _squares(world: World) -> list[tuple[str, Square]]:
    """Parts and places of what is learned from, in the south, and of what is tested."""
    learned, tested = split(world.size, PATCH, held_out="north")
    # A third is enough of a test, as the map is measured on all of it.
    return [("train", square) for square in learned] + [("val", square) for square in tested[::3]]


def _write_enlarged(path: Path, picture: Image.Image, square: Square) -> None:
    """Write a square of a picture, or of a mask."""
    how = Image.Resampling.BILINEAR if picture.mode == "RGB" else Image.Resampling.NEAREST
    write_image(path, picture.resize((SHOWN, SHOWN), how, square), compress_level=1)


def deliver(source: Path, path: Path) -> Path:
    """Write a scene in another CRS, at another resolution and displaced."""
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
            replacing_raster(path) as temporary,
        ):
            rasterio.shutil.copy(warped, temporary, driver="GTiff", tiled=True, compress="deflate")
    return path


def write_outline(square: Square, path: Path) -> Path:
    """Write a square of the world as a vector file."""
    with replacing(path) as temporary:
        geopandas.GeoDataFrame(geometry=[outline_of(square)], crs=EPSG).to_file(
            temporary, driver="GPKG", layer="area"
        )
    return path
