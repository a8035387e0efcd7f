"""Trees, buildings, vehicles, ships and aeroplanes, and how each is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

import numpy as np
import numpy.typing as npt

from cgeartheye.synthetic.aeroplanes import draw_aeroplanes
from cgeartheye.synthetic.ground import GSD, Bytes, Ground, Reals, coverage
from cgeartheye.synthetic.materials import Material
from cgeartheye.synthetic.shapes import (
    Bools,
    Boxes,
    Floats,
    Pixels,
    pixels_of,
    stand_apart,
    stand_on,
)

OBJECTS = ("aeroplane", "building", "ship", "storage tank", "vehicle")


class Roof(IntEnum):
    """The shape of a roof."""

    FLAT = 0
    GABLE = 1
    HIP = 2
    TANK = 3  # a storage tank: round


class Kind(IntEnum):
    """Moving things."""

    CAR = 0
    TRUCK = 1
    CARGO = 2
    BARGE = 3
    BOAT = 4
    AIRLINER = 5
    REGIONAL = 6
    BUSINESS = 7


# Half lengths and half widths in pixels, from and to; height in metres, without masts and fins.
_SIZES = {
    Kind.CAR: ((2.8, 1.2), (3.3, 1.35), 1.5),
    Kind.TRUCK: ((5.0, 1.6), (8.5, 1.75), 3.6),
    Kind.CARGO: ((38.0, 6.5), (62.0, 10.0), 5.0),
    Kind.BARGE: ((30.0, 5.0), (44.0, 6.5), 2.0),
    Kind.BOAT: ((5.0, 1.8), (10.0, 3.2), 1.5),
    Kind.AIRLINER: ((24.5, 21.0), (31.0, 25.0), 5.8),
    Kind.REGIONAL: ((17.5, 13.5), (23.5, 18.5), 4.6),
    Kind.BUSINESS: ((9.5, 7.9), (13.5, 11.2), 3.0),
}
_CAR_COLORS = np.array(
    [(226, 228, 230)] * 4
    + [(186, 190, 194)] * 2
    + [(46, 48, 52)] * 3
    + [(148, 40, 38), (46, 66, 116), (70, 74, 78), (182, 164, 128), (210, 190, 60)],
    np.float32,
)
_TRUCK_COLORS = np.array(
    [(228, 228, 224)] * 3 + [(58, 92, 150), (172, 62, 46), (196, 176, 120)], np.float32
)
_HULL_COLORS = np.array(
    [(118, 52, 44), (74, 96, 84), (84, 90, 98), (132, 106, 84), (56, 72, 104)], np.float32
)
_BOAT_COLORS = np.array([(232, 232, 228)] * 3 + [(196, 206, 214), (170, 84, 60)], np.float32)
_LIVERIES = np.array(
    [(232, 232, 230)] * 2
    + [(34, 62, 132), (178, 38, 44), (28, 108, 96), (216, 128, 40), (66, 70, 80), (88, 150, 206)],
    np.float32,
)
_COLORS = {
    Kind.CAR: _CAR_COLORS,
    Kind.TRUCK: _TRUCK_COLORS,
    Kind.CARGO: _HULL_COLORS,
    Kind.BARGE: _HULL_COLORS,
    Kind.BOAT: _BOAT_COLORS,
    Kind.AIRLINER: _LIVERIES,
    Kind.REGIONAL: _LIVERIES,
    Kind.BUSINESS: _LIVERIES,
}
_CLASSES = {
    "vehicle": (Kind.CAR, Kind.TRUCK),
    "ship": (Kind.CARGO, Kind.BARGE, Kind.BOAT),
    "aeroplane": (Kind.AIRLINER, Kind.REGIONAL, Kind.BUSINESS),
}
_LABELS = np.array(
    [OBJECTS.index(name) for kind in Kind for name, kinds in _CLASSES.items() if kind in kinds]
)


@dataclass(frozen=True, eq=False)
class Buildings:
    """N buildings and storage tanks.

    Attributes:
        boxes: their footprints; of a tank the square around its circle.
        height: `[N]` metres, of the eaves.
        roof: `[N]` values of `Roof`.
        color: `[N, 3]` of the roof.
        present: `[2, N]`, whether it stands at date 1 and at date 2.
    """

    boxes: Boxes
    height: Floats
    roof: npt.NDArray[np.intp]
    color: Reals
    present: Bools

    @classmethod
    def concatenate(cls, parts: Sequence["Buildings"]) -> Self:
        """Put several sets, at least one, behind each other."""
        return cls(
            Boxes.concatenate([part.boxes for part in parts]),
            np.concatenate([part.height for part in parts]),
            np.concatenate([part.roof for part in parts]),
            np.concatenate([part.color for part in parts]),
            np.concatenate([part.present for part in parts], axis=1),
        )

    def __getitem__(self, which: Bools) -> Self:
        return type(self)(
            self.boxes[which],
            self.height[which],
            self.roof[which],
            self.color[which],
            self.present[:, which],
        )

    @property
    def labels(self) -> npt.NDArray[np.intp]:
        """Indices into `OBJECTS`, `[N]`."""
        tank, building = OBJECTS.index("storage tank"), OBJECTS.index("building")
        return np.where(self.roof == Roof.TANK, tank, building)

    def footprints(self, size: int) -> Pixels:
        """Return the pixels whose centres are under the roofs."""
        pixels = pixels_of(self.boxes, size)
        radius = self.boxes.half[pixels.box, 0]
        outside = (self.roof[pixels.box] == Roof.TANK) & (np.hypot(pixels.u, pixels.v) > radius)
        return pixels.select(~outside)


@dataclass(frozen=True, eq=False)
class Slots:
    """N places that one kind of what moves may take: in a lane, in a car park, at a quay.

    Attributes:
        center: `[N, 2]` pixels.
        angle: `[N]` headings, radians.
        kind: what fits there.
        on: the material it must stand on.
        taken: the share that is taken.
        stray: how far from the centre along the heading it may stand, pixels.
    """

    center: Floats
    angle: Floats
    kind: Kind
    on: Material
    taken: float
    stray: float


@dataclass(frozen=True, eq=False)
class Movables:
    """N vehicles, ships and aeroplanes.

    Attributes:
        boxes: the smallest boxes around them.
        kind: `[N]` values of `Kind`.
        color: `[N, 3]`.
    """

    boxes: Boxes
    kind: npt.NDArray[np.intp]
    color: Reals

    def __getitem__(self, which: Bools) -> Self:
        return type(self)(self.boxes[which], self.kind[which], self.color[which])

    @property
    def labels(self) -> npt.NDArray[np.intp]:
        """Indices into `OBJECTS`, `[N]`."""
        return _LABELS[self.kind]


def occupy(slots: Sequence[Slots], material: Bytes, rng: np.random.Generator) -> Movables:
    """Fill some of the slots, each with an object of its own size and color.

    Args:
        slots: places, with the kind that may stand there.
        material: of the ground, uint8 `[H, W]`.
        rng: is drawn from.
    """
    boxes, kinds, colors = [], [], []
    places = {on: material == on for on in {slot.on for slot in slots}}
    for slot in slots:
        taken = rng.random(len(slot.angle)) < slot.taken
        count = int(taken.sum())
        low, high, _ = _SIZES[slot.kind]
        # Length and width go together: a long ship is a wide one.
        half = np.array(low) + rng.random((count, 1)) * (np.array(high) - np.array(low))
        place = Boxes.of(slot.center[taken], half, slot.angle[taken])
        moved = place.at(rng.uniform(-slot.stray, slot.stray, count), rng.normal(0, 0.15, count))
        place = Boxes.of(moved, half, place.angle + rng.normal(0, 0.02, count))
        color = rng.choice(_COLORS[slot.kind], count) * rng.uniform(0.88, 1.08, (count, 1))
        fits = stand_on(place, places[slot.on], 0.7)
        boxes.append(place[fits])
        kinds.append(np.full(int(fits.sum()), slot.kind))
        colors.append(color[fits].astype(np.float32))
    movables = Movables(Boxes.concatenate(boxes), np.concatenate(kinds), np.concatenate(colors))
    return movables[stand_apart(movables.boxes, len(material))]


def draw_trees(ground: Ground, crowns: Boxes, conifer: Bools, rng: np.random.Generator) -> None:
    """Draw single trees, nearly round.

    Args:
        ground: is drawn on.
        crowns: N boxes; half sides are the radii.
        conifer: bool `[N]`; false: broadleaf.
        rng: is drawn from.
    """
    pixels = pixels_of(crowns, ground.size, 1.0)
    phase, tint = rng.uniform(0, 6.28, len(crowns)), rng.integers(0, 256, len(crowns))
    lobes = 3 * np.arctan2(pixels.v, pixels.u) + phase[pixels.box]
    reach = (crowns.half[pixels.box, 0] * (1 + 0.12 * np.sin(lobes))).astype(np.float32)
    inside = np.hypot(pixels.u, pixels.v) <= reach
    pixels, reach = pixels.select(inside), reach[inside]
    kind = np.where(conifer, Material.CONIFER, Material.BROADLEAF).astype(np.uint8)
    ground.cover(pixels.index, kind[pixels.box], tint[pixels.box])
    raise_crowns(ground, pixels, reach, conifer[pixels.box])


def raise_crowns(ground: Ground, pixels: Pixels, reach: Reals, conifer: Bools) -> None:
    """Raise the ground to crowns of trees.

    Args:
        ground: is raised.
        pixels: P, with (u, v) = 0 at the trunk.
        reach: radius of the crown at each pixel, `[P]` pixels.
        conifer: bool `[P]`; pointed, else domes.
    """
    share = np.hypot(pixels.u, pixels.v) / reach
    rise = np.where(conifer, 1.1, 0.6) * reach * GSD  # from the crown's edge to its top, metres
    height = 3.0 + rise + np.where(conifer, rise * (1 - share), rise * (1 - share**2))
    fall = -rise / (reach * GSD) * np.where(conifer, 0.8, 1.6 * share) / np.maximum(share, 0.05)
    ground.raise_to(pixels, height, fall * pixels.u / reach, fall * pixels.v / reach)


def draw_buildings(ground: Ground, buildings: Buildings) -> None:
    """Draw roofs, their material, slopes and colors."""
    pixels = buildings.footprints(ground.size)
    box, u, v = pixels.box, pixels.u, pixels.v
    angle, roof = buildings.boxes.angle[box], buildings.roof[box]
    a, b = buildings.boxes.half[box].T.astype(np.float32)
    ground.material.ravel()[pixels.index] = Material.ROOF
    ground.stripe.ravel()[pixels.index] = 0

    pitch = 0.55
    to_side, to_front = b - np.abs(v), a - np.abs(u)
    hip = (roof == Roof.HIP) & (to_front < to_side)
    sloped = (roof == Roof.GABLE) | (roof == Roof.HIP)
    inwards = np.where(hip, to_front, to_side)
    height = buildings.height[box] + np.where(sloped, pitch * GSD * inwards, 0)
    slope_u = np.where(hip, -pitch * np.sign(u), 0)
    slope_v = np.where(sloped & ~hip, -pitch * np.sign(v), 0)

    to_edge = np.where(roof == Roof.TANK, a - np.hypot(u, v), np.minimum(to_side, to_front))
    parapet = ~sloped & (to_edge < 1.3)
    ribs = np.where(roof == Roof.FLAT, 0.03 * np.sin(u * 1.6), 0.02 * np.sin(v * 2.8))
    shade = 1 + ribs + np.where(parapet, 0.10, 0)
    dome = (roof == Roof.TANK) * np.float32(0.25) / a
    slope_u, slope_v = slope_u - dome * u, slope_v - dome * v
    ground.raise_to(pixels, height, slope_u, slope_v, angle)
    paint = ground.paint.reshape(-1, 4)
    paint[pixels.index, :3] = np.clip(buildings.color[box] * shade[:, None], 0, 255)
    paint[pixels.index, 3] = 255
    _draw_roof_fittings(ground, buildings)


def _draw_roof_fittings(ground: Ground, buildings: Buildings) -> None:
    """Ventilation and skylights on large flat roofs, the same at both dates."""
    large = (buildings.roof == Roof.FLAT) & (buildings.boxes.half.min(1) > 9)
    halls = buildings.boxes[large]
    for k, (u, v) in enumerate([(-0.6, 0.4), (-0.15, -0.5), (0.3, 0.45), (0.65, -0.3)]):
        place = halls.at(u * halls.half[:, 0], v * halls.half[:, 1])
        half = (
            (2.2, 1.6) if k % 2 else np.stack([halls.half[:, 0] * 0.12, halls.half[:, 1] * 0.06], 1)
        )
        box = Boxes.of(place, np.maximum(half, 0.8), halls.angle)
        ground.paint_boxes(box, (96, 100, 104) if k % 2 else (206, 214, 218), 0.8)
        if k % 2:
            pixels = pixels_of(box, ground.size)
            ground.height.ravel()[pixels.index] += np.float16(2)


def draw_movables(ground: Ground, movables: Movables) -> None:
    """Draw all that moves, on top of the ground's material, which stays as it is."""
    for kind in Kind:
        chosen = movables[movables.kind == kind]
        if not len(chosen.boxes):
            continue
        if kind in _CLASSES["vehicle"]:
            _draw_vehicles(ground, chosen, kind)
        elif kind in _CLASSES["ship"]:
            _draw_ships(ground, chosen, kind)
        else:
            height, aft = _SIZES[kind][2], kind == Kind.BUSINESS
            draw_aeroplanes(ground, chosen.boxes, chosen.color, height, aft)


