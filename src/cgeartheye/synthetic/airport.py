"""An airport: runway, taxiways, an apron with stands, terminal, hangars, a car park."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cgeartheye.synthetic.layout import Cell
from cgeartheye.synthetic.materials import Material
from cgeartheye.synthetic.objects import Kind, Roof
from cgeartheye.synthetic.shapes import Bools, Boxes, Floats, pixels_of, stand_on
from cgeartheye.synthetic.sketch import Sketch

_ACROSS = math.pi / 2
_RUNWAY, _TAXIWAY = 22.0, 8.0  # pixels from the middle to the edge
_WHITE = (226, 226, 222)
_YELLOW = (202, 168, 58)
_RED = (190, 60, 50)
_JOINT = (112, 110, 106)  # between the slabs of concrete
_RUBBER = (44, 44, 46)
_ROOFS = np.array([(206, 208, 208), (182, 188, 194), (164, 168, 172), (222, 222, 216)])
_HANGARS = np.array([(196, 200, 202), (120, 142, 168), (170, 176, 172)])
_Span = tuple[float, float]  # from and to, pixels


@dataclass(frozen=True, eq=False)
class _Site:
    """The land of an airport, in pixels u along its runway and v from there to the terminal.

    Attributes:
        sketch: is drawn on.
        cell: the land.
        side: 1 or -1, on which side of the runway the terminal stands.
        free: bool `[H, W]`, what may be built upon: the land but for its rim.
    """

    sketch: Sketch
    cell: Cell
    side: int
    free: Bools

    def at(self, u: npt.ArrayLike, v: npt.ArrayLike) -> Floats:
        """World coordinates `[..., 2]`."""
        return self.cell.to_world(u, self.side * np.asarray(v, float))

    @property
    def inwards(self) -> float:
        """The heading from the runway to the terminal, radians."""
        return self.cell.angle + self.side * _ACROSS

    def boxes(
        self, u: npt.ArrayLike, v: npt.ArrayLike, half: tuple[float, float], turn: float = 0.0
    ) -> Boxes:
        """Boxes of one size with their length along the runway, or turned from there, radians."""
        return Boxes.of(self.at(u, v), half, self.cell.angle + turn)

    def lay(self, along: _Span, across: _Span, material: Material, shade: float = 128) -> None:
        """Pave a rectangle, as far as the land is free."""
        (u0, u1), (v0, v1) = along, across
        box = self.boxes((u0 + u1) / 2, (v0 + v1) / 2, ((u1 - u0) / 2, (v1 - v0) / 2))
        index = pixels_of(box, self.sketch.plan.size).index
        index = index[self.free.ravel()[index]]
        shades = shade + 0.25 * (self.sketch.tints(index) - 128)
        self.sketch.ground.cover(index, material, shades)

    def paint(
        self,
        u: npt.ArrayLike,
        v: npt.ArrayLike,
        half: tuple[float, float],
        color: tuple[int, int, int],
        opacity: float = 0.85,
        on: Material = Material.TARMAC,
        turn: float = 0.0,
    ) -> None:
        """Paint markings of one size, those that are wholly on a material."""
        marks = self.boxes(u, v, half, turn)
        fits = stand_on(marks, self.sketch.ground.material == on)
        self.sketch.ground.paint_boxes(marks[fits], color, opacity)

    def run(self, across: _Span) -> _Span:
        """The longest strip of free land between two lines along the runway, from u to u."""
        step = 6.0
        u = np.arange(-self.cell.extent[0], self.cell.extent[0], step)
        slices = self.boxes(u, sum(across) / 2, (step / 2, (across[1] - across[0]) / 2))
        fits = np.concatenate([[False], stand_on(slices, self.free), [False]])
        starts, ends = np.flatnonzero(np.diff(fits)).reshape(-1, 2).T
        if not len(starts):
            return 0.0, 0.0
        longest = (ends - starts).argmax()
        return float(u[starts[longest]] - step / 2), float(u[ends[longest] - 1] + step / 2)


def airport(sketch: Sketch, cell: Cell) -> None:
    """A runway along one side, the terminal along the other, the apron between them."""
    rng, ground = sketch.rng, sketch.ground
    ground.cover(cell.pixels, Material.GRASS, sketch.tints(cell.pixels))
    _, across = sketch.local(cell, cell.pixels)
    ground.stripe.ravel()[cell.pixels] = np.sin(across * (2 * math.pi / 13))
    own = sketch.plan.owner == cell.number
    site = _Site(sketch, cell, int(rng.choice([-1, 1])), ndimage.binary_erosion(own, iterations=11))

    centers = np.arange(-cell.extent[1], 0, 6.0)
    runs = [site.run((v - _RUNWAY, v + _RUNWAY)) for v in centers]
    lengths = np.array([end - start for start, end in runs])
    first = int((lengths > 0.93 * lengths.max()).argmax())  # as far to the side as it can be
    middle, run = float(centers[first]), runs[first]
    taxi = middle + _RUNWAY + 22 + _TAXIWAY
    _runway(site, run, middle)
    _taxiways(site, run, middle, taxi)
    start = taxi + _TAXIWAY + 3
    depths = np.arange(130.0, 70, -4)
    fits = [np.diff(site.run((start, start + d + 36)))[0] > 0.6 * lengths.max() for d in depths]
    depth = float(depths[np.argmax(fits)]) if any(fits) else 72.0
    apron = site.run((start, start + depth))
    _apron(site, apron, (start, start + depth))
    _terminal(site, apron, start + depth)
    landside = sketch.scatter(cell, 13, above=-0.6)
    beyond = cell.to_local(landside)[:, 1] * site.side > start + depth + 40
    sketch.plant(landside[beyond], (2.0, 4.0), 0.2)


def _runway(site: _Site, run: _Span, middle: float) -> None:
    """Asphalt with edge and centre lines, threshold bars, aiming points, and worn rubber."""
    u0, u1 = run
    site.lay(run, (middle - _RUNWAY, middle + _RUNWAY), Material.TARMAC, 60)
    length = (u1 - u0) / 2
    for side in (-1, 1):
        site.paint((u0 + u1) / 2, middle + side * (_RUNWAY - 1.5), (length - 2, 0.5), _WHITE)
    site.paint(np.arange(u0 + 62, u1 - 58, 34.0), middle, (10.0, 0.55), _WHITE)
    for end, ahead in ((u0, 1), (u1, -1)):
        bars = middle + np.array([-16.0, -11.8, -7.6, -3.4, 3.4, 7.6, 11.8, 16.0])
        site.paint(np.full(8, end + ahead * 21), bars, (15.0, 1.05), _WHITE)
        site.paint(np.full(2, end + ahead * 120), middle + np.array([-8.5, 8.5]), (14, 2), _WHITE)
        for k in range(5):  # where the wheels touch down
            at, wide = end + ahead * (100 + 22 * k), 1.1 + 0.4 * (k % 2)
            site.paint([at, at], middle + np.array([-3.2, 3.2]), (40, wide), _RUBBER, 0.16)
    heading = site.cell.angle + (math.pi if site.sketch.rng.random() < 0.5 else 0)
    places = site.at(np.linspace(u0 + 45, u1 - 45, 4), middle)
    site.sketch.park(places, heading, Kind.REGIONAL, Material.TARMAC, 0.2, 12.0)


def _taxiways(site: _Site, run: _Span, middle: float, taxi: float) -> None:
    """One beside the runway, with ways to it and to the apron, and their yellow lines."""
    along = site.run((taxi - _TAXIWAY, taxi + _TAXIWAY))
    u0, u1 = max(run[0], along[0]), min(run[1], along[1])
    site.lay((u0, u1), (taxi - _TAXIWAY, taxi + _TAXIWAY), Material.TARMAC, 150)
    ways = np.array([u0 + 9, u0 + 0.36 * (u1 - u0), u0 + 0.64 * (u1 - u0), u1 - 9])
    inner = middle + _RUNWAY - 1
    for u in ways:
        site.lay((u - 9, u + 9), (inner, taxi), Material.TARMAC, 150)
    for u in (ways[1] - 60, ways[2] + 60):
        site.lay((u - 11, u + 11), (taxi, taxi + _TAXIWAY + 6), Material.TARMAC, 150)
    site.paint(np.arange(u0 + 12, u1 - 10, 4.0), taxi, (2.1, 0.45), _YELLOW)
    for u in ways:
        v = np.arange(inner + 3, taxi - 2, 2.0)
        site.paint(np.full(len(v), u), v, (0.45, 1.05), _YELLOW)
        site.paint([u, u], [inner + 10, inner + 12], (8.0, 0.4), _YELLOW)  # hold here


def _apron(site: _Site, along: _Span, across: _Span) -> None:
    """Concrete with a row of stands before the terminal, and one end for small aeroplanes."""
    rng, sketch = site.sketch.rng, site.sketch
    (u0, u1), (v0, v1) = along, across
    site.lay(along, (v0 - 4, v1), Material.APRON)
    for u in np.arange(u0, u1, 10.0):
        site.paint(u, (v0 + v1) / 2, (0.3, (v1 - v0) / 2 - 1), _JOINT, 0.25, Material.APRON)
    for v in np.arange(v0 + 5, v1, 10.0):
        site.paint((u0 + u1) / 2, v, ((u1 - u0) / 2 - 1, 0.3), _JOINT, 0.25, Material.APRON)

    small = u0 + rng.uniform(0.2, 0.32) * (u1 - u0)
    large = small + rng.uniform(0.5, 0.7) * (u1 - small)
    rows = (
        (Kind.AIRLINER, (small + 6, large), 57.0, 32.0, 0.0),
        (Kind.REGIONAL, (large, u1), 48.0, 27.0, rng.uniform(-0.55, 0.55)),
    )
    for kind, (start, end), wide, half, lean in rows:
        u = np.arange(start + wide / 2, end - wide / 2 + 1, wide)
        v = np.full(len(u), v1 - 5 - half)
        site.paint(u, v, (half - 2, 0.4), _YELLOW, 0.8, Material.APRON, _ACROSS + lean)
        edges = np.append(u - wide / 2, u[-1:] + wide / 2)
        between = np.full(len(edges), v1 - 5 - half)
        site.paint(edges, between, (half - 2, 0.35), _RED, 0.6, Material.APRON, _ACROSS + lean)
        heading = site.inwards + lean
        sketch.park(site.at(u, v), heading, kind, Material.APRON, 0.8, 1.5)
        # What serves the aeroplanes stands between their noses.
        noses, rim = np.append(u - wide / 2 + 4, u + wide / 2 - 4), np.full(2 * len(u), v1 - 8.0)
        for serves, back, taken in ((Kind.TRUCK, 4.0, 0.35), (Kind.CAR, 0.0, 0.4)):
            places = site.at(noses, rim - back)
            sketch.park(places, site.inwards, serves, Material.APRON, taken, 2.0)
    lane = np.arange(small + 30, u1 - 30, 68.0)
    turned = site.cell.angle + np.where(rng.random(len(lane)) < 0.5, 0, math.pi)
    kind = Kind.AIRLINER if rng.random() < 0.5 else Kind.REGIONAL
    taxiing = site.at(lane, np.full(len(lane), v0 + 23.0))
    sketch.park(taxiing, turned, kind, Material.APRON, 0.22, 6.0)
    for v in np.arange(v1 - 18, v0 + 30, -34.0):
        u = np.arange(u0 + 16, small - 12, 29.0)
        lean = site.inwards + rng.uniform(-0.6, 0.6)
        at = site.at(u, np.full(len(u), v))
        sketch.park(at, lean, Kind.BUSINESS, Material.APRON, 0.65, 1.5)
    site.paint(np.arange(u0 + 4, u1 - 4, 4.0), v0 + 23, (2.1, 0.45), _YELLOW, 0.7, Material.APRON)


def _terminal(site: _Site, apron: _Span, edge: float) -> None:
    """A service road, the terminal with its wings and tower, hangars, and the car park behind."""
    rng, sketch, cell = site.sketch.rng, site.sketch, site.cell
    u0, u1 = apron
    length = u1 - u0
    site.lay(apron, (edge, edge + 9), Material.LOT, 150)
    at = site.at(np.arange(u0 + 10, u1 - 10, 22.0), edge + 4.5)
    for kind, taken in ((Kind.TRUCK, 0.3), (Kind.CAR, 0.3)):
        sketch.park(at, cell.angle, kind, Material.LOT, taken, 5.0)
    site.lay(apron, (edge + 9, edge + 44), Material.YARD, 150)

    def stand(u: float, v: float, half: tuple[float, float], height: float, roof: Roof) -> None:
        box = site.boxes(u, v, half)
        colors = _HANGARS if roof == Roof.GABLE else _ROOFS
        shape = np.array([roof])
        sketch.build(cell, box, np.array([height]), shape, colors, growth=0.05, kept=0.95)

    hall = u0 + rng.uniform(0.5, 0.62) * length
    wing = 0.1 * length
    stand(hall, edge + 26, (0.12 * length, 14.5), 15.0, Roof.FLAT)
    for side in (-1, 1):
        stand(hall + side * (0.13 * length + wing), edge + 20, (wing, 8.0), 10.0, Roof.FLAT)
    stand(hall + 0.12 * length + 14, edge + 37, (4.0, 4.0), 27.0, Roof.FLAT)
    for k in range(3):
        stand(u0 + 26 + 44 * k, edge + 26, (19.0, 14.0), 9.0, Roof.GABLE)

    site.lay(apron, (edge + 46, edge + 54), Material.ROAD, 120)
    site.lay((u0 + 20, u1 - 20), (edge + 57, edge + 92), Material.LOT, 120)
    bays = np.arange(u0 + 24, u1 - 24, 3.7)
    for v, turn in ((edge + 61, 1), (edge + 78, -1), (edge + 86, 1)):
        places = site.at(bays, np.full(len(bays), v))
        site.paint(bays + 1.85, np.full(len(bays), v), (0.22, 3.2), _WHITE, 0.6, Material.LOT)
        heading = site.inwards + (0 if turn > 0 else math.pi)
        sketch.park(places, heading, Kind.CAR, Material.LOT, 0.55, 0.3)
