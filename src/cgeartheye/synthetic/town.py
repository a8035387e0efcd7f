"""Housing, industry, car parks and harbours."""

import math

import numpy as np

from cgeartheye.synthetic.countryside import lanes
from cgeartheye.synthetic.ground import polygon
from cgeartheye.synthetic.layout import Cell
from cgeartheye.synthetic.materials import Material
from cgeartheye.synthetic.objects import Kind, Roof
from cgeartheye.synthetic.shapes import Bools, Boxes, Floats, pixels_of, ribbon, stand_on
from cgeartheye.synthetic.sketch import Sketch

_ACROSS = math.pi / 2
_LINE = (218, 218, 214)  # markings of car parks
_TILES = np.array([(156, 84, 64), (138, 72, 58), (120, 96, 82), (104, 100, 100), (170, 108, 84)])
_FELT = np.array([(150, 146, 140), (128, 126, 124), (176, 170, 160)])
_SHEET = np.array(
    [(206, 206, 202), (186, 190, 192), (96, 130, 168), (160, 160, 156), (224, 224, 220)]
)
_STEEL = np.array([(226, 226, 222), (208, 206, 200)])
_CONTAINERS = np.array(
    [(168, 64, 48), (54, 96, 150), (58, 120, 92), (200, 196, 188), (206, 136, 52), (98, 100, 106)]
)


def residential(sketch: Sketch, cell: Cell) -> None:
    """Streets with houses and gardens on both sides, or with slabs of flats on lawns."""
    rng, ground = sketch.rng, sketch.ground
    ground.cover(cell.pixels, Material.GRASS, sketch.tints(cell.pixels))
    flats = rng.random() < 0.35
    reach_u, reach_v = cell.extent
    depth = 96 if flats else 78
    streets = np.arange(-reach_v + depth / 2, reach_v, depth)
    runs = [cell.to_world([-reach_u, reach_u], v) for v in streets]
    runs.append(cell.to_world(0.13 * reach_u, [-reach_v, reach_v]))
    for half, material, tint in ((5.4, Material.DRIVE, 160), (3.6, Material.ROAD, 110)):
        for run in runs:
            index = sketch.own(cell, polygon(ribbon(run, half), ground.size))
            ground.cover(index, material, tint + rng.uniform(-20, 20))
    for run in runs:
        lanes(sketch, run, (1.7,), Material.ROAD, 0.12)
    growth = 0.4 if rng.random() < 0.35 else 0.08  # a new estate, or an old one
    for street in streets:
        for side in (-1, 1):
            if flats:
                _slabs(sketch, cell, street, side, growth)
            else:
                _gardens(sketch, cell, street, side)
                _houses(sketch, cell, street, side, growth)
    sketch.plant(sketch.scatter(cell, 14, above=-0.9), (1.9, 4.2), 0.15)


def _gardens(sketch: Sketch, cell: Cell, street: float, side: int) -> None:
    """A lawn of its own shade around each house, hedged off from the next."""
    u = np.arange(-cell.extent[0] + 16, cell.extent[0], 31.0)
    at = cell.to_world(u, street + side * 23.0)
    shade = sketch.rng.normal(0, 45, len(u))
    for half, darker in (((15.5, 16.5), 160), ((14.8, 15.8), 0)):
        pixels = pixels_of(Boxes.of(at, half, cell.angle), sketch.plan.size)
        grassy = sketch.ground.material.ravel()[pixels.index] == Material.GRASS
        grassy &= sketch.plan.owner.ravel()[pixels.index] == cell.number
        index = pixels.index[grassy]
        tint = sketch.tints(index) + shade[pixels.box[grassy]] - darker
        sketch.ground.cover(index, Material.GRASS, tint)


