"""The strip of pictures at the top of the README, out of a finished demo.

cgeartheye demo && python tools/docs_strip.py demo docs/images/strip.jpg
"""

import argparse
from pathlib import Path

import geopandas
import numpy as np
import rasterio
import shapely
from PIL import Image, ImageDraw

SIDE = 400  # pixels of a panel
GAP = 8
CHANGED = (230, 60, 40)
BOX = (255, 210, 0)
SCORE = 0.3  # of the boxes that are drawn


def main() -> None:
    """Draw a panel for each map of the demo, side by side."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("demo", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    panels = [land_cover(given.demo), change(given.demo)]
    if (given.demo / "object-map" / "map.gpkg").exists():
        panels.append(objects(given.demo))
    strip = np.full((SIDE, (SIDE + GAP) * len(panels) - GAP, 3), 255, np.uint8)
    for number, panel in enumerate(panels):
        left = number * (SIDE + GAP)
        strip[:, left : left + SIDE] = panel
    given.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(strip).save(given.out, quality=80)


def land_cover(demo: Path) -> np.ndarray:
    """Return a scene to the left of a diagonal, and its map to the right."""
    with rasterio.open(demo / "map" / "map.tif") as file:
        classes, colors = file.read(1), file.colormap(1)
    palette = np.array([colors[value][:3] for value in range(256)], np.uint8)
    corner = _fullest(np.isin(classes, (0, 4)) + 2.0 * (classes == 7))
    return _halves(_cut(_picture(demo / "world/images/1_summer.tif"), corner),
                   _cut(palette[classes], corner))  # fmt: skip


def change(demo: Path) -> np.ndarray:
    """Return the first date to the left of a diagonal, the second to the right, and the change."""
    with rasterio.open(demo / "change-map" / "map.tif") as file:
        changed = file.read(1) == 1
    corner = _fullest(changed)
    dates = [_cut(_picture(demo / f"world/images/{n}_autumn.tif"), corner) for n in (1, 2)]
    shown = _halves(*dates).astype(np.float32)
    mask = _cut(changed, corner)
    shown[mask] = 0.45 * shown[mask] + 0.55 * np.array(CHANGED)
    return shown.astype(np.uint8)


def objects(demo: Path) -> np.ndarray:
    """Return a scene with the oriented boxes that were found in it."""
    path = demo / "world/images/1_autumn.tif"
    with rasterio.open(path) as file:
        to_pixels = ~file.transform
    frame = geopandas.read_file(demo / "object-map" / "map.gpkg", layer="map")
    frame = frame[frame["score"] >= SCORE]
    boxes = shapely.transform(
        frame.geometry.to_numpy(), lambda xy: np.array([to_pixels @ tuple(p) for p in xy])
    )
    picture = _picture(path)
    count = np.zeros(picture.shape[:2], np.float32)
    for box in boxes:
        count[int(box.centroid.y), int(box.centroid.x)] += 1
    corner = _fullest(count)
    image = Image.fromarray(_cut(picture, corner))
    draw = ImageDraw.Draw(image)
    for box in boxes:
        ring = [(x - corner[1], y - corner[0]) for x, y in box.exterior.coords]
        draw.line(ring, fill=BOX, width=2)
    return np.asarray(image)


def _picture(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return np.moveaxis(file.read(), 0, -1)


def _fullest(what: np.ndarray) -> tuple[int, int]:
    """Return row and column of the square that has most of something."""
    sums = np.pad(what.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = sums[SIDE:, SIDE:] - sums[:-SIDE, SIDE:] - sums[SIDE:, :-SIDE] + sums[:-SIDE, :-SIDE]
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(row), int(column)


def _cut(picture: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
    row, column = corner
    return picture[row : row + SIDE, column : column + SIDE]


def _halves(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return two pictures on both sides of a slanting white line."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    edge = SIDE * 0.6 - rows * 0.2
    both = np.where((columns < edge)[..., None], left, right)
    both[np.abs(columns - edge) < 1.5] = 255
    return both


if __name__ == "__main__":
    main()
