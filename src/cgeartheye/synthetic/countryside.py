"""Fields, meadows, forest, bare land, lakes, the river, and the roads between all places."""

import math
from collections.abc import Sequence

import numpy as np

from cgeartheye.synthetic.ground import GSD, polygon
from cgeartheye.synthetic.layout import MOTORWAY_HALF, ROAD_HALF, VERGE_HALF, Cell, distance
from cgeartheye.synthetic.materials import COVER_OF, LAND_COVER, Material
from cgeartheye.synthetic.objects import Kind, raise_crowns
from cgeartheye.synthetic.shapes import Boxes, Floats, Ints, Pixels, pixels_of, places_along, ribbon
from cgeartheye.synthetic.sketch import Sketch

_CROPS = (Material.WHEAT, Material.RAPE, Material.MAIZE)
_LINE = (224, 224, 220)  # road markings


def farmland(sketch: Sketch, cell: Cell) -> None:
    """Parcels with one crop and one direction of rows each, between grassy margins."""
    rng, ground = sketch.rng, sketch.ground
    ground.cover(cell.pixels, Material.MEADOW, sketch.tints(cell.pixels))
    within = np.zeros(ground.size**2, bool)
    within[sketch.own(cell, polygon(cell.shrunk(9), ground.size))] = True
    for u0, v0, u1, v1 in _parcels((*-cell.extent, *cell.extent), rng):
        gap = rng.choice([1.0, 1.0, 2.5])
        left, top, right, bottom = u0 + gap, v0 + gap, u1 - gap, v1 - gap
        corners = cell.to_world([left, right, right, left], [top, top, bottom, bottom])
        index = polygon(corners, ground.size)
        index = index[within[index]]
        crop, shade = rng.choice(_CROPS, p=(0.45, 0.2, 0.35)), rng.uniform(-60, 60)
        ground.cover(index, crop, 128 + shade + 0.35 * (sketch.tints(index) - 128))
        u, v = sketch.local(cell, index)
        across = v if u1 - u0 > v1 - v0 else u
        rows = 0.6 * np.sin(across * (2 * math.pi / rng.uniform(3.6, 5.0)))
        tramlines = np.mod(across, 32) < 1.6
        ground.stripe.ravel()[index] = np.where(tramlines, -1.2, rows)
        if rng.random() < 0.25:  # a hedge along one side
            hedge = cell.to_world(np.arange(u0, u1, 9.0), v0)
            sketch.plant(hedge + rng.normal(0, 1.0, hedge.shape), (2.5, 4.5), 0.1)


def _parcels(rectangle: tuple[float, ...], rng: np.random.Generator) -> list[tuple[float, ...]]:
    """Halve a rectangle u0, v0, u1, v1 again and again, down to some 60 to 150 pixels."""
    u0, v0, u1, v1 = rectangle
    long, cut = max(u1 - u0, v1 - v0), rng.uniform(0.38, 0.62)
    if long < rng.uniform(130, 210):
        return [rectangle]
    if u1 - u0 == long:
        middle = u0 + cut * long
        halves = (u0, v0, middle, v1), (middle, v0, u1, v1)
    else:
        middle = v0 + cut * long
        halves = (u0, v0, u1, middle), (u0, middle, u1, v1)
    return [parcel for half in halves for parcel in _parcels(half, rng)]


def meadow(sketch: Sketch, cell: Cell) -> None:
    """Patchy grass, mown in part, a path, groups of trees."""
    rng, ground = sketch.rng, sketch.ground
    ground.cover(cell.pixels, Material.MEADOW, sketch.tints(cell.pixels))
    if rng.random() < 0.5:
        _, v = sketch.local(cell, cell.pixels)
        mown = sketch.hills.ravel()[cell.pixels] < 0.3
        ground.stripe.ravel()[cell.pixels] = np.sin(v * (2 * math.pi / 11)) * mown
    _path_across(sketch, cell, half_width=1.6)
    sketch.plant(sketch.scatter(cell, 15, above=0.9), (2.0, 5.0), 0.15)
    sketch.plant(sketch.scatter(cell, 70, above=-9), (2.0, 4.5), 0.15)


def _path_across(sketch: Sketch, cell: Cell, half_width: float) -> None:
    """A winding track from end to end of a cell."""
    u = np.linspace(-1.2, 1.2, 60) * cell.extent[0]
    a, b, c = sketch.rng.uniform(0, 2 * math.pi, 3)
    v = cell.extent[1] * (0.35 * np.sin(u / 130 + a) + 0.08 * np.sin(u / 45 + b) + 0.2 * np.sin(c))
    index = polygon(ribbon(cell.to_world(u, v), half_width), sketch.plan.size)
    sketch.ground.cover(sketch.own(cell, index), Material.TRACK, 150)