def _houses(sketch: Sketch, cell: Cell, street: float, side: int, growth: float) -> None:
    rng = sketch.rng
    u = np.arange(-cell.extent[0] + 14, cell.extent[0], 31.0)
    count = len(u)
    u = u + rng.uniform(-2.0, 2.0, count)
    half = np.stack([rng.uniform(7.0, 9.6, count), rng.uniform(5.2, 7.0, count)], 1)
    turned = rng.random(count) < 0.2
    reach = np.where(turned, half[:, 0], half[:, 1])
    at = cell.to_world(u, street + side * (9.5 + reach + rng.uniform(0, 3.5, count)))
    angle = cell.angle + np.where(turned, _ACROSS, 0) + rng.normal(0, 0.02, count)
    roof = rng.choice([Roof.GABLE, Roof.HIP], count)
    houses = Boxes.of(at, half, angle)
    sketch.build(cell, houses, rng.uniform(4, 7, count), roof, _TILES, growth)

    # Beside each house a drive, with a garage at its end or a car on it.
    u = u + np.where(turned, half[:, 1], half[:, 0]) + 3.4
    drives = Boxes.of(cell.to_world(u, street + side * 12.5), (8.5, 1.9), cell.angle + _ACROSS)
    _pave(sketch, cell, drives, Material.DRIVE)
    sketch.park(drives.center, cell.angle + side * _ACROSS, Kind.CAR, Material.DRIVE, 0.45, 3.5)
    behind = cell.to_world(u, street + side * 28.5)[rng.random(count) < 0.45]
    garages = Boxes.of(behind, (4.2, 2.5), cell.angle + _ACROSS)
    roof = np.full(len(behind), Roof.FLAT)
    sketch.build(cell, garages, rng.uniform(2.5, 3, len(behind)), roof, _FELT, growth)


def _slabs(sketch: Sketch, cell: Cell, street: float, side: int, growth: float) -> None:
    rng = sketch.rng
    u = np.arange(-cell.extent[0] + 40, cell.extent[0], 88.0)
    at = cell.to_world(u + rng.uniform(-6.0, 6.0, len(u)), street + side * 31.0)
    half = np.stack([rng.uniform(27, 36, len(u)), rng.uniform(7.5, 9.0, len(u))], 1)
    roof = rng.choice([Roof.FLAT, Roof.FLAT, Roof.HIP], len(u))
    colors = np.concatenate([_FELT, _TILES[2:4]])
    slabs = Boxes.of(at, half, cell.angle)
    sketch.build(cell, slabs, rng.uniform(12, 22, len(u)), roof, colors, growth)
    # Cars stand across between the street and the lawn.
    bays = cell.to_world(np.arange(-cell.extent[0] + 6, cell.extent[0], 3.7), street + side * 9.0)
    _pave(sketch, cell, Boxes.of(bays, (3.9, 2.3), cell.angle + _ACROSS), Material.LOT)
    sketch.park(bays, cell.angle + side * _ACROSS, Kind.CAR, Material.LOT, 0.4, 0.3)


def industrial(sketch: Sketch, cell: Cell) -> None:
    """Lots with halls on concrete yards, some with storage tanks, and trucks."""
    rng, ground = sketch.rng, sketch.ground
    ground.cover(cell.pixels, Material.GRASS, sketch.tints(cell.pixels))
    inside = np.zeros(ground.size**2, bool)
    inside[sketch.own(cell, polygon(cell.shrunk(13), ground.size))] = True
    for u0, v0, u1, v1 in _lots(cell, rng):
        middle, half = np.array([u0 + u1, v0 + v1]) / 2, np.array([u1 - u0, v1 - v0]) / 2 - 3
        index = pixels_of(Boxes.of(cell.to_world(*middle), half, cell.angle), ground.size).index
        index = index[inside[index]]
        ground.cover(index, Material.YARD, sketch.tints(index) + rng.uniform(-60, 60))
        draw = _tank_farm if rng.random() < 0.25 else _halls
        draw(sketch, cell, middle, half - 8)
        rim = middle[0] + np.arange(-half[0] + 8, half[0] - 8, 5.5)
        at = cell.to_world(rim, middle[1] + half[1] - 9.0)
        kind = Kind.TRUCK if rng.random() < 0.6 else Kind.CAR
        taken = rng.uniform(0.1, 0.6)
        sketch.park(at, cell.angle + _ACROSS, kind, Material.YARD, taken, 0.6)
    sketch.plant(sketch.scatter(cell, 22, above=-0.5), (2.2, 4.0), 0.2)


def _lots(cell: Cell, rng: np.random.Generator) -> list[tuple[float, float, float, float]]:
    """Strips across the cell, cut into lots, as u0, v0, u1, v1."""
    lots = []
    v = -cell.extent[1] + 6
    while v < cell.extent[1]:
        deep = rng.uniform(100, 135)
        u = -cell.extent[0] - rng.uniform(0, 60)
        while u < cell.extent[0]:
            wide = rng.uniform(110, 190)
            lots.append((u, v, u + wide, v + deep))
            u += wide
        v += deep
    return lots


