"""The plan of a world: a river, motorways, and between them cells of one scene class each."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.spatial import Voronoi

from cgeartheye.data.synthetic.ground import Window, window_of
from cgeartheye.data.synthetic.shapes import Floats, ribbon

SCENES = (
    "bare land",
    "farmland",
    "forest",
    "harbour",
    "highway",
    "industrial",
    "lake",
    "meadow",
    "parking",
    "residential",
    "river",
)

# Shares of the land between river and motorways.
_SHARES = {
    "harbour": 0.10,
    "lake": 0.10,
    "parking": 0.09,
    "industrial": 0.12,
    "residential": 0.15,
    "bare land": 0.09,
    "meadow": 0.10,
    "forest": 0.11,
    "farmland": 0.14,
}
_URBAN = ("parking", "residential", "industrial")
_RURAL = ("farmland", "forest", "meadow", "bare land")

_CELL = 430.0  # pixels from one cell to the next
_BANK = 55.0  # pixels from the water's edge to the end of the river's strip
MOTORWAY_HALF = 21.0  # pixels from the middle to the edge of the asphalt
_VERGE_HALF = 85.0
ROAD_HALF = 4.5


@dataclass(frozen=True, eq=False)
class Cell:
    """A patch of land of one scene class.

    Attributes:
        outline: `[K, 2]` pixels.
        scene: index into `SCENES`.
        angle: heading of its longest side, radians; fields and streets follow it.
        window: its pixels.
    """

    outline: Floats
    scene: int
    angle: float
    window: Window

    @cached_property
    def centre(self) -> Floats:
        """`[2]` pixels."""
        return np.asarray(self.outline.mean(0))

    @cached_property
    def extent(self) -> Floats:
        """How far it reaches from its centre along and across its heading, `[2]` pixels."""
        return np.asarray(np.abs(self.to_local(self.outline)).max(0))

    def to_local(self, points: Floats) -> Floats:
        """World coordinates `[..., 2]` as pixels along and across the heading from the centre."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return np.asarray((points - self.centre) @ np.array([[cos, -sin], [sin, cos]]))

    def to_world(self, points: npt.ArrayLike) -> Floats:
        """Pixels along and across the heading from the centre as world coordinates `[..., 2]`."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return np.asarray(points) @ np.array([[cos, sin], [-sin, cos]]) + self.centre

    def shrunk(self, by: float) -> Floats:
        """The outline moved inwards by at least `by` pixels."""
        sides = np.roll(self.outline, -1, 0) - self.outline
        arms = self.outline - self.centre
        inner = np.abs(sides[:, 0] * arms[:, 1] - sides[:, 1] * arms[:, 0]) / np.hypot(*sides.T)
        return np.asarray(self.centre + arms * max(0.0, 1 - by / inner.min()))


@dataclass(frozen=True, eq=False)
class Plan:
    """Where everything lies, before anything is drawn.

    Attributes:
        size: pixels a side.
        cells: the patches of land.
        river: `[K, 2]` its middle, flowing south.
        river_half: `[K]` half the width of its water, pixels.
        motorways: `[K, 2]` each; a later one crosses over an earlier one.
        roads: `[K, 2]` each, between the cells.
        scene: uint8 `[H, W]`, indices into `SCENES`.
    """

    size: int
    cells: list[Cell]
    river: Floats
    river_half: Floats
    motorways: list[Floats]
    roads: list[Floats]
    scene: npt.NDArray[np.uint8]

    @property
    def banks(self) -> Floats:
        """The outline of the river with its banks."""
        return ribbon(self.river, self.river_half + _BANK)

    @property
    def water(self) -> Floats:
        """The outline of the river's water."""
        return ribbon(self.river, self.river_half)

    def of_scene(self, name: str) -> Iterable[Cell]:
        """The cells of one class."""
        return (cell for cell in self.cells if SCENES[cell.scene] == name)


