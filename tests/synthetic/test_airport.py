"""Aeroplanes in their boxes, airports and harbours on their ground."""

import dataclasses
import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from cgeartheye.synthetic import DATES, OBJECTS, SCENES, World
from cgeartheye.synthetic.ground import Ground
from cgeartheye.synthetic.materials import Material
from cgeartheye.synthetic.objects import Kind, Movables, Slots, draw_movables, occupy
from cgeartheye.synthetic.shapes import Boxes, pixels_of

AEROPLANE = OBJECTS.index("aeroplane")
KINDS = (Kind.AIRLINER, Kind.REGIONAL, Kind.BUSINESS)


def one_on_concrete(kind: Kind, angle: float, seed: int) -> tuple[Ground, Movables]:
    """A single aeroplane, in the middle of an apron of 100 pixels a side."""
    ground = Ground.blank(100)
    ground.cover(np.arange(100 * 100), Material.APRON)
    slot = Slots(np.full((1, 2), 50.0), np.full(1, angle), kind, Material.APRON, 1.0, 1.0)
    movables = occupy([slot], ground.material, np.random.default_rng(seed))
    draw_movables(ground, movables)
    return ground, movables


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(KINDS), st.floats(-4, 4), st.integers(0, 99))
def test_the_box_is_the_smallest_rectangle_around_what_is_painted(
    kind: Kind, angle: float, seed: int
) -> None:
    ground, movables = one_on_concrete(kind, angle, seed)
    (corners,) = movables.boxes.corners()
    length, span = np.linalg.norm(corners[1] - corners[2]), np.linalg.norm(corners[0] - corners[1])
    assert length > 1.08 * span  # the longer side of the rectangle is the heading
    row, column = np.nonzero(ground.paint[..., 3])
    painted = np.stack([column, row], 1) + 0.5  # a pixel's centre is half a pixel off its edge
    box = shapely.Polygon(corners).buffer(0.5 + 1e-5, join_style="mitre")
    assert box.covers(shapely.MultiPoint(painted))
    for start, end in zip(corners, np.roll(corners, -1, 0), strict=True):
        side = shapely.LineString([start, end])
        assert shapely.distance(side, shapely.points(painted)).min() < 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("angle", np.arange(0, 6.28, 0.7))
def test_the_heading_points_from_the_fin_to_the_nose(kind: Kind, angle: float) -> None:
    ground, movables = one_on_concrete(kind, angle, 3)
    front = movables.boxes.corners()[0, :2].mean(0)
    height = ground.height.astype(float)
    row, column = np.nonzero(height == height.max())  # the fin is the highest part
    fin = np.array([column.mean(), row.mean()]) + 0.5
    center = movables.boxes.center[0]
    away = (center - fin) / np.linalg.norm(center - fin)
    assert away @ (front - center) > 0.97 * np.linalg.norm(front - center)


def test_aeroplanes_stand_at_airports_and_ships_lie_in_harbours(world: World) -> None:
    for date in DATES:
        objects = world.boxes(date)
        column, row = objects.corners.mean(1).astype(int).T
        where = world.scene[row, column]
        aeroplanes = objects.labels == AEROPLANE
        assert aeroplanes.sum() >= 8
        assert (where[aeroplanes] == SCENES.index("airport")).all()
        ships = objects.labels == OBJECTS.index("ship")
        assert (where[ships] == SCENES.index("harbour")).sum() >= 5
        kinds = world.movables[date - 1].kind
        assert set(KINDS) <= set(kinds.tolist())


def test_a_runway_is_long_straight_and_of_one_width(world: World) -> None:
    tarmac = world.land.material == Material.TARMAC
    assert (world.scene[tarmac] == SCENES.index("airport")).all()
    row, column = np.nonzero(tarmac)
    places = shapely.MultiPoint(np.stack([column, row], 1) + 0.5)
    corners = shapely.get_coordinates(places.minimum_rotated_rectangle)
    sides = np.sort(np.linalg.norm(np.diff(corners, axis=0), axis=1))
    assert sides[-1] > 480  # pixels
    # The runway's 44 pixels, the taxiway's 16 and the grass of 22 between them.
    assert sides[0] == pytest.approx(44 + 22 + 16, abs=9)


def test_aeroplanes_brighten_their_boxes_and_throw_shadows_beyond(world: World) -> None:
    first = world.movables[0]
    planes = np.isin(first.kind, KINDS)
    without = dataclasses.replace(world, movables=(first[~planes], world.movables[1]))
    change = world.image("winter").astype(int).sum(-1) - without.image("winter").astype(int).sum(-1)
    own = np.zeros(world.size**2, bool)
    own[pixels_of(first.boxes[planes], world.size, 1.8).index] = True  # the optics blur
    brighter, darker = (change > 60).ravel(), (change < -60).ravel()
    assert brighter.sum() > 1000
    assert not (brighter & ~own).any()
    shade = np.flatnonzero(darker & ~own)
    assert len(shade) > 100
    near = np.zeros(world.size**2, bool)
    # No aeroplane is higher than 11 m, no winter sun lower than 26 degrees.
    reach = 11 / math.tan(math.radians(26)) / 0.75 + 1.5
    near[pixels_of(Boxes.concatenate([first.boxes[planes]]), world.size, reach).index] = True
    assert near[shade].all()