def _halls(sketch: Sketch, cell: Cell, middle: Floats, half: Floats) -> None:
    """One hall, or two side by side, that leave a part of the lot free."""
    rng = sketch.rng
    free = rng.uniform(0.16, 0.3)
    count = 2 if half[0] > 60 and rng.random() < 0.6 else 1
    for k in range(count):
        wide = half[0] / count - (3 if count > 1 else 0)
        u = middle[0] + (2 * k - count + 1) * half[0] / count
        size = np.array([wide * rng.uniform(0.75, 1.0), half[1] * (1 - free)])
        angle = cell.angle
        if size[1] > size[0]:  # the heading of a box is its long side
            size, angle = size[::-1], angle + _ACROSS
        roof = np.array([Roof.GABLE if size[1] < 22 and rng.random() < 0.25 else Roof.FLAT])
        hall = Boxes.of(cell.to_world(u, middle[1] - half[1] * free), size, angle)
        sketch.build(cell, hall, rng.uniform(7, 13, 1), roof, _SHEET, kept=0.8)
    # Sheds where the hall leaves room, or would not have fitted at all.
    u, v = np.meshgrid(
        np.arange(-half[0] + 16, half[0] - 8, 34), np.arange(-half[1] + 12, half[1] - 22, 28)
    )
    some = rng.random(u.shape) < 0.7
    at = cell.to_world(middle[0] + u[some], middle[1] + v[some])
    sheds = Boxes.of(at, rng.uniform((10, 7), (14, 10), at.shape), cell.angle)
    roof = rng.choice([Roof.FLAT, Roof.GABLE], len(at))
    sketch.build(cell, sheds, rng.uniform(4, 7, len(at)), roof, _SHEET, kept=0.8)


def _tank_farm(sketch: Sketch, cell: Cell, middle: Floats, half: Floats) -> None:
    rng = sketch.rng
    widest = rng.uniform(8, 14)
    u, v = np.meshgrid(
        np.arange(-half[0] + widest, half[0] - widest + 1, 2 * widest + 6),
        np.arange(-half[1] + widest, half[1] - widest - 8, 2 * widest + 6),
    )
    some = rng.random(u.shape) < 0.85
    at = cell.to_world(middle[0] + u[some], middle[1] + v[some])
    radius = widest * rng.uniform(0.8, 1.0, (len(at), 1)).repeat(2, 1)
    roof = np.full(len(at), Roof.TANK)
    sketch.build(cell, Boxes.of(at, radius, 0.0), rng.uniform(8, 13, len(at)), roof, _STEEL)


def parking(sketch: Sketch, cell: Cell) -> None:
    """Car parks: double rows of marked stalls along aisles, between planted islands."""
    rng, ground, size = sketch.rng, sketch.ground, sketch.plan.size
    ground.cover(cell.pixels, Material.GRASS, sketch.tints(cell.pixels))
    index = polygon(cell.shrunk(11), size)
    ground.cover(index, Material.LOT, 128 + 0.6 * (sketch.tints(index) - 128))
    stall, row, aisle = 3.6, 7.0, 8.5  # 2.7 m x 5.25 m, and 6.4 m between the rows
    places = 6 + stall * (0.5 + np.arange(30))
    edges = 6 + stall * np.arange(31)
    for v in np.arange(-cell.extent[1], cell.extent[1], 2 * row + aisle):
        for u in np.arange(-cell.extent[0], cell.extent[0], 30 * stall + 12):
            busy = float(np.clip(rng.normal(0.55, 0.28), 0.03, 0.97))
            for side in (-1, 1):
                middle = v + row + aisle / 2 + side * (aisle + row) / 2
                into = np.where(rng.random(30) < 0.7, side, -side)  # the rest have backed in
                at = cell.to_world(u + places, middle)
                sketch.park(at, cell.angle + into * _ACROSS, Kind.CAR, Material.LOT, busy, 0.35)
                lines = cell.to_world(u + edges, middle)
                _mark(sketch, Boxes.of(lines, (row / 2 - 0.3, 0.22), cell.angle + _ACROSS))
            ends = cell.to_world(
                u + 2.5, v + row + aisle / 2 + np.array([-1, 1]) * (aisle + row) / 2
            )
            islands = pixels_of(Boxes.of(ends, (2.2, row / 2), cell.angle), size).index
            islands = islands[ground.material.ravel()[islands] == Material.LOT]
            ground.cover(islands, Material.GRASS, 100)
            sketch.plant(ends, (1.8, 2.1), 0.0)


