"""A world on disk: GeoTIFFs of its pictures and masks, GeoJSON of its objects."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.transform import from_origin

from cgeartheye.synthetic.ground import GSD, Bytes
from cgeartheye.synthetic.layout import SCENES
from cgeartheye.synthetic.materials import LAND_COVER
from cgeartheye.synthetic.objects import OBJECTS
from cgeartheye.synthetic.world import DATES, Objects, World
from cgeartheye.utils.io import replacing, write_text

EPSG = 32650  # UTM zone 50 north
TRANSFORM = from_origin(500_000.0, 4_400_000.0, GSD, GSD)
"""From pixels to metres east and north."""

PICTURES = ((1, "spring"), (1, "summer"), (1, "autumn"), (1, "winter"), (2, "autumn"))
"""Date and season of the pictures that are written."""

_TAKEN = {"spring": "04:22", "summer": "07:16", "autumn": "10:19", "winter": "01:18"}
_YEARS = {1: 2021, 2: 2024}
COVER_COLORS = {
    "field": (232, 206, 110),
    "tree": (38, 115, 51),
    "grass": (150, 204, 102),
    "bare": (200, 164, 128),
    "water": (64, 124, 204),
    "road": (78, 78, 84),
    "paved": (176, 176, 176),
    "building": (214, 66, 56),
}
_SCENE_COLORS = {
    "airport": (236, 150, 40),
    "bare land": (200, 160, 120),
    "farmland": (224, 208, 120),
    "forest": (34, 96, 40),
    "harbour": (124, 62, 160),
    "highway": (88, 88, 92),
    "industrial": (164, 122, 160),
    "lake": (34, 62, 160),
    "meadow": (152, 212, 122),
    "parking": (202, 202, 202),
    "residential": (222, 92, 82),
    "river": (80, 142, 220),
}


def write_world(world: World, folder: Path) -> None:
    """Write a world below a folder.

    - `images/<date>_<season>.tif`: the `PICTURES`, RGB, 8 bits, with the time they were taken.
    - `land_cover_<date>.tif`: indices into `LAND_COVER`, with a color table; 255 would be "not
      labelled", which no pixel is.
    - `scenes.tif`: indices into `SCENES`, in the same form.
    - `change.tif`: 1 where a building stands at one date only.
    - `objects_<date>.geojson`: the oriented boxes in longitude and latitude, as GeoJSON has it,
      with the class and, in pixels, the corners and the horizontal box.

    All others are in UTM (`EPSG`), 0.75 m a pixel. The tag `CLASSES` of a mask names its values.

    Raises:
        UserError: the folder cannot be written to.
    """
    for date, season in PICTURES:
        pixels = world.image(season, date)
        taken = f"{_YEARS[date]}:{_TAKEN[season]} 10:30:00"
        tags = {"TIFFTAG_DATETIME": taken, "SEASON": season}
        _write(folder / "images" / f"{date}_{season}.tif", np.moveaxis(pixels, -1, 0), tags)
    cover_colors = [COVER_COLORS[name] for name in LAND_COVER]
    for date in DATES:
        cover = world.land_cover(date)
        _write_mask(folder / f"land_cover_{date}.tif", cover, LAND_COVER, cover_colors)
        write_text(folder / f"objects_{date}.geojson", _geojson(world.boxes(date)))
    scene_colors = [_SCENE_COLORS[name] for name in SCENES]
    _write_mask(folder / "scenes.tif", world.scene, SCENES, scene_colors)
    states = [(0, 0, 0), (255, 255, 255)]
    _write_mask(folder / "change.tif", world.change(), ("same", "changed"), states)


def _write_mask(
    path: Path, mask: Bytes, classes: Sequence[str], colors: Sequence[tuple[int, int, int]]
) -> None:
    _write(path, mask[None], {"CLASSES": ",".join(classes)}, dict(enumerate(colors)))


def _write(
    path: Path,
    bands: Bytes,
    tags: dict[str, str],
    colors: dict[int, tuple[int, int, int]] | None = None,
) -> None:
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
            dtype="uint8",
            crs=CRS.from_epsg(EPSG),
            transform=TRANSFORM,
            nodata=255 if colors else None,
            tiled=True,
            blockxsize=256,
            blockysize=256,
            compress="deflate",
            predictor=2,
            zlevel=1 if count == 3 else 6,  # noise hardly compresses, whatever the effort
            photometric="RGB" if count == 3 else None,
        ) as file,
    ):
        file.write(bands)
        file.update_tags(**tags)
        if colors:
            file.write_colormap(1, colors)


def _geojson(objects: Objects) -> str:
    """The boxes of one date as a feature collection (RFC 7946)."""
    # Clockwise in the image; outer rings run the other way.
    ring = objects.corners[:, [0, 3, 2, 1, 0]]
    on_map = ring * (GSD, -GSD) + (TRANSFORM.c, TRANSFORM.f)
    to_degrees = Transformer.from_crs(EPSG, "OGC:CRS84", always_xy=True)
    degrees = np.stack(to_degrees.transform(on_map[..., 0], on_map[..., 1]), axis=-1)
    rings = degrees.round(8).tolist()  # to a millimeter
    corners, horizontal = objects.corners.round(3).tolist(), objects.horizontal.round(3).tolist()
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [rings[n]]},
            "properties": {
                "class": OBJECTS[label],
                "corners": corners[n],
                "horizontal": horizontal[n],
            },
        }
        for n, label in enumerate(objects.labels)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})
