"""The plan of a world: a river, motorways, and between them cells of one scene class each."""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import shapely
from scipy.spatial import Voronoi

from cgeartheye.synthetic.ground import polygon
from cgeartheye.synthetic.shapes import Floats, Ints, ribbon

SCENES = (
    "airport",
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

# Shares of the land between river and motorways that airports leave.
_SHARES = {
    "harbour": 0.055,
    "lake": 0.10,
    "parking": 0.09,
    "industrial": 0.12,
    "residential": 0.15,
    "bare land": 0.09,
    "meadow": 0.10,
    "forest": 0.11,
    "farmland": 0.175,
}
_URBAN = ("parking", "residential", "industrial")
_RURAL = ("farmland", "forest", "meadow", "bare land")

_CELL = 430.0  # pixels from one cell to the next
_SHORTEST = 300.0  # pixels: an airport is two cells long, or there is none
_WATERSIDE = 0.62  # cells whose sites are this near to the river, in steps, may be harbours
_BANK = 78.0  # pixels from the water's edge to the end of the river's strip
MOTORWAY_HALF = 21.0  # pixels from the middle to the edge of the asphalt
VERGE_HALF = 85.0  # pixels from the middle to the end of its strip
ROAD_HALF = 4.5


@dataclass(frozen=True, eq=False)
class Cell:
    """A patch of land of one scene class.

    Attributes:
        number: its place among the cells, and its value in `Plan.owner`.
        outline: `[K, 2]` pixels.
        scene: index into `SCENES`.
        angle: heading of its longest side, radians; fields and streets follow it.
        pixels: `[P]` places in the flattened world.
    """

    number: int
    outline: Floats
    scene: int
    angle: float
    pixels: Ints

    @cached_property
    def center(self) -> Floats:
        """`[2]` pixels."""
        return np.asarray(self.outline.mean(0))

    @cached_property
    def extent(self) -> Floats:
        """Reach from its center along and across its heading, `[2]` pixels."""
        return np.asarray(np.abs(self.to_local(self.outline)).max(0))

    def to_local(self, points: Floats) -> Floats:
        """World coordinates `[..., 2]` as pixels along and across the heading from the centre."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return np.asarray((points - self.center) @ np.array([[cos, -sin], [sin, cos]]))

    def to_world(self, u: npt.ArrayLike, v: npt.ArrayLike) -> Floats:
        """World coordinates `[..., 2]` of u and v pixels along and across the heading."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        local = np.stack(np.broadcast_arrays(u, v), -1)
        return np.asarray(local @ np.array([[cos, sin], [-sin, cos]]) + self.center)

    def shrunk(self, by: float) -> Floats:
        """The outline moved inwards by at least `by` pixels."""
        sides = np.roll(self.outline, -1, 0) - self.outline
        arms = self.outline - self.center
        inner = np.abs(sides[:, 0] * arms[:, 1] - sides[:, 1] * arms[:, 0]) / np.hypot(*sides.T)
        return np.asarray(self.center + arms * max(0.0, 1 - by / inner.min()))


@dataclass(frozen=True, eq=False)
class Plan:
    """Layout of everything, before anything is drawn.

    Attributes:
        size: pixels a side.
        cells: the patches of land.
        river: `[K, 2]` its middle, flowing south.
        river_half: `[K]` half the width of its water, pixels.
        motorways: `[K, 2]` each; a later one crosses over an earlier one.
        roads: `[K, 2]` each, between the cells.
        scene: uint8 `[H, W]`, indices into `SCENES`.
        owner: int16 `[H, W]`, the number of the cell, -1 in the strips of river and motorways.
    """

    size: int
    cells: list[Cell]
    river: Floats
    river_half: Floats
    motorways: list[Floats]
    roads: list[Floats]
    scene: npt.NDArray[np.uint8]
    owner: npt.NDArray[np.int16]

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
    motorways = _motorways(size, along, rng)
    bend = _bend(rng)
    sites, outlines, ridges = _patchwork(size, rng)
    pixels = [polygon(bend(outline), size) for outline in outlines]
    seen = np.flatnonzero([len(inside) for inside in pixels])  # some are bent out of the world
    sites, outlines, pixels = sites[seen], [outlines[n] for n in seen], [pixels[n] for n in seen]

    land = np.ones(size * size, bool)
    land[polygon(ribbon(river, river_half + _BANK), size)] = False
    for motorway in motorways:
        land[polygon(ribbon(motorway, VERGE_HALF), size)] = False
    areas = np.array([land[inside].sum() for inside in pixels])
    airports = _airports(sites, areas, river, size)
    scenes = _assign(sites, areas, airports, river, size, rng)

    patches = [
        (scene, outline, _longest_side(outline))
        for scene, outline in zip(scenes, outlines, strict=True)
        if scene != "airport"
    ]
    joined = [_union(outlines[first], outlines[second]) for first, second in airports]
    for (first, second), outline in zip(airports, joined, strict=True):
        patches.append(("airport", outline, math.atan2(*(sites[second] - sites[first])[::-1])))
    cells = [
        Cell(number, bend(outline), SCENES.index(scene), angle, polygon(bend(outline), size))
        for number, (scene, outline, angle) in enumerate(patches)
    ]
    ridges = [ridge for ridge in ridges if not _within(ridge.mean(0), joined)]
    roads = [bend(_fine(ridge)) for ridge in ridges]
    roads = [road for road in roads if _can_be_built(road, river, river_half, motorways)]
    scene = np.full((size, size), SCENES.index("meadow"), np.uint8)
    owner = np.full((size, size), -1, np.int16)
    plan = Plan(size, cells, river, river_half, motorways, roads, scene, owner)
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
    half = 52 + 9 * np.sin(2 * math.pi * 1.7 * along + third)
    return np.stack([x, along], 1) * size, half


def _motorways(size: int, along: Floats, rng: np.random.Generator) -> list[Floats]:
    phase = rng.uniform(0, 2 * math.pi, 2)
    y = rng.uniform(0.56, 0.62) + 0.05 * np.sin(2 * math.pi * 0.8 * along + phase[0])
    motorways = [np.stack([along, y], 1) * size]
    if size >= 2560:  # a second one fits, on the wider side of the river
        x = rng.uniform(0.78, 0.82) + 0.03 * np.sin(2 * math.pi * 0.7 * along + phase[1])
        motorways.append(np.stack([x, along], 1) * size)
    return motorways


def _bend(rng: np.random.Generator) -> Callable[[Floats], Floats]:
    """A gentle warp of the plane, so that no road is quite straight."""
    phase = rng.uniform(0, 2 * math.pi, 4)

    def bend(points: Floats) -> Floats:
        x, y = points.T
        dx = 16 * np.sin(y / 105 + phase[0]) + 6 * np.sin(x / 48 + phase[1])
        dy = 16 * np.sin(x / 105 + phase[2]) + 6 * np.sin(y / 48 + phase[3])
        return np.stack([x + dx, y + dy], 1)

    return bend


def _step(size: int) -> float:
    """Pixels from one cell to the next."""
    return size / max(4, round(size / _CELL))


def _patchwork(size: int, rng: np.random.Generator) -> tuple[Floats, list[Floats], list[Floats]]:
    """Cut the plane into Voronoi cells: sites `[N, 2]`, outlines, and the sides between them."""
    step = _step(size)
    count = round(size / step)
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
    for start, end in itertools.pairwise(path):
        count = max(1, math.ceil(float(np.hypot(*(end - start))) / step))
        parts.append(start + np.arange(count)[:, None] / count * (end - start))
    return np.concatenate([*parts, path[-1:]])


def _longest_side(outline: Floats) -> float:
    """Heading of the longest straight run of a finely drawn polygon, radians."""
    sides = np.roll(outline, -1, 0) - outline
    angles = np.round(np.arctan2(sides[:, 1], sides[:, 0]), 3)
    values, back = np.unique(angles, return_inverse=True)
    return float(values[np.bincount(back, np.hypot(*sides.T)).argmax()])


def _can_be_built(road: Floats, river: Floats, river_half: Floats, motorways: list[Floats]) -> bool:
    """A road may bridge the river, but neither follow it nor end in it or on a motorway."""
    ends = road[[0, -1]]
    if any(distance(ends, motorway).min() < VERGE_HALF * 0.6 for motorway in motorways):
        return False
    wet = distance(road, river) < river_half.max() + 15
    return bool(not wet[[0, -1]].any() and wet.mean() < 0.45)


def _airports(
    sites: Floats, areas: npt.NDArray[np.intp], river: Floats, size: int
) -> list[tuple[int, int]]:
    """Choose pairs of cells side by side that no strip cuts, for one airport each.

    A large world has one in its northern third and one south of it, a small world one in all.
    """
    step = _step(size)
    if step < _SHORTEST:
        return []
    third = size / 3
    north, south = (0.0, third - step / 2), (third + step / 2, float(size))
    airports = []
    for low, high in (north, south) if size >= 2560 else [(0.0, float(size))]:
        pairs = [
            (first, second)
            for first, second in itertools.permutations(range(len(sites)), 2)
            if 0 < sites[second, 0] - sites[first, 0] < 1.5 * step
            and abs(sites[second, 1] - sites[first, 1]) < 0.4 * step
            and low <= sites[[first, second], 1].mean() <= high
            and distance(sites[[first, second]], river).min() > _WATERSIDE * step
        ]
        airports.append(max(pairs, key=lambda pair: int(areas[list(pair)].min())))
    return airports


def _union(first: Floats, second: Floats) -> Floats:
    """The outline `[K, 2]` of two cells that share a side."""
    both = shapely.union_all([shapely.Polygon(first), shapely.Polygon(second)], grid_size=0.01)
    assert isinstance(both, shapely.Polygon)
    return np.asarray(both.exterior.coords)[:-1]


def _within(place: Floats, outlines: list[Floats]) -> bool:
    """Return whether a place `[2]` is inside one of the outlines, and not on its border."""
    point = shapely.Point(place)
    return any(shapely.Polygon(outline).buffer(-1).contains(point) for outline in outlines)


def _assign(
    sites: Floats,
    areas: npt.NDArray[np.intp],
    airports: list[tuple[int, int]],
    river: Floats,
    size: int,
    rng: np.random.Generator,
) -> list[str]:
    """Give each cell a scene: harbours on the river, the town in one place, the rest around it."""
    nominal = _step(size) ** 2
    taken = list(itertools.chain(*airports))
    scenes = ["airport" if cell in taken else "" for cell in range(len(sites))]
    land = float(areas.sum() - areas[taken].sum())
    wanted = {name: share * land for name, share in _SHARES.items()}

    def deal(names: tuple[str, ...], cells: Iterable[int], enough: float = 0.0) -> None:
        """Give each free cell to the scene that wants land most, until all have enough."""
        for cell in cells:
            name = max(names, key=wanted.__getitem__)
            if not scenes[cell] and wanted[name] > enough * nominal:
                scenes[cell] = name
                wanted[name] -= areas[cell]

    center = np.array([0.62, 0.3]) * size
    far = np.linalg.norm(sites - center, axis=1) / size + rng.normal(0, 0.05, len(sites))
    outwards = np.argsort(far, kind="stable")
    along_river = np.argsort(np.abs(sites[:, 1] - center[1]), kind="stable")
    on_river = (distance(sites, river) < _WATERSIDE * _step(size)) & (areas > 0.25 * nominal)
    deal(("harbour",), along_river[on_river[along_river]], 0.2)
    deal(("lake",), outwards[::-1][areas[outwards[::-1]] > 0.9 * nominal], 0.2)
    deal(_URBAN, outwards[areas[outwards] > 0.3 * nominal], 0.2)
    deal(_RURAL, rng.permutation(len(sites)), -math.inf)
    return scenes


def _draw_scenes(plan: Plan) -> None:
    scene, owner = plan.scene.ravel(), plan.owner.ravel()

    def mark(index: Ints, value: int, cell: int = -1) -> None:
        scene[index], owner[index] = value, cell

    for cell in plan.cells:
        mark(cell.pixels, cell.scene, cell.number)
    mark(polygon(plan.banks, plan.size), SCENES.index("river"))
    for cell in plan.of_scene("harbour"):
        mark(cell.pixels, cell.scene, cell.number)
    mark(polygon(plan.water, plan.size), SCENES.index("river"))
    for motorway in plan.motorways:
        mark(polygon(ribbon(motorway, VERGE_HALF), plan.size), SCENES.index("highway"))