def forest(sketch: Sketch, cell: Cell) -> None:
    """A closed canopy: the crown whose tree is nearest, relative to its size, has the pixel."""
    rng, ground, size = sketch.rng, sketch.ground, sketch.plan.size
    spacing = 8.0
    grid = int(size / spacing) + 3
    jitter = rng.random((grid, grid, 2)).astype(np.float32)
    vigour = rng.uniform(0.75, 1.25, (grid, grid)).astype(np.float32)
    tints = rng.integers(0, 256, (grid, grid))
    mixed = rng.normal(0, 0.55, (grid, grid))

    row, column = np.divmod(cell.pixels, size)
    x, y = (column + 0.5).astype(np.float32), (row + 0.5).astype(np.float32)
    i, j = (y / spacing).astype(np.intp) + 1, (x / spacing).astype(np.intp) + 1
    best = np.full(len(x), np.inf, np.float32)
    dx, dy, tree = np.zeros_like(x), np.zeros_like(x), np.zeros(len(x), np.intp)
    for di in (-1, 0, 1):
        for dj in (-1, 0, 1):
            there = (i + di) * grid + j + dj
            u = x - (j + dj - 1 + jitter.reshape(-1, 2)[there, 0]) * spacing
            v = y - (i + di - 1 + jitter.reshape(-1, 2)[there, 1]) * spacing
            far = np.hypot(u, v) / vigour.ravel()[there]
            nearer = far < best
            best = np.where(nearer, far, best)
            dx, dy, tree = (
                np.where(nearer, u, dx),
                np.where(nearer, v, dy),
                np.where(nearer, there, tree),
            )
    conifer = (sketch.hills.ravel()[cell.pixels] - 0.3 + mixed.ravel()[tree]) > 0
    kind = np.where(conifer, Material.CONIFER, Material.BROADLEAF)
    gap = best > 0.85 * spacing  # between crowns one sees the shaded forest floor
    ground.cover(cell.pixels, kind, np.where(gap, 0, tints.ravel()[tree]))
    reach = np.float32(0.85 * spacing) * vigour.ravel()[tree]
    crown = Pixels(tree, cell.pixels, dx, dy)
    raise_crowns(ground, crown, np.maximum(reach, np.hypot(dx, dy)), conifer)
    ground.height.ravel()[cell.pixels[gap]] = 1
    ground.slope.reshape(2, -1)[:, cell.pixels[gap]] = 0
    if rng.random() < 0.6:
        _path_across(sketch, cell, half_width=2.4)


def bare_land(sketch: Sketch, cell: Cell) -> None:
    """Graded soil and gravel, tracks, heaps, and the trucks that work there."""
    rng, ground = sketch.rng, sketch.ground
    index = cell.pixels
    hills, patches = sketch.hills.ravel()[index], sketch.patches.ravel()[index]
    kind = np.where(hills + 0.5 * patches > 0.9, Material.GRAVEL, Material.SOIL)
    kind = np.where(hills - 0.4 * patches < -1.5, Material.MEADOW, kind)
    ground.cover(index, kind, sketch.tints(index) + 12 * patches)
    u, _ = sketch.local(cell, index)
    ground.stripe.ravel()[index] = np.sin(u * (2 * math.pi / 7)) * (hills < 0)
    for _ in range(2):
        _path_across(sketch, cell, half_width=rng.uniform(2.5, 4.5))
    at = sketch.scatter(cell, 75, above=-0.5)
    heaps = Boxes.of(at, rng.uniform(5, 15, (len(at), 1)).repeat(2, 1), np.zeros(len(at)))
    pixels = pixels_of(heaps, ground.size)
    lobes = 3 * np.arctan2(pixels.v, pixels.u) + 5 * pixels.box
    share = np.hypot(pixels.u, pixels.v) / heaps.half[pixels.box, 0] * (1.2 + 0.2 * np.sin(lobes))
    inside = (share < 1) & (sketch.plan.owner.ravel()[pixels.index] == cell.number)
    pixels, share = pixels.select(inside), share[inside]
    top = 0.32 * heaps.half[pixels.box, 0] * GSD
    ground.cover(pixels.index, Material.GRAVEL, rng.integers(0, 256, len(at))[pixels.box])
    fall = -0.32 / np.maximum(heaps.half[pixels.box, 0] * share, 0.5)
    ground.raise_to(pixels, top * (1 - share), fall * pixels.u, fall * pixels.v)
    at = sketch.scatter(cell, 60, above=-9)
    angle = rng.uniform(0, 2 * math.pi, len(at))
    for on in (Material.SOIL, Material.TRACK):
        sketch.park(at, angle, Kind.TRUCK, on, 0.4, 3.0)


