"""A small georeferenced world drawn by code, with exact labels for every task."""

from cgeartheye.data.synthetic.export import COVER_COLOURS, write_world
from cgeartheye.data.synthetic.ground import GSD
from cgeartheye.data.synthetic.materials import LAND_COVER, SEASONS
from cgeartheye.data.synthetic.plan import SCENES
from cgeartheye.data.synthetic.things import OBJECTS
from cgeartheye.data.synthetic.world import DATES, Objects, World, make_world

__all__ = [
    "COVER_COLOURS",
    "DATES",
    "GSD",
    "LAND_COVER",
    "OBJECTS",
    "SCENES",
    "SEASONS",
    "Objects",
    "World",
    "make_world",
    "write_world",
]
