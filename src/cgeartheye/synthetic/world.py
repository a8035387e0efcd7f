"""A small georeferenced world: what it is made of, its pictures and its labels."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cgeartheye.synthetic import countryside, town
from cgeartheye.synthetic.airport import airport
from cgeartheye.synthetic.ground import Bytes, Ground
from cgeartheye.synthetic.layout import SCENES, make_plan
from cgeartheye.synthetic.materials import COVER_OF, LAND_COVER, SEASONS, Material
from cgeartheye.synthetic.objects import (
    Buildings,
    Movables,
    draw_buildings,
    draw_movables,
    draw_trees,
    occupy,
)
from cgeartheye.synthetic.render import light_of, render
from cgeartheye.synthetic.shapes import Bools, Boxes, Floats, Ints, pixels_of, stand_apart, stand_on
from cgeartheye.synthetic.sketch import Sketch
from cgeartheye.utils.errors import UserError, nearest

DATES = (1, 2)


class Objects(NamedTuple):
    """All objects of one date.

    Attributes:
        labels: `[N]` indices into `OBJECTS`.
        horizontal: `[N, 4]` x0, y0, x1, y1 in pixels, the bounds of `corners`.
        corners: `[N, 4, 2]` x, y in pixels, of the oriented boxes; the heading of what
            moves points from the middle of the box to between the first two.
    """

    labels: npt.NDArray[np.intp]
    horizontal: Floats
    corners: Floats

    def select(self, which: Bools | Ints) -> "Objects":
        """Some of the objects, by a mask `[N]` or by their places."""
        return Objects(self.labels[which], self.horizontal[which], self.corners[which])


@dataclass(frozen=True, eq=False)
class World:
    """A world of 0.75 m pixels at two dates and in four seasons.

    Between the dates buildings are built and torn down, which `change` marks, and crops rotate,
    vehicles, ships and aeroplanes move, the air is another, which it does not.

    Attributes:
        seed: the world is the same, to the byte, whenever it is made of one size and seed.
        scene: uint8 `[H, W]`, indices into `SCENES`.
        land: the ground without buildings and what moves.
        buildings: those of both dates.
        movables: vehicles, ships and aeroplanes of date 1 and of date 2.
    """

    seed: int
    scene: Bytes
    land: Ground
    buildings: Buildings
    movables: tuple[Movables, Movables]
    _pictures: dict[tuple[str, int], Bytes] = field(default_factory=dict, init=False, repr=False)

    @property
    def size(self) -> int:
        """Pixels a side."""
        return len(self.scene)

    def image(self, season: str, date: int = 1) -> Bytes:
        """The picture of a season (of `SEASONS`) and date (1 or 2), uint8 `[H, W, 3]`.

        It is drawn once, kept, and cannot be written to.

        Raises:
            UserError: an unknown season.
        """
        if season not in SEASONS:
            raise UserError(
                f"season {season!r} is none of {SEASONS}{nearest(season, list(SEASONS))}"
            )
        if (season, date) not in self._pictures:
            rng = np.random.default_rng([self.seed, date, SEASONS.index(season)])
            picture = render(self.ground(date), season, light_of(season, date, rng), rng)
            picture.flags.writeable = False
            self._pictures[season, date] = picture
        return self._pictures[season, date]

    def land_cover(self, date: int = 1) -> Bytes:
        """The class drawn at each pixel, uint8 `[H, W]`, indices into `LAND_COVER`.

        What moves and containers count as what they stand on; a shadow changes nothing.
        """
        return np.asarray(COVER_OF[self.ground(date).material])

    def change(self) -> Bytes:
        """1 where a building stands at one date only, else 0; uint8 `[H, W]`."""
        building = LAND_COVER.index("building")
        first, second = (self.land_cover(date) == building for date in DATES)
        return np.asarray(first ^ second, np.uint8)

    def boxes(self, date: int = 1) -> Objects:
        """All objects of a date."""
        _check(date)
        buildings = self.buildings[self.buildings.present[date - 1]]
        movables = self.movables[date - 1]
        boxes = Boxes.concatenate([buildings.boxes, movables.boxes])
        labels = np.concatenate([buildings.labels, movables.labels])
        return Objects(labels, boxes.bounds(), boxes.corners())

    def chips(self, chip: int = 128, share: float = 0.7) -> list[tuple[int, int, int]]:
        """Squares that show one scene: row and column of the upper left pixel, index in `SCENES`.

        Args:
            chip: pixels a side; the squares are side by side.
            share: how much of its square the scene must fill.
        """
        count = self.size // chip
        tiles = self.scene[: count * chip, : count * chip].reshape(count, chip, count, chip)
        shares = np.stack([(tiles == k).mean((1, 3)) for k in range(len(SCENES))], -1)
        found = np.argwhere(shares.max(-1) >= share)
        scenes = shares.argmax(-1)
        return [(int(i) * chip, int(j) * chip, int(scenes[i, j])) for i, j in found]

    def ground(self, date: int = 1) -> Ground:
        """Material, height and all else that the pictures of a date are made from."""
        _check(date)
        return self._grounds[date - 1]

    @cached_property
    def _grounds(self) -> tuple[Ground, Ground]:
        first, second = (self._draw(date) for date in DATES)
        return first, second

    def _draw(self, date: int) -> Ground:
        ground = self.land.copy()
        if date == 2:  # crops rotate
            crops = ground.material <= Material.MAIZE
            ground.material[crops] = (ground.material[crops] + 1) % 3
        present = self.buildings.present[date - 1]
        # Two of three sites are bare before the building comes, or after it has gone.
        site = ~present & (np.arange(len(present)) % 3 > 0)
        pixels = self.buildings[site].footprints(self.size)
        ground.cover(pixels.index, Material.RUBBLE, pixels.box % 2 * 120 + 60)
        draw_buildings(ground, self.buildings[present])
        draw_movables(ground, self.movables[date - 1])
        return ground


def _check(date: int) -> None:
    if date not in DATES:
        raise UserError(f"date {date} is none of {DATES}")


def make_world(size: int = 2048, seed: int = 0) -> World:
    """Draw a world.

    Args:
        size: pixels a side, at least 768; from 1200 on there is an airport, from 2048 on every
            class of `SCENES` has its place, from 2560 on there are two airports.
        seed: another seed, another world.

    Raises:
        UserError: too small a size, or a negative seed.
    """
    if size < 768 or seed < 0:
        raise UserError(
            f"size {size}, seed {seed}: a world has 768 pixels a side or more, seed >= 0"
        )
    rng = np.random.default_rng(seed)
    sketch = Sketch.start(make_plan(size, rng), rng)
    fill = {
        "airport": airport,
        "bare land": countryside.bare_land,
        "farmland": countryside.farmland,
        "forest": countryside.forest,
        "industrial": town.industrial,
        "lake": countryside.lake,
        "meadow": countryside.meadow,
        "parking": town.parking,
        "residential": town.residential,
    }
    for name, draw in fill.items():
        for cell in sketch.plan.of_scene(name):
            draw(sketch, cell)
    countryside.river_banks(sketch)
    for cell in sketch.plan.of_scene("harbour"):
        town.harbour(sketch, cell)
    countryside.river_water(sketch)
    countryside.roads(sketch)
    countryside.motorways(sketch)
    buildings = _place_buildings(sketch)
    _plant(sketch, buildings)
    first, second = (occupy(sketch.slots, _seen(sketch, buildings), rng) for _ in DATES)
    return World(seed, sketch.plan.scene, sketch.ground, buildings, (first, second))


def _place_buildings(sketch: Sketch) -> Buildings:
    """Keep the buildings that stand on their own lots and apart from each other."""
    wished = Buildings.concatenate(sketch.buildings)
    lots = np.isin(sketch.ground.material, (Material.GRASS, Material.YARD, Material.QUAY))
    towns = [SCENES.index(name) for name in ("airport", "residential", "industrial", "harbour")]
    fits = stand_on(wished.boxes, lots & np.isin(sketch.plan.scene, towns), 1.0)
    kept = wished[fits]
    return kept[stand_apart(kept.boxes, sketch.plan.size, 1.0)]


def _plant(sketch: Sketch, buildings: Buildings) -> None:
    """Draw the single trees that stand on grass, clear of all buildings and each other."""
    crowns = Boxes.concatenate([boxes for boxes, _ in sketch.crowns])
    conifer = np.concatenate([kind for _, kind in sketch.crowns])
    soft = (Material.GRASS, Material.MEADOW, Material.REED)
    free = np.isin(sketch.ground.material, soft)
    free.ravel()[pixels_of(buildings.boxes, sketch.plan.size, 2.0).index] = False
    fits = stand_on(crowns, free)
    draw_trees(sketch.ground, crowns[fits], conifer[fits], sketch.rng)


def _seen(sketch: Sketch, buildings: Buildings) -> Bytes:
    """The material with the roofs of both dates, so that nothing is parked below a roof."""
    material = sketch.ground.material.copy()
    material.ravel()[buildings.footprints(sketch.plan.size).index] = Material.ROOF
    return material
