"""A picture of the ground as a satellite sees it: season, sun, shadows, haze, optics, noise."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cgeartheye.synthetic.ground import GSD, Bytes, Ground, Reals, fractal, noise
from cgeartheye.synthetic.materials import COVER_OF, LAND_COVER, LOOKS, SEASONS, Material

_SKY = (0.31, 0.34, 0.38)  # share of the light that comes from the sky: shadows are bluish
_AIR = (176, 186, 200)  # the color of haze
_SHADOW_STEPS = 6  # 2**6 pixels: as far as the highest building throws its shadow in winter


@dataclass(frozen=True)
class Light:
    """Sun and air of the moment when a picture is taken.

    Attributes:
        azimuth: of the sun, degrees clockwise from north.
        elevation: of the sun, degrees above the horizon.
        haze: share of the light that comes from the air itself, 0..1.
        gain: exposure of red, green and blue.
    """

    azimuth: float
    elevation: float
    haze: float
    gain: tuple[float, float, float]


# Late morning in northern mid-latitudes.
_SUNS = {
    "spring": (142.0, 50.0),
    "summer": (126.0, 63.0),
    "autumn": (152.0, 41.0),
    "winter": (159.0, 28.0),
}


def light_of(season: str, date: int, rng: np.random.Generator) -> Light:
    """Return the light of one season and date.

    Args:
        season: of `SEASONS`.
        date: 1 or 2.
        rng: is drawn from.
    """
    azimuth, elevation = _SUNS[season]
    gain = rng.uniform(0.94, 1.06) * rng.uniform(0.97, 1.03, 3) * (1.0 if date == 1 else 1.04)
    haze = rng.uniform(0.03, 0.08) + (0.0 if date == 1 else 0.07)
    turn, lift = rng.uniform(-5, 5), rng.uniform(-2, 2)
    return Light(azimuth + turn, elevation + lift, haze, (gain[0], gain[1], gain[2]))


def render(ground: Ground, season: str, light: Light, rng: np.random.Generator) -> Bytes:
    """Draw the picture.

    Args:
        ground: what is to be seen.
        season: one of `SEASONS`.
        light: sun and air.
        rng: of the texture of the ground, of haze and of the sensor's noise.

    Returns:
        uint8 `[H, W, 3]`.
    """
    size = ground.size
    looks = [LOOKS[material] for material in Material]
    number = SEASONS.index(season)
    low, high = np.array([k.colors[number] for k in looks], np.float32).swapaxes(0, 1)
    mottle, grain, stripe = np.array([(k.mottle, k.grain, k.stripe) for k in looks], np.float32).T
    kind = ground.material
    tint = ground.tint / np.float32(255) + 0.22 * mottle[kind] * fractal(rng, size, 24)
    np.clip(tint, -0.3, 1.3, out=tint)
    texture = 1 + grain[kind] * noise(rng, size, 2.2) + stripe[kind] * ground.stripe
    opacity = ground.paint[..., 3] / np.float32(255)
    sun = _sunlight(ground, season, light)
    haze = np.clip(light.haze * (1 + 0.35 * fractal(rng, size, 700, 2)), 0, 0.5)

    image = np.empty((size, size, 3), np.uint8)
    for band in range(3):
        plane = low[:, band][kind] + (high - low)[:, band][kind] * tint
        plane += (ground.paint[..., band] - plane) * opacity
        plane *= texture * (sun + _SKY[band])
        plane += (_AIR[band] - plane) * haze
        plane = _optics(plane * np.float32(light.gain[band]))
        plane += rng.standard_normal((size, size), np.float32) * (1.2 + 0.012 * plane)
        image[..., band] = np.clip(np.rint(plane), 0, 255)
    return image


def _sunlight(ground: Ground, season: str, light: Light) -> Reals:
    """Return the brightness of the sun on each pixel, `[H, W]`; with the sky 1 on level ground."""
    azimuth, elevation = math.radians(light.azimuth), math.radians(light.elevation)
    east, south = math.sin(azimuth), -math.cos(azimuth)  # towards the sun: right and down
    height = ground.height.astype(np.float32)
    if season == "winter":  # bare crowns let the light through
        height *= np.where(ground.material == Material.BROADLEAF, np.float32(0.45), np.float32(1))
    slope_x, slope_y = ground.slope.astype(np.float32)
    facing = 1 - (slope_x * east + slope_y * south) / math.tan(elevation)
    facing /= np.sqrt(1 + slope_x**2 + slope_y**2)
    shadow = _shadow(height, east, south, math.tan(elevation))
    trees = COVER_OF[ground.material] == LAND_COVER.index("tree")  # some light comes through
    lit = 1 - np.where(trees, np.clip(shadow / 3, 0, 0.7), np.clip(shadow / 0.6, 0, 1))
    return np.asarray((1 - _SKY[1]) * np.clip(facing, 0, 1.5) * lit, np.float32)


def _shadow(height: Reals, east: float, south: float, rise: float) -> Reals:
    """Return the depth of shadow at each pixel, metres `[H, W]`.

    After step k, `roof` holds for each pixel the highest of what stands in the 2^(k + 1) pixels
    towards the sun, less what the sun's ray has risen on the way there.
    """
    roof = height.copy()
    for step in range(_SHADOW_STEPS):
        dx, dy = round(2**step * east), round(2**step * south)
        way = (dx * east + dy * south) * GSD
        np.maximum(roof, _shifted(roof, dx, dy) - way * rise, out=roof)
    return np.asarray(roof - height)


def _shifted(plane: Reals, dx: int, dy: int) -> Reals:
    """For each pixel the value `dx` to its right and `dy` below; 0 beyond the edge."""
    moved = np.zeros_like(plane)
    tall, wide = plane.shape
    rows, columns = (
        slice(max(0, -dy), min(tall, tall - dy)),
        slice(max(0, -dx), min(wide, wide - dx)),
    )
    from_rows = slice(rows.start + dy, rows.stop + dy)
    moved[rows, columns] = plane[from_rows, columns.start + dx : columns.stop + dx]
    return moved


def _optics(plane: Reals) -> Reals:
    """The blur of lens and detector: a Gaussian of about 0.6 pixels."""
    kernel = (0.19, 0.62, 0.19)
    rows = ndimage.correlate1d(plane, kernel, 0, mode="nearest")
    return np.asarray(ndimage.correlate1d(rows, kernel, 1, mode="nearest"))