def make_plan(size: int, rng: np.random.Generator) -> Plan:
    """Lay a world out.

    Args:
        size: pixels a side.
        rng: whatever differs from seed to seed is drawn from it.
    """
    along = np.linspace(-0.08, 1.08, 200)
    river, river_half = _river(size, along, rng)
    motorways = _motorways(size, along, river, rng)
    bend = _bend(rng)
    sites, outlines, ridges = _patchwork(size, rng)
    windows = [window_of(bend(outline), size) for outline in outlines]

    strips = np.zeros((size, size), bool)  # what belongs to no cell
    _mark(strips, window_of(ribbon(river, river_half + _BANK), size), True)
    for motorway in motorways:
        _mark(strips, window_of(ribbon(motorway, _VERGE_HALF), size), True)
    areas = np.array([(w.inside & ~strips[w.rows, w.columns]).sum() for w in windows])
    scenes = _assign(sites, areas, river, size, rng)

    cells = [
        Cell(bend(outline), SCENES.index(scene), _longest_side(outline), window)
        for outline, scene, window in zip(outlines, scenes, windows, strict=True)
    ]
    roads = [bend(_fine(ridge)) for ridge in ridges]
    roads = [road for road in roads if _can_be_built(road, river, river_half, motorways)]
    plan = Plan(size, cells, river, river_half, motorways, roads, np.zeros((size, size), np.uint8))
    _draw_scenes(plan)
    return plan


def distance(points: Floats, path: Floats) -> Floats:
    """Pixels from each of `[N, 2]` points to the nearest corner of a finely drawn path `[K, 2]`."""
    gaps = np.linalg.norm(points[:, None] - path[None], axis=-1)
    return np.asarray(gaps.min(1))