def _mark(sketch: Sketch, lines: Boxes) -> None:
    """Paint markings where there is a car park to paint them on."""
    column, row = np.clip(lines.center.astype(int), 0, sketch.plan.size - 1).T
    on = sketch.ground.material[row, column] == Material.LOT
    sketch.ground.paint_boxes(lines[on], _LINE, 0.75)


def harbour(sketch: Sketch, cell: Cell) -> None:
    """Docks that open to the river, with ships at their quays; containers and sheds between."""
    rng, ground, size = sketch.rng, sketch.ground, sketch.plan.size
    ground.cover(cell.pixels, Material.QUAY, sketch.tints(cell.pixels))
    river = sketch.plan.river
    mouth = river[np.linalg.norm(river - cell.center, axis=1).argmin()]
    inland = cell.center - mouth
    deep = float(np.hypot(*inland)) + 0.45 * cell.extent.min()
    front = Boxes.of(mouth, (1, 1), math.atan2(inland[1], inland[0]))
    for v in np.arange(-3, 4) * 150.0:
        dock = Boxes.of(front.at(deep / 2 - 100, v), (deep / 2 + 100, 40), front.angle)
        index = sketch.own(cell, pixels_of(dock, size).index)
        ground.cover(index, Material.DOCK, 128 + 30 * sketch.patches.ravel()[index])
        for side in (-1, 1):
            for kind, step, off, busy in (
                (Kind.CARGO, 132.0, 11.5, 0.75),
                (Kind.BARGE, 96.0, 26.0, 0.35),
            ):
                u = np.arange(deep - 68, -200, -step)
                at = front.at(u, np.full(len(u), v + side * (40 - off)))
                heading = front.angle + np.where(rng.random(len(u)) < 0.5, 0, math.pi)
                sketch.park(at, heading, kind, Material.DOCK, busy, 3.0)
    quay = (sketch.plan.owner == cell.number) & (ground.material == Material.QUAY)
    for v in np.arange(-3, 4) * 150.0 + 75.0:  # between the docks
        _goods(sketch, cell, front, v, (60.0, deep + 20), quay)
    for v in np.arange(-6, 7) * 56.0:  # behind them
        _goods(sketch, cell, front, v, (deep + 44, deep + 200), quay)


def _goods(
    sketch: Sketch, cell: Cell, front: Boxes, v: float, reach: tuple[float, float], quay: Bools
) -> None:
    """A row of container stacks and sheds on a quay [H, W], trucks on both sides of it."""
    rng = sketch.rng
    for u in np.arange(*reach, 64.0):
        if rng.random() < 0.3:
            shed = Boxes.of(front.at(u + 24, v), (24, 15), front.angle)
            roof = np.array([Roof.GABLE])
            sketch.build(cell, shed, rng.uniform(7, 10, 1), roof, _SHEET, kept=0.8)
            continue
        rows, columns = np.mgrid[-5:6, 0:3].reshape(2, -1)
        full = rng.random(len(rows)) < rng.uniform(0.4, 1.0)
        at = front.at(u + 8 + 17.0 * columns[full], v + 3.6 * rows[full])
        stacks = Boxes.of(at, (8.1, 1.6), front.angle)
        stacks = stacks[stand_on(stacks, quay, 1.0)]
        shade = rng.uniform(0.85, 1.05, (len(stacks), 1))
        sketch.ground.paint_boxes(stacks, rng.choice(_CONTAINERS, len(stacks)) * shade)
        pixels = pixels_of(stacks, sketch.plan.size)
        tiers = rng.integers(1, 4, len(stacks))
        sketch.ground.height.ravel()[pixels.index] = 2.6 * tiers[pixels.box]
    rim = np.arange(reach[0] - 30, reach[1], 16.0)
    for side in (-1, 1):
        at = front.at(rim, np.full(len(rim), v + side * 25.0))
        sketch.park(at, front.angle, Kind.TRUCK, Material.QUAY, 0.3, 4.0)


def _pave(sketch: Sketch, cell: Cell, boxes: Boxes, material: Material) -> None:
    """Lay a material where the cell has grass."""
    index = sketch.own(cell, pixels_of(boxes, sketch.plan.size).index)
    grassy = sketch.ground.material.ravel()[index] == Material.GRASS
    sketch.ground.cover(index[grassy], material, 145)
