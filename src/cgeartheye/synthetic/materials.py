"""Materials of the ground, and their appearance in each season."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

SEASONS = ("spring", "summer", "autumn", "winter")
LAND_COVER = ("field", "tree", "grass", "bare", "water", "road", "paved", "building")

_Color = tuple[int, int, int]
_Span = tuple[_Color, _Color]  # the two ends between which a tint mixes


class Material(IntEnum):
    """Material of one pixel of the ground: finer than land cover."""

    WHEAT = 0
    RAPE = 1
    MAIZE = 2
    BROADLEAF = 3
    CONIFER = 4
    GRASS = 5
    MEADOW = 6
    REED = 7
    SOIL = 8
    GRAVEL = 9
    TRACK = 10
    RUBBLE = 11
    RIVER = 12
    LAKE = 13
    DOCK = 14
    ROAD = 15
    MOTORWAY = 16
    LOT = 17
    YARD = 18
    QUAY = 19
    DRIVE = 20
    TARMAC = 21
    APRON = 22
    ROOF = 23


@dataclass(frozen=True)
class Appearance:
    """Appearance of a material.

    Attributes:
        cover: its class of `LAND_COVER`.
        colors: sRGB under a high sun, for each of `SEASONS` the two ends of its range.
        mottle: how much patches of some ten metres differ, 0..1.
        grain: how much neighbouring pixels differ, relative to the brightness.
        stripe: how strongly rows (of crops, of mowing) show, relative to the brightness.
        level: metres above the plain; water is below it.
    """

    cover: str
    colors: tuple[_Span, _Span, _Span, _Span]
    mottle: float = 0.2
    grain: float = 0.04
    stripe: float = 0.0
    level: float = 0.0


def _all_year(low: _Color, high: _Color) -> tuple[_Span, _Span, _Span, _Span]:
    return ((low, high),) * 4


LOOKS = {
    Material.WHEAT: Appearance(
        "field",
        (
            ((82, 118, 54), (104, 138, 66)),
            ((186, 160, 102), (206, 182, 120)),
            ((140, 114, 86), (166, 140, 108)),
            ((104, 106, 70), (126, 120, 86)),
        ),
        mottle=0.35,
        grain=0.03,
        stripe=0.07,
    ),
    Material.RAPE: Appearance(
        "field",
        (
            ((178, 170, 62), (206, 194, 74)),
            ((104, 120, 64), (130, 136, 76)),
            ((88, 112, 58), (114, 132, 74)),
            ((94, 100, 64), (116, 114, 80)),
        ),
        mottle=0.35,
        grain=0.03,
        stripe=0.05,
    ),
    Material.MAIZE: Appearance(
        "field",
        (
            ((138, 112, 86), (164, 138, 108)),
            ((60, 94, 42), (82, 116, 52)),
            ((150, 130, 84), (178, 154, 104)),
            ((130, 110, 86), (152, 132, 106)),
        ),
        mottle=0.4,
        grain=0.05,
        stripe=0.10,
    ),
    Material.BROADLEAF: Appearance(
        "tree",
        (
            ((88, 118, 52), (126, 148, 76)),
            ((48, 76, 34), (80, 106, 50)),
            ((92, 100, 46), (156, 106, 50)),
            ((90, 82, 68), (118, 106, 88)),
        ),
        mottle=0.25,
        grain=0.13,
    ),
    Material.CONIFER: Appearance(
        "tree",
        (
            ((40, 64, 42), (58, 82, 52)),
            ((36, 60, 38), (54, 78, 46)),
            ((40, 62, 42), (58, 78, 52)),
            ((42, 58, 44), (58, 72, 54)),
        ),
        grain=0.10,
    ),
    Material.GRASS: Appearance(
        "grass",
        (
            ((96, 128, 60), (126, 152, 80)),
            ((92, 116, 58), (122, 138, 76)),
            ((112, 114, 68), (138, 132, 86)),
            ((122, 110, 80), (146, 132, 102)),
        ),
        mottle=0.5,
        grain=0.05,
        stripe=0.04,
    ),
    Material.MEADOW: Appearance(
        "grass",
        (
            ((98, 124, 62), (138, 152, 84)),
            ((100, 114, 60), (146, 146, 88)),
            ((120, 110, 68), (158, 138, 92)),
            ((128, 112, 82), (160, 142, 110)),
        ),
        mottle=0.9,
        grain=0.08,
        stripe=0.06,
    ),
    Material.REED: Appearance(
        "grass",
        (
            ((84, 104, 56), (120, 130, 76)),
            ((66, 92, 46), (98, 118, 64)),
            ((128, 112, 66), (156, 136, 86)),
            ((136, 120, 90), (160, 144, 112)),
        ),
        mottle=0.7,
        grain=0.10,
    ),
    Material.SOIL: Appearance(
        "bare", _all_year((142, 112, 84), (196, 164, 126)), mottle=0.8, grain=0.05, stripe=0.04
    ),
    Material.GRAVEL: Appearance("bare", _all_year((150, 132, 108), (198, 182, 156)), 0.7, 0.06),
    Material.TRACK: Appearance("bare", _all_year((150, 130, 102), (178, 158, 128)), 0.4, 0.05),
    Material.RUBBLE: Appearance("bare", _all_year((128, 118, 106), (170, 152, 134)), 0.9, 0.10),
    Material.RIVER: Appearance(
        "water",
        (
            ((128, 122, 94), (94, 98, 78)),
            ((98, 108, 84), (66, 84, 70)),
            ((94, 98, 80), (62, 76, 68)),
            ((90, 94, 86), (66, 76, 76)),
        ),
        mottle=0.25,
        grain=0.025,
        level=-2.0,
    ),
    Material.LAKE: Appearance(
        "water",
        (
            ((88, 104, 88), (48, 70, 74)),
            ((78, 100, 82), (36, 62, 66)),
            ((76, 92, 80), (36, 56, 64)),
            ((80, 92, 92), (46, 62, 72)),
        ),
        mottle=0.15,
        grain=0.02,
        level=-0.5,
    ),
    Material.DOCK: Appearance(
        "water",
        (
            ((84, 98, 84), (70, 86, 76)),
            ((68, 88, 76), (54, 76, 68)),
            ((66, 82, 74), (54, 70, 66)),
            ((68, 80, 78), (56, 70, 72)),
        ),
        mottle=0.3,
        grain=0.025,
        level=-3.0,
    ),
    Material.ROAD: Appearance("road", _all_year((98, 98, 99), (134, 132, 128)), 0.3, 0.03),
    Material.MOTORWAY: Appearance("road", _all_year((116, 115, 114), (140, 138, 134)), 0.3, 0.025),
    Material.LOT: Appearance("paved", _all_year((88, 88, 90), (128, 126, 123)), 0.3, 0.035),
    Material.YARD: Appearance("paved", _all_year((132, 129, 122), (176, 170, 160)), 0.6, 0.045),
    Material.QUAY: Appearance("paved", _all_year((150, 146, 137), (188, 182, 171)), 0.5, 0.04),
    Material.DRIVE: Appearance("paved", _all_year((142, 136, 128), (188, 180, 168)), 0.3, 0.04),
    Material.TARMAC: Appearance("paved", _all_year((92, 92, 94), (124, 122, 120)), 0.35, 0.025),
    Material.APRON: Appearance("paved", _all_year((146, 144, 138), (172, 168, 160)), 0.3, 0.025),
    # A roof's color is painted over this one, building by building.
    Material.ROOF: Appearance("building", _all_year((120, 120, 120), (120, 120, 120)), 0.0, 0.03),
}

COVER_OF: npt.NDArray[np.uint8] = np.array(
    [LAND_COVER.index(LOOKS[material].cover) for material in Material], np.uint8
)
"""The class of `LAND_COVER` of each material, uint8 `[len(Material)]`."""

LEVEL_OF: npt.NDArray[np.float16] = np.array(
    [LOOKS[material].level for material in Material], np.float16
)
"""Metres above the plain of each material, float16 `[len(Material)]`."""