def _draw_vehicles(ground: Ground, vehicles: Movables, kind: Kind) -> None:
    pixels = pixels_of(vehicles.boxes, ground.size, 0.5)
    box, ahead = pixels.box, pixels.u / vehicles.boxes.half[pixels.box, 0]
    color = vehicles.color[box]
    if kind == Kind.CAR:
        glass = ((ahead > 0.1) & (ahead < 0.5)) | ((ahead < -0.6) & (ahead > -0.85))
        color = np.where(glass[:, None], color * 0.35 + 10, color)
    else:
        cab = vehicles.boxes.half[box, 0] - pixels.u < 3.2
        color = np.where(cab[:, None], color[:, ::-1] * 0.8, color)
        gap = np.abs(vehicles.boxes.half[box, 0] - pixels.u - 3.6) < 0.5
        color = np.where(gap[:, None], 50, color)
    share = coverage(pixels, vehicles.boxes)
    ground.blend(pixels.index, color, share)
    ground.height.ravel()[pixels.index[share > 0.5]] = _SIZES[kind][2]


def _draw_ships(ground: Ground, ships: Movables, kind: Kind) -> None:
    pixels = pixels_of(ships.boxes, ground.size, 0.5)
    box = pixels.box
    a, b = ships.boxes.half[box].T.astype(np.float32)
    bow = {Kind.CARGO: 2.2, Kind.BARGE: 1.2, Kind.BOAT: 3.2}[kind]  # its length over half the width
    taper = np.sqrt(np.clip((a - pixels.u) / (bow * b), 0, 1))
    stern = np.clip(0.8 + (a + pixels.u) / (4 * b), 0, 1)
    side = b * np.minimum(taper, stern) - np.abs(pixels.v)  # pixels to the ship's side
    share = coverage(pixels, ships.boxes) * np.clip(side + 0.5, 0, 1)
    ahead, across = pixels.u / a, np.abs(pixels.v) / b
    color = np.where((side < 1.2)[:, None], ships.color[box] * 0.62, ships.color[box])
    height = np.full(len(box), _SIZES[kind][2])
    if kind == Kind.BOAT:
        cabin = (np.abs(ahead + 0.15) < 0.35) & (across < 0.55)
        color = np.where(cabin[:, None], (92, 100, 108), color)
    else:
        hold = (ahead > -0.55) & (ahead < 0.78) & (across < 0.66)
        lid = hold & (np.mod(pixels.u, 11) > 1.6)
        cargo = (186, 164, 128) if kind == Kind.BARGE else (168, 160, 146)
        color = np.where(hold[:, None], 66, color)
        color = np.where(lid[:, None], 0.75 * np.array(cargo) + 0.25 * ships.color[box], color)
        bridge = (np.abs(ahead + 0.76) < 0.13) & (across < 0.78)
        color = np.where(bridge[:, None], (226, 226, 222), color)
        height = height + np.where(bridge, 9 if kind == Kind.CARGO else 4, 0)
    ground.blend(pixels.index, color, share.astype(np.float32))
    solid = share > 0.5
    ground.height.ravel()[pixels.index[solid]] = height[solid]
