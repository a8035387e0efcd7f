"""The synthetic world: labels against shapely and rasterio, pictures against the sun's geometry."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from rasterio.warp import transform_geom

from cgeartheye.synthetic import (
    DATES,
    GSD,
    LAND_COVER,
    OBJECTS,
    SCENES,
    SEASONS,
    World,
    make_world,
    write_world,
)
from cgeartheye.synthetic.ground import Ground, polygon
from cgeartheye.synthetic.layout import make_plan
from cgeartheye.synthetic.materials import Material
from cgeartheye.synthetic.objects import Buildings, Roof, draw_buildings
from cgeartheye.synthetic.render import Light, render
from cgeartheye.synthetic.shapes import Boxes, pixels_of, places_along, stand_apart, stand_on
from cgeartheye.utils.errors import UserError

BUILDING = LAND_COVER.index("building")
TANK = OBJECTS.index("storage tank")


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(world, folder)
    return folder


def burnt(shapes: list[shapely.Geometry], size: int) -> np.ndarray:
    """GDAL's own rasterisation of shapes in pixel coordinates, bool `[size, size]`."""
    if not shapes:
        return np.zeros((size, size), bool)
    return rasterize(shapes, (size, size)).astype(bool)


def roofs(world: World, date: int) -> np.ndarray:
    """The places of roofs, from the boxes alone: rectangles, and circles in the tanks' squares."""
    objects = world.boxes(date)
    shapes = []
    for label, corners in zip(objects.labels, objects.corners, strict=True):
        if label == OBJECTS.index("building"):
            shapes.append(shapely.Polygon(corners))
        elif label == TANK:
            radius = np.linalg.norm(corners[0] - corners[1]) / 2
            shapes.append(shapely.Point(corners.mean(0)).buffer(radius, quad_segs=256))
    return burnt(shapes, world.size)


# --- The world as a whole ---