def _river(size: int, along: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    first, second, third = rng.uniform(0, 2 * math.pi, 3)
    x = rng.uniform(0.36, 0.42)
    x = x + 0.075 * np.sin(2 * math.pi * 1.2 * along + first)
    x = x + 0.025 * np.sin(2 * math.pi * 2.9 * along + second)
    half = 46 + 9 * np.sin(2 * math.pi * 1.7 * along + third)
    return np.stack([x, along], 1) * size, half


def _motorways(
    size: int, along: Floats, river: Floats, rng: np.random.Generator
) -> list[Floats]:
    phase = rng.uniform(0, 2 * math.pi, 2)
    y = rng.uniform(0.56, 0.62) + 0.05 * np.sin(2 * math.pi * 0.8 * along + phase[0])
    motorways = [np.stack([along, y], 1) * size]
    if size >= 2560:  # a second one fits, on the wider side of the river
        x = rng.uniform(0.78, 0.82) + 0.03 * np.sin(2 * math.pi * 0.7 * along + phase[1])
        motorways.append(np.stack([x, along], 1) * size)
    return motorways


def _bend(rng: np.random.Generator):  # type: ignore[no-untyped-def]
    """A gentle warp of the plane, so that no road is quite straight."""
    phase = rng.uniform(0, 2 * math.pi, 4)

    def bend(points: Floats) -> Floats:
        x, y = points.T
        dx = 16 * np.sin(y / 105 + phase[0]) + 6 * np.sin(x / 48 + phase[1])
        dy = 16 * np.sin(x / 105 + phase[2]) + 6 * np.sin(y / 48 + phase[3])
        return np.stack([x + dx, y + dy], 1)

    return bend


def _patchwork(
    size: int, rng: np.random.Generator
) -> tuple[Floats, list[Floats], list[Floats]]:
    """Cut the plane into Voronoi cells: sites `[N, 2]`, outlines, and the sides between them."""
    count = max(4, round(size / _CELL))
    step = size / count
    row, column = np.mgrid[-2 : count + 3, -2 : count + 3].reshape(2, -1).astype(float)
    sites = np.stack([column + 0.5 * (row % 2), row + 0.35], 1)
    sites = (sites + rng.uniform(-0.17, 0.17, sites.shape)) * step
    voronoi = Voronoi(sites)
    corners = voronoi.vertices
    kept, outlines = [], []
    for site, region in enumerate(voronoi.point_region):
        around = voronoi.regions[region]
        if -1 in around or not around:
            continue
        outline = corners[around]
        if outline.max(0).min() > 20 and outline.min(0).max() < size - 20:
            kept.append(site)
            outlines.append(_fine(np.concatenate([outline, outline[:1]]))[:-1])
    ridges = [
        corners[ridge]
        for ridge, pair in zip(voronoi.ridge_vertices, voronoi.ridge_points, strict=True)
        if -1 not in ridge and (pair[0] in kept or pair[1] in kept)
    ]
    return sites[kept], outlines, ridges


def _fine(path: Floats, step: float = 12.0) -> Floats:
    """The same line with a corner at least every `step` pixels."""
    parts = []
    for start, end in zip(path[:-1], path[1:], strict=True):
        count = max(1, math.ceil(float(np.hypot(*(end - start))) / step))
        parts.append(start + np.arange(count)[:, None] / count * (end - start))
    return np.concatenate([*parts, path[-1:]])


def _longest_side(outline: Floats) -> float:
    """Heading of the longest straight run of a finely drawn polygon, radians."""
    sides = np.roll(outline, -1, 0) - outline
    angles = np.round(np.arctan2(sides[:, 1], sides[:, 0]), 3)
    values, back = np.unique(angles, return_inverse=True)
    return float(values[np.bincount(back, np.hypot(*sides.T)).argmax()])


def _can_be_built(
    road: Floats, river: Floats, river_half: Floats, motorways: list[Floats]
) -> bool:
    """A road may bridge the river, but neither follow it nor end in it or on a motorway."""
    ends = road[[0, -1]]
    if any(distance(ends, motorway).min() < _VERGE_HALF * 0.6 for motorway in motorways):
        return False
    wet = distance(road, river) < river_half.max() + 15
    return bool(not wet[[0, -1]].any() and wet.mean() < 0.45)


def _assign(
    sites: Floats, areas: npt.NDArray[np.intp], river: Floats, size: int, rng: np.random.Generator
) -> list[str]:
    """Give each cell a scene: harbours on the river, the town in one place, the rest around it."""
    total = areas.sum()
    nominal = (size / max(4, round(size / _CELL))) ** 2
    scenes = [""] * len(sites)
    filled = dict.fromkeys(_SHARES, 0)
    reach = distance(sites, river) / math.sqrt(nominal)
    centre = np.array([0.62, 0.38]) * size
    far = np.linalg.norm(sites - centre, axis=1) / size + rng.normal(0, 0.05, len(sites))

    def give(name: str, order: Iterable[int]) -> None:
        for cell in order:
            if not scenes[cell] and filled[name] < 0.93 * _SHARES[name] * total:
                scenes[cell] = name
                filled[name] += areas[cell]

    on_river = (reach < 0.62) & (areas > 0.25 * nominal)
    give("harbour", np.argsort(reach + far, kind="stable")[on_river[np.argsort(reach + far, kind="stable")]])
    whole = areas > 0.8 * nominal
    outwards = np.argsort(far, kind="stable")
    give("lake", outwards[::-1][whole[outwards[::-1]]])
    order = [cell for cell in outwards if areas[cell] > 0.3 * nominal]
    for turn, cell in enumerate([c for c in order if not scenes[c]]):
        for name in (_URBAN[(turn + k) % 3] for k in range(3)):
            give(name, [cell])
    for turn, cell in enumerate(rng.permutation([c for c in order if not scenes[c]])):
        for name in (_RURAL[(turn + k) % 4] for k in range(4)):
            give(name, [cell])
    return [scene or str(rng.choice(_RURAL)) for scene in scenes]


def _draw_scenes(plan: Plan) -> None:
    for cell in plan.cells:
        _mark(plan.scene, cell.window, cell.scene)
    river = SCENES.index("river")
    _mark(plan.scene, window_of(plan.banks, plan.size), river)
    for cell in plan.of_scene("harbour"):
        _mark(plan.scene, cell.window, cell.scene)
    _mark(plan.scene, window_of(plan.water, plan.size), river)
    for motorway in plan.motorways:
        strip = window_of(ribbon(motorway, _VERGE_HALF), plan.size)
        _mark(plan.scene, strip, SCENES.index("highway"))


def _mark(mask: npt.NDArray[np.generic], where: Window, value: int) -> None:
    mask[where.rows, where.columns][where.inside] = value