def lake(sketch: Sketch, cell: Cell) -> None:
    """Open water with a shore of reed and sand, a jetty, boats."""
    rng, ground, size = sketch.rng, sketch.ground, sketch.plan.size
    ground.cover(cell.pixels, Material.MEADOW, sketch.tints(cell.pixels))
    index = sketch.own(cell, polygon(cell.shrunk(22), size))
    u, v = sketch.local(cell, index)
    # An oval with bays: how far inside it, about in pixels.
    depth = (0.7 - np.hypot(u / cell.extent[0], v / cell.extent[1])) * cell.extent.min()
    depth += 15 * sketch.hills.ravel()[index] + 3 * sketch.patches.ravel()[index]
    sandy = sketch.hills.ravel()[index] > 0
    beach, reed = index[(depth > -5) & sandy], index[(depth > -10) & ~sandy]
    ground.cover(beach, Material.TRACK, 190)
    ground.cover(reed, Material.REED, sketch.tints(reed))
    wet = depth > 0
    ground.cover(index[wet], Material.LAKE, 255 * (1 - np.exp(-depth[wet] / 28)))
    _jetty(sketch, cell, index[(depth > 1) & (depth < 3)])
    sketch.plant(sketch.scatter(cell, 16, above=0.2), (2.5, 5.0), 0.1)
    at = sketch.scatter(cell, 90, above=-9)
    angle = rng.uniform(0, 2 * math.pi, len(at))
    sketch.park(at, angle, Kind.BOAT, Material.LAKE, 0.5, 20.0)


def _jetty(sketch: Sketch, cell: Cell, shore: Ints) -> None:
    """A pier from the shore towards the middle, boats on both sides."""
    if not len(shore):
        return
    row, column = divmod(int(sketch.rng.choice(shore)), sketch.plan.size)
    foot = np.array([column + 0.5, row + 0.5])
    angle = math.atan2(*(cell.center - foot)[::-1])
    ahead = np.array([math.cos(angle), math.sin(angle)])
    pier = Boxes.of(foot + 22 * ahead, (34, 2.2), angle)
    sketch.ground.cover(pixels_of(pier, sketch.plan.size).index, Material.QUAY, 200)
    steps = np.arange(8.0, 54, 8.0)
    for side in (-1, 1):
        berths = foot + steps[:, None] * ahead + side * 14 * np.array([-ahead[1], ahead[0]])
        sketch.park(berths, angle + side * math.pi / 2, Kind.BOAT, Material.LAKE, 0.7, 0.5)


def river_banks(sketch: Sketch) -> None:
    """Reed, grass and trees on both sides of the river."""
    plan, rng = sketch.plan, sketch.rng
    index = polygon(plan.banks, plan.size)
    sketch.ground.cover(index, Material.MEADOW, sketch.tints(index))
    shore = polygon(ribbon(plan.river, plan.river_half + 7), plan.size)
    sandy = sketch.hills.ravel()[shore] > 0.9
    kind = np.where(sandy, Material.GRAVEL, Material.REED)
    sketch.ground.cover(shore, kind, sketch.tints(shore))
    for side in (-1, 1):
        at, _ = places_along(plan.river, 9.0, side * (plan.river_half.mean() + 38))
        at = at + rng.normal(0, 14, at.shape)
        sketch.plant(at[rng.random(len(at)) < 0.6], (2.5, 5.5), 0.05)
        path = places_along(plan.river, 10.0, side * (plan.river_half.max() + 50))[0]
        sketch.ground.cover(polygon(ribbon(path, 1.5), plan.size), Material.TRACK, 150)


def river_water(sketch: Sketch) -> None:
    """The water of the river, darker in the middle, and the ships that go up and down."""
    plan = sketch.plan
    for share in (1.0, 0.93, 0.85, 0.75, 0.6, 0.4):
        index = polygon(ribbon(plan.river, plan.river_half * share), plan.size)
        ripple = 20 * sketch.patches.ravel()[index]
        sketch.ground.cover(index, Material.RIVER, 250 * (1 - share) + 60 + ripple)
    for side, kind in ((-0.45, Kind.BARGE), (0.45, Kind.BARGE), (0.0, Kind.BOAT)):
        at, angle = places_along(plan.river, 150.0, side * float(plan.river_half.mean()))
        turned = angle + (math.pi if side < 0 else 0)
        sketch.park(at, turned, kind, Material.RIVER, 0.45, 30.0)


