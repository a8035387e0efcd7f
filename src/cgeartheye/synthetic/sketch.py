"""The sketch of a world: its bare ground, and lists of what is to stand and move on it."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cgeartheye.synthetic.ground import Ground, Reals, fractal
from cgeartheye.synthetic.layout import Cell, Plan
from cgeartheye.synthetic.materials import Material
from cgeartheye.synthetic.objects import Buildings, Kind, Slots
from cgeartheye.synthetic.shapes import Bools, Boxes, Floats, Ints


@dataclass(eq=False)
class Sketch:
    """State of a world while its parts are drawn one after the other.

    Attributes:
        plan: the layout of the world.
        ground: drawn on by every part.
        rng: what every part draws its chance from.
        hills: float32 `[H, W]`, about -2..2: patches of some hundred metres.
        patches: the same, of some ten metres.
        buildings: wished for; those that would stand on a road or in the water are left out.
        crowns: single trees, wished for in the same way: their boxes, and which are conifers.
        slots: places for vehicles, ships and aeroplanes.
    """

    plan: Plan
    ground: Ground
    rng: np.random.Generator
    hills: Reals
    patches: Reals
    buildings: list[Buildings] = field(default_factory=list)
    crowns: list[tuple[Boxes, Bools]] = field(default_factory=list)
    slots: list[Slots] = field(default_factory=list)

    @classmethod
    def start(cls, plan: Plan, rng: np.random.Generator) -> "Sketch":
        """An empty plain for a plan."""
        hills, patches = fractal(rng, plan.size, 140), fractal(rng, plan.size, 28)
        return cls(plan, Ground.blank(plan.size), rng, hills, patches)

    def tints(self, index: Ints) -> Reals:
        """Tints that vary over the land, for `[P]` places in the flattened world."""
        hills, patches = self.hills.ravel()[index], self.patches.ravel()[index]
        return np.asarray(128 + 42 * hills + 22 * patches)

    def own(self, cell: Cell, index: Ints) -> Ints:
        """Those of `[P]` places in the flattened world that belong to a cell."""
        return np.asarray(index[self.plan.owner.ravel()[index] == cell.number])

    def local(self, cell: Cell, index: Ints) -> tuple[Floats, Floats]:
        """Pixels along and across a cell's heading, of `[P]` places in the flattened world."""
        row, column = np.divmod(index, self.plan.size)
        u, v = cell.to_local(np.stack([column + 0.5, row + 0.5], 1)).T
        return u, v

    def plant(self, at: Floats, radius: tuple[float, float], conifers: float) -> None:
        """Plan trees at some places.

        Args:
            at: centers, `[N, 2]` pixels.
            radius: range in pixels.
            conifers: share of them, 0..1.
        """
        radii = self.rng.uniform(*radius, len(at))
        crowns = Boxes.of(at, np.repeat(radii[:, None], 2, 1), np.zeros(len(at)))
        self.crowns.append((crowns, self.rng.random(len(at)) < conifers))

    def build(
        self,
        cell: Cell,
        boxes: Boxes,
        height: Floats,
        roof: Ints,
        colors: Ints,
        growth: float = 0.08,
        kept: float = 0.9,
    ) -> None:
        """Wish for buildings wholly inside a cell; some stand at one of the dates only.

        Args:
            cell: that must contain them.
            boxes: their footprints.
            height: `[N]` metres, of the eaves.
            roof: `[N]` values of `Roof`.
            colors: `[K, 3]` to choose from.
            growth: the share that is built between the dates.
            kept: the share of the others that still stands at date 2.
        """
        size = self.plan.size
        column, row = np.clip(boxes.corners().astype(np.intp), 0, size - 1).transpose(2, 0, 1)
        inside = np.asarray((self.plan.owner[row, column] == cell.number).all(1))
        rng, count = self.rng, int(inside.sum())
        built = rng.random(count) < growth
        gone = ~built & (rng.random(count) > kept)
        color = rng.choice(colors, count) * rng.uniform(0.9, 1.1, (count, 1))
        present = np.stack([~built, ~gone])
        self.buildings.append(
            Buildings(
                boxes[inside], height[inside], roof[inside], color.astype(np.float32), present
            )
        )

    def park(
        self,
        at: Floats,
        heading: npt.ArrayLike,
        kind: Kind,
        on: Material,
        taken: float,
        stray: float,
    ) -> None:
        """Offer places to objects; see `Slots`.

        Args:
            at: places, `[N, 2]` pixels.
            heading: radians, `[N]` or one for all.
            kind: of the objects that may stand there.
            on: material they must be on.
            taken: share of the places that are filled, 0..1.
            stray: pixels along the heading by which an object is off its place, at most.
        """
        angle = np.broadcast_to(np.asarray(heading, float), len(at))
        self.slots.append(Slots(at, angle, kind, on, taken, stray))

    def scatter(self, cell: Cell, spacing: float, above: float) -> Floats:
        """Return random places in a cell, `[N, 2]` pixels.

        Args:
            cell: in which the places are.
            spacing: pixels; there is one place in its square.
            above: value of `hills` that a place must exceed.
        """
        count = max(1, int(len(cell.pixels) / spacing**2))
        index = self.rng.choice(cell.pixels, count)
        index = index[self.hills.ravel()[index] > above]
        row, column = np.divmod(index, self.plan.size)
        return np.stack([column, row], 1) + self.rng.random((len(index), 2))
