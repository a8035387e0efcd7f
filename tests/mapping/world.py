"""A ground in closed form that any grid can take a picture of, at two dates."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from pyproj import Transformer
from toy_map import NORTH_UP, write_scene

SHAPE = 150, 210
"""Rows and columns of the first date, on `NORTH_UP` in UTM."""

HOUSES = ((40, 60, 22, 30), (100, 20, 18, 18), (95, 150, 30, 24))
"""New objects of the second date: row, column, rows and columns on the first date's grid."""

_RANDOM = np.random.default_rng(7)
_WAVES = _RANDOM.normal(size=(40, 2)) * 0.35  # radians a metre
_PHASES = _RANDOM.uniform(0, 2 * np.pi, (40, 3))

GRIDS: dict[str, tuple[Any, float, float]] = {
    "the same": (32650, 0.75, 0),
    "degrees": (4326, 0.75, 0),
    "mercator, turned": (3857, 0.75, 25),
    "the next zone, finer": (32651, 0.3, 0),
    "turned by a quarter, coarser": (32650, 1.0, 90),
    "upside down": (32650, 0.75, 180),
}
"""CRS, GSD in m/px, degrees by which it is turned."""


@functools.cache
def render(transform: Affine, crs: Any, shape: tuple[int, int], later: bool) -> np.ndarray:
    """Take a picture, uint8 `[3, H, W]`."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    x, y = transform @ (columns, rows)
    to_utm = Transformer.from_crs(crs, 32650, always_xy=True)
    column, row = ~NORTH_UP @ to_utm.transform(x, y)
    place = np.stack([column, row], axis=-1) * 0.75
    waves = place.astype(np.float32) @ _WAVES.T.astype(np.float32)
    pixels = 110 + 11 * (np.cos(waves) @ np.cos(_PHASES) - np.sin(waves) @ np.sin(_PHASES))
    for top, left, height, width in HOUSES if later else ():
        inside = (abs(row - top - height / 2) < height / 2) & (
            abs(column - left - width / 2) < width / 2
        )
        pixels[inside] = pixels[inside] / 4 + 190
    return pixels.clip(1, 255).round().astype(np.uint8).transpose(2, 0, 1)


def first(path: Path, **options: Any) -> Path:
    """Write the first date."""
    return write_scene(path, render(NORTH_UP, 32650, SHAPE, later=False), **options)


def second(
    path: Path,
    grid: str = "the same",
    off: tuple[float, float] = (0.0, 0.0),
    later: bool = True,
    **options: Any,
) -> Path:
    """Write the second date on a grid that holds all of the first.

    Args:
        path: where to.
        grid: of `GRIDS`.
        off: pixels of the first date, rows and columns, by which its georeference is too far down
            and to the right.
        later: whether the houses are there.
        options: of the file.
    """
    crs, size, angle = GRIDS[grid]
    to = Transformer.from_crs(32650, crs, always_xy=True)
    middle = SHAPE[1] / 2, SHAPE[0] / 2
    x, y = to.transform(*(NORTH_UP @ middle))
    steps = (middle[0] + 1, middle[1]), (middle[0], middle[1] + 1)
    east, south = (np.subtract(to.transform(*(NORTH_UP @ p)), (x, y)) / 0.75 for p in steps)
    meters = Affine(east[0], south[0], x, east[1], south[1], y)
    half = round(0.55 * np.hypot(*SHAPE) * 0.75 / size)
    turned = Affine.rotation(angle) @ Affine.scale(size) @ Affine.translation(-half, -half)
    pixels = render(meters @ turned, crs, (2 * half, 2 * half), later)
    wrong = Affine.translation(off[1] * 0.75, off[0] * 0.75)
    return write_scene(path, pixels, meters @ wrong @ turned, crs, **options)
