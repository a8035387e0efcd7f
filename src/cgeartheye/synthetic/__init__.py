"""A small georeferenced world drawn by code, with exact labels for every task."""

from cgeartheye.synthetic.chips import (
    Square,
    held_out_from,
    objects_in,
    split,
    write_detection_chips,
)
from cgeartheye.synthetic.export import COVER_COLORS, write_world
from cgeartheye.synthetic.ground import GSD
from cgeartheye.synthetic.layout import SCENES
from cgeartheye.synthetic.materials import LAND_COVER, SEASONS
from cgeartheye.synthetic.objects import OBJECTS
from cgeartheye.synthetic.world import DATES, Objects, World, make_world

__all__ = [
    "COVER_COLORS",
    "DATES",
    "GSD",
    "LAND_COVER",
    "OBJECTS",
    "SCENES",
    "SEASONS",
    "Objects",
    "Square",
    "World",
    "held_out_from",
    "make_world",
    "objects_in",
    "split",
    "write_detection_chips",
    "write_world",
]