def roads(sketch: Sketch) -> None:
    """The roads between the cells: asphalt on a verge, bridges over water, markings, trees."""
    rng = sketch.rng
    for road in sketch.plan.roads:
        _asphalt(sketch, road, ROAD_HALF, Material.ROAD, verge=2.5)
        at, angle = places_along(road, 11.0)
        sketch.ground.paint_boxes(Boxes.of(at, (2.6, 0.28), angle), _LINE, 0.8)
        if rng.random() < 0.4:
            for side in (-1, 1):
                at, _ = places_along(road, 14.0, side * (ROAD_HALF + 5.5))
                sketch.plant(at + rng.normal(0, 0.6, at.shape), (2.6, 3.8), 0.1)
        traffic = rng.uniform(0.08, 0.3)
        lanes(sketch, road, (2.2,), Material.ROAD, traffic)


def motorways(sketch: Sketch) -> None:
    """Dual carriageways of three lanes and a hard shoulder each, in wide verges."""
    ground, rng = sketch.ground, sketch.rng
    size = sketch.plan.size
    for motorway in sketch.plan.motorways:
        strip = polygon(ribbon(motorway, VERGE_HALF), size)
        wet = COVER_OF[ground.material.ravel()[strip]] == LAND_COVER.index("water")
        strip = strip[~wet]
        ground.cover(strip, Material.GRASS, sketch.tints(strip))
        for side in (-1, 1):
            for offset, chance in ((60, 0.75), (72, 0.6)):
                at, _ = places_along(motorway, 8.0, side * offset)
                wooded = sketch.hills.ravel()[_index(at, size)] > -0.6
                at = at[wooded & (rng.random(len(at)) < chance)]
                sketch.plant(at + rng.normal(0, 2, at.shape), (2.5, 4.8), 0.3)
    for number, motorway in enumerate(sketch.plan.motorways):
        _asphalt(sketch, motorway, MOTORWAY_HALF, Material.MOTORWAY, verge=1.5)
        median = polygon(ribbon(motorway, 2.2), size)
        ground.cover(median, Material.GRASS, 110)
        for side in (-1, 1):
            for lane_edge in (8.2, 13.2):
                at, angle = places_along(motorway, 20.0, side * lane_edge)
                ground.paint_boxes(Boxes.of(at, (4.0, 0.3), angle), _LINE, 0.9)
            for edge in (3.4, 17.6):
                at, angle = places_along(motorway, 6.0, side * edge)
                ground.paint_boxes(Boxes.of(at, (3.0, 0.3), angle), _LINE, 0.9)
        at, angle = places_along(motorway, 6.0)
        ground.paint_boxes(Boxes.of(at, (3.0, 0.5), angle), (176, 178, 180), 0.9)  # crash barrier
        later = sketch.plan.motorways[number + 1 :]
        lanes(sketch, motorway, (5.8, 10.7, 15.2), Material.MOTORWAY, 0.16, later)


def _index(points: Floats, size: int) -> Ints:
    """The places of `[N, 2]` points in the flattened world, those outside moved to its edge."""
    column, row = np.clip(points.astype(np.intp), 0, size - 1).T
    return np.asarray(row * size + column)


def _asphalt(sketch: Sketch, path: Floats, half: float, kind: Material, verge: float) -> None:
    """Lay a road, with a verge but where it bridges water or another motorway."""
    ground = sketch.ground
    index = polygon(ribbon(path, half), sketch.plan.size)
    side = polygon(ribbon(path, half + verge), sketch.plan.size)
    dry = COVER_OF[ground.material.ravel()[side]] != LAND_COVER.index("water")
    dry &= ground.material.ravel()[side] != Material.MOTORWAY
    ground.cover(side[dry], Material.GRASS, 90)
    age = sketch.rng.uniform(-60, 60)
    ground.cover(index, kind, 128 + age + 0.3 * (sketch.tints(index) - 128))


def lanes(
    sketch: Sketch,
    path: Floats,
    offsets: tuple[float, ...],
    on: Material,
    traffic: float,
    under: Sequence[Floats] = (),
) -> None:
    """Places for vehicles to the right of a path's middle, in both directions of travel.

    Args:
        sketch: gets the slots.
        path: `[K, 2]` the middle of the road.
        offsets: pixels from the middle to each lane of one direction.
        on: the road's material.
        traffic: the share of places that are taken.
        under: motorways that pass over this road and hide what is on it.
    """
    for direction in (path, path[::-1]):
        for offset in offsets:
            at, angle = places_along(direction, 26.0, offset)
            seen = np.ones(len(at), bool)
            for above in under:
                seen &= distance(at, above) > MOTORWAY_HALF + 20
            at, angle = at[seen], angle[seen]
            trucks = sketch.rng.random(len(at)) < 0.2
            for kind, chosen in ((Kind.TRUCK, trucks), (Kind.CAR, ~trucks)):
                sketch.park(at[chosen], angle[chosen], kind, on, traffic, 6.0)
