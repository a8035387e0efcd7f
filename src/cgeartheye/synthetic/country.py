"""A country around synthetic worlds: maps and mosaics from which a pre-training set is made."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from affine import Affine
from scipy.ndimage import gaussian_filter

from cgeartheye.synthetic.export import EPSG, TRANSFORM
from cgeartheye.synthetic.ground import GSD
from cgeartheye.synthetic.materials import LAND_COVER, SEASONS
from cgeartheye.synthetic.world import make_world
from cgeartheye.utils.io import replacing

COVER_STEP = 16  # pixels of a world, 12 m, a pixel of the land cover
HEIGHT_STEP = 40  # pixels of a world, 30 m, a pixel of the elevation

# WorldCover's values, and how common they are where there is no world.
_WILD = {10: 0.30, 20: 0.08, 30: 0.17, 40: 0.20, 50: 0.03, 60: 0.12, 80: 0.07, 90: 0.03}
_OF_WORLD = {
    "field": 40,
    "tree": 10,
    "grass": 30,
    "bare": 60,
    "water": 80,
    "road": 50,
    "paved": 50,
    "building": 50,
}
_NODATA = -9999


@dataclass(frozen=True)
class Country:
    """Size of a country.

    Attributes:
        kilometers: a side of the country, all of which has land cover and elevation.
        tiles: worlds a side, in its middle, which have pictures in all seasons.
        world: pixels a side of a world.
        seed: of the country; its worlds follow from it.
    """

    kilometers: float = 60.0
    tiles: int = 6
    world: int = 2048
    seed: int = 0


def write_country(
    country: Country, folder: Path, progress: Callable[[], None] = lambda: None
) -> None:
    """Write a country below a folder.

    - `regions.gpkg`: five regions; the last, `overseas`, is where there is no land cover.
    - `landcover.tif`: WorldCover's values, 12 m a pixel; below the worlds what is drawn there.
    - `elevation.tif`: metres, 30 m a pixel; a corner has no data.
    - `mosaics/<season>/<row>_<column>.tif`: pictures, 0.75 m a pixel; of several worlds
      the first has no winter.

    Args:
        country: its size.
        folder: where to write; files that are there are not written again.
        progress: called after each world.

    Raises:
        UserError: the folder cannot be written to, or worlds that are too small.
    """
    random = np.random.default_rng(country.seed)
    pixels = round(1000 * country.kilometers / GSD / COVER_STEP) * COVER_STEP
    first = (pixels - country.tiles * country.world) // 2 // COVER_STEP * COVER_STEP
    cover = _wild_cover(pixels // COVER_STEP, random)
    names = np.array([_OF_WORLD[name] for name in LAND_COVER], np.uint8)
    for number in range(country.tiles**2):
        row, column = (first + at * country.world for at in divmod(number, country.tiles))
        world = make_world(country.world, 1000 * country.seed + number)
        half = COVER_STEP // 2
        below = names[world.land_cover()[half::COVER_STEP, half::COVER_STEP]]
        top, left = row // COVER_STEP, column // COVER_STEP
        cover[top : top + len(below), left : left + len(below)] = below
        place = TRANSFORM @ Affine.translation(column, row)
        for season in SEASONS if number or country.tiles == 1 else SEASONS[:-1]:
            path = folder / "mosaics" / season / f"{row}_{column}.tif"
            if not path.exists():
                image = np.moveaxis(world.image(season), -1, 0)
                _write(path, image, place, compress="jpeg", photometric="ycbcr", jpeg_quality=92)
        progress()
    _write(folder / "landcover.tif", cover[None], _coarser(COVER_STEP), nodata=0)
    height = _relief(pixels // HEIGHT_STEP, random)
    _write(folder / "elevation.tif", height[None], _coarser(HEIGHT_STEP), nodata=_NODATA)
    _write_regions(folder / "regions.gpkg", pixels * GSD)


def _wild_cover(side: int, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return patches of every class, with the shares in `_WILD`."""
    noise = _smooth(side, 25, random)
    limits = np.quantile(noise, np.cumsum(list(_WILD.values()))[:-1])
    return np.array(list(_WILD), np.uint8)[np.searchsorted(limits, noise)]


def _relief(side: int, random: np.random.Generator) -> npt.NDArray[np.int16]:
    noise = _smooth(side, side / 12, random)
    height = np.asarray(np.round(1200 * (noise - noise.min()) / np.ptp(noise)), np.int16)
    height[: side // 20, : side // 20] = _NODATA
    return height


def _smooth(side: int, width: float, random: np.random.Generator) -> npt.NDArray[np.float32]:
    noise = random.standard_normal((side, side), np.float32)
    return np.asarray(gaussian_filter(noise, width, mode="reflect"))


def _coarser(step: int) -> Affine:
    coarser: Affine = TRANSFORM @ Affine.scale(step)
    return coarser


def _write_regions(path: Path, side: float) -> None:
    west, north = TRANSFORM.c, TRANSFORM.f
    east, south = west + side, north - side
    x, y = west + 0.55 * side, north - 0.4 * side
    shapes = {
        "north-west": shapely.box(west, y, x, north),
        "north-east": shapely.box(x, y, east, north),
        "south-west": shapely.box(west, south, x, y),
        "south-east": shapely.box(x, south, east, y),
        "overseas": shapely.box(east + side, south, east + 1.1 * side, north - 0.8 * side),
    }
    with replacing(path) as temporary:
        frame = geopandas.GeoDataFrame(
            {"name": list(shapes)}, geometry=[*shapes.values()], crs=EPSG
        )
        frame.to_file(temporary, layer="regions", driver="GPKG")


def _write(path: Path, bands: npt.NDArray[Any], place: Affine, **profile: Any) -> None:
    count, height, width = bands.shape
    with (
        replacing(path) as temporary,
        rasterio.open(
            temporary,
            "w",
            driver="GTiff",
            width=width,
            height=height,
            count=count,
            dtype=bands.dtype,
            crs=f"EPSG:{EPSG}",
            transform=place,
            tiled=True,
            blockxsize=256,
            blockysize=256,
            **({"compress": "deflate"} | profile),
        ) as file,
    ):
        file.write(bands)