def test_the_same_seed_gives_the_same_bytes_and_another_another_world(tmp_path: Path) -> None:
    worlds = {part: make_world(768, seed=5) for part in ("a", "b")}
    for part, world in worlds.items():
        write_world(world, tmp_path / part)
    files = sorted(path for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 5 + 2 + 2 + 2
    for path in files:
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == other.read_bytes(), path.name
    one, another = worlds["a"], make_world(768, seed=6)
    assert (another.scene != one.scene).mean() > 0.3
    assert (another.land_cover() != one.land_cover()).mean() > 0.3


def test_every_class_of_land_cover_and_object_occurs(world: World) -> None:
    for date in DATES:
        cover = np.bincount(world.land_cover(date).ravel(), minlength=256)
        assert cover[: len(LAND_COVER)].min() > 0.005 * world.size**2
        assert cover[len(LAND_COVER) :].sum() == 0
        objects = np.bincount(world.boxes(date).labels, minlength=len(OBJECTS))
        assert objects.min() >= 3


@pytest.mark.parametrize("seed", range(4))
def test_large_worlds_have_chips_of_every_scene(world: World, seed: int) -> None:
    plan = make_plan(3072, np.random.default_rng(seed))
    chips = dataclasses.replace(world, scene=plan.scene).chips(128)
    counts = np.bincount([scene for *_, scene in chips], minlength=len(SCENES))
    assert counts.min() >= 20, dict(zip(SCENES, counts, strict=True))
    assert counts.sum() > 0.6 * (3072 // 128) ** 2
    third = 3072 / 3
    northern = [cell.outline[:, 1].max() < third + 60 for cell in plan.of_scene("airport")]
    assert sorted(northern) == [False, True]  # whichever third is tested, aeroplanes are in both


def test_cells_that_are_bent_out_of_the_world_are_left_out() -> None:
    plan = make_plan(2048, np.random.default_rng(3))  # has one
    assert min(len(cell.pixels) for cell in plan.cells) > 0
    assert [cell.number for cell in plan.cells] == list(range(len(plan.cells)))
    owners = np.unique(plan.owner)
    assert set(owners.tolist()) <= {-1, *(cell.number for cell in plan.cells)}


def test_chips_are_the_squares_that_one_scene_fills(world: World) -> None:
    chip, share = 160, 0.8
    expected = []
    for row in range(0, world.size - chip + 1, chip):
        for column in range(0, world.size - chip + 1, chip):
            scenes = world.scene[row : row + chip, column : column + chip]
            values, counts = np.unique(scenes, return_counts=True)
            if counts.max() >= share * chip**2:
                expected.append((row, column, int(values[counts.argmax()])))
    assert world.chips(chip, share) == expected
    assert 10 < len(expected) < (world.size // chip) ** 2


def test_scenes_hold_what_their_names_say(world: World) -> None:
    cover = world.land_cover()
    dominant = {
        "airport": ("paved", "grass"),
        "bare land": ("bare",),
        "farmland": ("field",),
        "forest": ("tree",),
        "lake": ("water",),
        "meadow": ("grass",),
        "parking": ("paved",),
        "river": ("water", "grass"),
        "harbour": ("paved", "water"),
        "industrial": ("paved", "building"),
    }
    for scene, covers in dominant.items():
        there = cover[world.scene == SCENES.index(scene)]
        wanted = np.isin(there, [LAND_COVER.index(name) for name in covers])
        assert wanted.mean() > 0.55, scene
    homes = world.scene == SCENES.index("residential")
    assert (cover[homes] == BUILDING).mean() > 0.05
    motorway = world.ground().material == Material.MOTORWAY
    assert (world.scene[motorway] == SCENES.index("highway")).all()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda world: make_world(500),
        lambda world: make_world(1024, seed=-1),
        lambda world: world.image("sumer"),
        lambda world: world.image("summer", 3),
        lambda world: world.land_cover(0),
        lambda world: world.boxes(0),
    ],
)
def test_what_cannot_be_asked_for(world: World, wrong) -> None:
    with pytest.raises(UserError):
        wrong(world)


def test_a_misspelt_season_gets_the_nearest_name(world: World) -> None:
    with pytest.raises(UserError, match="did you mean 'summer'"):
        world.image("sumer")


# --- Labels ---


@pytest.mark.parametrize("date", DATES)
def test_buildings_are_drawn_where_the_boxes_say(world: World, date: int) -> None:
    drawn = world.land_cover(date) == BUILDING
    expected = roofs(world, date)
    assert expected.sum() > 0.01 * world.size**2
    # A pixel whose centre is on an edge to the last digit may fall either way.
    assert (drawn != expected).sum() <= 3


def test_change_is_where_one_date_has_a_roof(world: World) -> None:
    change = world.change()
    first, second = (world.land_cover(date) == BUILDING for date in DATES)
    assert change.dtype == np.uint8
    assert np.array_equal(change, first ^ second)
    assert (change.astype(bool) != roofs(world, 1) ^ roofs(world, 2)).sum() <= 6
    assert (change.astype(bool) & first).sum() > 1000  # torn down
    assert (change.astype(bool) & second).sum() > 1000  # built
    assert change.mean() < 0.1


def test_what_is_no_change_of_buildings_stays_the_same_cover(world: World) -> None:
    same = world.change() == 0
    assert np.array_equal(world.land_cover(1)[same], world.land_cover(2)[same])
    # ... although crops rotate and vehicles move.
    materials = [world.ground(date).material for date in DATES]
    fields = world.land_cover() == LAND_COVER.index("field")
    assert (materials[0] != materials[1])[fields].all()
    moved = {tuple(center) for center in world.movables[0].boxes.center.round(3)}
    stayed = moved & {tuple(center) for center in world.movables[1].boxes.center.round(3)}
    assert len(stayed) < 0.01 * len(moved)


@pytest.mark.parametrize("date", DATES)
def test_boxes_are_rectangles_inside_the_world_that_do_not_overlap(world: World, date: int) -> None:
    objects = world.boxes(date)
    shapes = [shapely.Polygon(corners) for corners in objects.corners]
    assert len(objects.labels) == len(objects.horizontal) == len(shapes) > 500
    bounds = np.array([shape.bounds for shape in shapes])
    assert np.allclose(bounds, objects.horizontal, rtol=0, atol=1e-9)
    assert bounds.min() >= 0
    assert bounds.max() <= world.size
    rectangles = shapely.minimum_rotated_rectangle(shapes)
    assert np.allclose(shapely.area(rectangles), shapely.area(shapes), rtol=1e-6)
    touching = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    assert np.array_equal(touching[0], touching[1])  # each box touches only itself


def test_movables_stand_on_what_carries_them(world: World) -> None:
    cover, objects = world.land_cover(), world.boxes()
    carriers = {
        "aeroplane": ("paved",),
        "ship": ("water",),
        "vehicle": ("road", "paved", "bare"),
    }
    for name, covers in carriers.items():
        chosen = objects.labels == OBJECTS.index(name)
        shapes = [shapely.Polygon(corners) for corners in objects.corners[chosen]]
        below = cover[burnt(shapes, world.size)]
        assert np.isin(below, [LAND_COVER.index(c) for c in covers]).all()


def test_boxes_of_movables_fit_within_a_pixel(world: World) -> None:
    """The paint of moving objects reaches the sides of their boxes, and no further."""
    nothing = world.movables[0][np.zeros(len(world.movables[0].kind), bool)]
    empty = dataclasses.replace(world, movables=(nothing, nothing))
    difference = (world.ground().paint != empty.ground().paint).any(-1)
    movables = world.movables[0]
    claimed = np.zeros_like(difference)
    for angle, center, half in zip(
        movables.boxes.angle, movables.boxes.center, movables.boxes.half, strict=True
    ):
        ahead = np.array([math.cos(angle), math.sin(angle)])
        low = np.maximum(np.floor(center - np.abs(half).sum() - 2), 0).astype(int)
        high = np.minimum(center + np.abs(half).sum() + 2, world.size).astype(int)
        rows, columns = np.mgrid[low[1] : high[1], low[0] : high[0]]
        offset = np.stack([columns + 0.5, rows + 0.5], -1) - center
        u, v = offset @ ahead, offset @ np.array([-ahead[1], ahead[0]])
        near = (np.abs(u) <= half[0] + 0.71) & (np.abs(v) <= half[1] + 0.71)
        claimed[rows[near], columns[near]] = True
        own = near & difference[rows, columns]
        for place, reach in ((u[own], half[0]), (v[own], half[1])):
            assert place.max() > reach - 1
            assert place.min() < -reach + 1
    assert not (difference & ~claimed).any()


@pytest.mark.parametrize("season", ["summer", "winter"])
def test_objects_can_be_seen(world: World, season: str) -> None:
    """Without all that moves the picture differs inside nearly all of their boxes."""
    nothing = world.movables[0][np.zeros(len(world.movables[0].kind), bool)]
    empty = dataclasses.replace(world, movables=(nothing, nothing))
    difference = np.abs(world.image(season).astype(int) - empty.image(season)).max(-1)
    pixels = pixels_of(world.movables[0].boxes, world.size)
    count = np.bincount(pixels.box)
    seen = np.bincount(pixels.box, difference.ravel()[pixels.index]) / count
    assert (seen > 8).mean() > 0.97
    assert np.median(seen) > 25


# --- Pictures ---


def greenness(image: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(image.astype(float), -1, 0)
    return (2 * green - red - blue) / (red + green + blue)


def test_seasons_colour_the_vegetation_and_nothing_else(world: World) -> None:
    images = {season: world.image(season) for season in SEASONS}
    cover, material = world.land_cover(), world.ground().material
    green = {season: greenness(image) for season, image in images.items()}
    grass = cover == LAND_COVER.index("grass")
    broadleaf, conifer = material == Material.BROADLEAF, material == Material.CONIFER

    def mean(where: np.ndarray) -> dict[str, float]:
        return {season: float(green[season][where].mean()) for season in SEASONS}

    for plants in (grass, broadleaf):
        of = mean(plants)
        assert min(of["spring"], of["summer"]) > max(of["autumn"], of["winter"]) + 0.05
    assert images["autumn"][broadleaf][:, 0].mean() > images["autumn"][broadleaf][:, 1].mean()
    assert mean(conifer)["winter"] > mean(broadleaf)["winter"] + 0.06
    paved = mean(cover == LAND_COVER.index("paved"))
    assert max(paved.values()) - min(paved.values()) < 0.06


def test_the_picture_has_texture_and_noise_and_uses_its_range(world: World) -> None:
    image = world.image("summer").astype(float)
    assert image.min() < 40
    assert image.max() > 215
    steps = np.abs(np.diff(image, axis=1)).mean(-1)
    for name in LAND_COVER:
        there = (world.land_cover() == LAND_COVER.index(name))[:, 1:]
        assert np.median(steps[there]) >= 1, name


def test_date_2_has_another_light(world: World) -> None:
    first, second = (world.image("autumn", date).astype(float) for date in DATES)
    water = world.land_cover() == LAND_COVER.index("water")
    assert second[water].mean() > first[water].mean() + 5  # haze lifts what is dark


@pytest.mark.parametrize(("azimuth", "elevation"), [(180.0, 35.0), (135.0, 45.0), (90.0, 60.0)])
def test_a_shadow_has_the_length_and_direction_of_the_sun(azimuth: float, elevation: float) -> None:
    size, height = 160, 15.0
    plain, built = Ground.blank(size), Ground.blank(size)
    one = np.ones(1)
    tower = Boxes.of((80, 80), (10, 10), 0.0)
    gray = np.full((1, 3), 128, np.float32)
    building = Buildings(tower, height * one, np.array([Roof.FLAT]), gray, np.ones((2, 1), bool))
    draw_buildings(built, building)
    light = Light(azimuth, elevation, 0.0, (1.0, 1.0, 1.0))
    pictures = [
        render(ground, "summer", light, np.random.default_rng(0)).astype(float).mean(-1)
        for ground in (plain, built)
    ]
    shaded = pictures[1] < 0.75 * pictures[0]
    shaded.ravel()[pixels_of(tower, size).index] = False
    row, column = np.nonzero(shaded)
    # Away from the sun: from north clockwise, rows run south.
    away = -np.array([math.sin(math.radians(azimuth)), -math.cos(math.radians(azimuth))])
    along = (np.stack([column + 0.5, row + 0.5], 1) - 80) @ away
    across = (np.stack([column + 0.5, row + 0.5], 1) - 80) @ np.array([-away[1], away[0]])
    reach = height / math.tan(math.radians(elevation)) / GSD
    corner = 10 * np.abs(away).sum()  # how far the tower itself reaches that way
    # The tower's square, swept along the shadow; its soft rim counts as lit.
    assert shaded.sum() == pytest.approx(20 * reach * np.abs(away).sum(), rel=0.12)
    assert along.max() == pytest.approx(reach + corner, abs=3)  # a corner's tip is blurred away
    assert abs(across.mean()) < 1
    assert along.min() > -corner


# --- Files ---


def test_files_lie_on_the_map_together(world: World, folder: Path) -> None:
    for path in folder.rglob("*.tif"):
        with rasterio.open(path) as file:
            assert file.crs.to_epsg() == 32650
            assert file.res == (GSD, GSD)
            assert file.shape == (world.size, world.size)
            assert (file.bounds.left, file.bounds.top) == (500_000, 4_400_000)
            assert file.profile["tiled"]
            assert file.compression.name == "deflate"


def test_files_hold_the_pixels_of_the_world(world: World, folder: Path) -> None:
    with rasterio.open(folder / "images" / "1_winter.tif") as file:
        assert np.array_equal(np.moveaxis(file.read(), 0, -1), world.image("winter", 1))
        assert [band.name for band in file.colorinterp] == ["red", "green", "blue"]
        assert file.tags()["TIFFTAG_DATETIME"] == "2021:01:18 10:30:00"
    masks = {
        "land_cover_1": (world.land_cover(1), LAND_COVER),
        "land_cover_2": (world.land_cover(2), LAND_COVER),
        "scenes": (world.scene, SCENES),
        "change": (world.change(), ("same", "changed")),
    }
    for name, (mask, classes) in masks.items():
        with rasterio.open(folder / f"{name}.tif") as file:
            assert np.array_equal(file.read(1), mask)
            assert file.nodata == 255
            assert tuple(file.tags()["CLASSES"].split(",")) == classes
            colors = file.colormap(1)
            assert len({colors[value] for value in range(len(classes))}) == len(classes)


def test_objects_on_disk_are_on_the_map_where_the_masks_show_them(
    world: World, folder: Path
) -> None:
    for date in DATES:
        content = json.loads((folder / f"objects_{date}.geojson").read_text())
        assert set(content) == {"type", "features"}  # RFC 7946 knows WGS 84 only
        features = content["features"]
        rings = [shapely.LinearRing(f["geometry"]["coordinates"][0]) for f in features]
        assert all(ring.is_ccw for ring in rings)
        objects = world.boxes(date)
        assert [f["properties"]["class"] for f in features] == [OBJECTS[n] for n in objects.labels]
        corners = np.array([feature["properties"]["corners"] for feature in features])
        horizontal = np.array([feature["properties"]["horizontal"] for feature in features])
        assert np.allclose(corners, objects.corners, rtol=0, atol=1e-3)
        assert np.allclose(horizontal, objects.horizontal, rtol=0, atol=1e-3)
        with rasterio.open(folder / f"land_cover_{date}.tif") as file:
            buildings = [
                transform_geom("OGC:CRS84", file.crs, f["geometry"])
                for f in features
                if f["properties"]["class"] == "building"
            ]
            burnt_in = rasterize(buildings, file.shape, transform=file.transform).astype(bool)
            # Coordinates are rounded to a millimeter.
            assert (file.read(1)[burnt_in] == BUILDING).mean() > 0.999


def test_a_folder_that_cannot_be_made_is_reported(world: World, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="taken"):
        write_world(world, tmp_path / "taken")


# --- Shapes ---

boxes_anywhere = st.lists(
    st.tuples(
        st.floats(-5, 45),
        st.floats(-5, 45),
        st.floats(0.3, 15),
        st.floats(0.3, 8),
        st.floats(-7, 7),
    ),
    min_size=1,
    max_size=5,
).map(lambda rows: Boxes.of(np.array(rows)[:, :2], np.array(rows)[:, 2:4], np.array(rows)[:, 4]))


@settings(deadline=None)
@given(boxes_anywhere, st.floats(0, 2))
def test_pixels_of_boxes_are_those_whose_centre_shapely_finds_inside(
    boxes: Boxes, margin: float
) -> None:
    size = 40
    pixels = pixels_of(boxes, size, margin)
    centers = shapely.points(*(np.mgrid[:size, :size][::-1].reshape(2, -1) + 0.5))
    for n, corners in enumerate(boxes.grown(margin).corners()):
        box = shapely.Polygon(corners)
        found = np.zeros(size * size, bool)
        found[pixels.index[pixels.box == n]] = True
        surely_in = shapely.contains(box.buffer(-1e-6), centers)
        surely_out = ~shapely.contains(box.buffer(1e-6), centers)
        assert not (surely_in & ~found).any()
        assert not (surely_out & found).any()


@settings(deadline=None)
@given(boxes_anywhere)
def test_boxes_that_stand_apart_share_no_pixel_and_the_first_stays(boxes: Boxes) -> None:
    size = 60
    kept = boxes[stand_apart(boxes, size)]
    seen = pixels_of(kept, size, 0.5).index
    assert len(seen) == len(set(seen.tolist()))
    assert len(kept) >= 1
    assert np.array_equal(kept.center[0], boxes.center[0])


def test_stand_on_wants_every_pixel_and_the_whole_box_in_the_world() -> None:
    allowed = np.ones((40, 40), bool)
    allowed[12, 20] = False
    boxes = Boxes.of([(8, 8), (18, 12), (38, 25), (18, 22)], (4, 2), [0, 0, 0, 1])
    assert stand_on(boxes, allowed).tolist() == [True, False, False, True]
    assert stand_on(boxes, allowed, margin=4.5).tolist() == [False, False, False, True]


def test_places_along_a_path_lie_beside_it_at_even_steps() -> None:
    path = np.array([(0.0, 0.0), (30.0, 0.0), (30.0, 40.0)])
    line = shapely.LineString(path)
    at, angle = places_along(path, 4.0, offset=2.0)
    assert len(at) == 17  # 2, 6, ... 66
    distances = shapely.distance(shapely.points(at), line)
    assert np.allclose(distances[np.abs(at - (30, 0)).max(1) > 2.1], 2.0)
    ahead = np.stack([np.cos(angle), np.sin(angle)], 1)
    back_on_path = at - 2.0 * np.stack([-ahead[:, 1], ahead[:, 0]], 1)
    steps = shapely.line_locate_point(line, shapely.points(back_on_path))
    assert np.allclose(np.diff(steps), 4.0)


@given(st.floats(0, 6.3), st.floats(3, 12), st.integers(3, 9))
def test_polygons_hold_the_pixels_that_shapely_finds_inside(
    turn: float, radius: float, corners: int
) -> None:
    angles = turn + np.arange(corners) * 2 * math.pi / corners
    outline = 15.3 + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    found = np.zeros(30 * 30, bool)
    found[polygon(outline, 30)] = True
    centers = shapely.points(*(np.mgrid[:30, :30][::-1].reshape(2, -1) + 0.5))
    shape = shapely.Polygon(outline)
    assert found[shapely.contains(shape.buffer(-1e-6), centers)].all()
    assert not found[~shapely.contains(shape.buffer(1e-6), centers)].any()
