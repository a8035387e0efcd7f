"""Chips of the synthetic world, their boxes against the world's and a brute-force measure."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from faster_coco_eval import COCO
from PIL import Image

from cgeartheye.synthetic import OBJECTS, Objects, World, objects_in, split, write_detection_chips
from cgeartheye.utils.errors import UserError

CLASSES = ("ship", "aeroplane")


@pytest.fixture(scope="module")
def squares(world: World) -> tuple[list, list]:
    return split(world.size, 128, test_side=256, held_out="north")


@pytest.fixture(scope="module")
def folder(world: World, squares: tuple[list, list], tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("chips")
    learned, tested = squares
    count = write_detection_chips(world, folder, "trainval", learned, ("summer", "winter"))
    assert count > 500
    write_detection_chips(world, folder, "test", tested, ("autumn",), dates=(2,), classes=CLASSES)
    return folder


@pytest.mark.parametrize("held_out", ["east", "north"])
@pytest.mark.parametrize(("size", "side", "test_side"), [(900, 70, None), (768, 96, 256)])
def test_chips_share_no_pixel_and_a_third_is_held_out(held_out, size, side, test_side) -> None:
    learned, tested = split(size, side, test_side, held_out)
    for part, wanted in ((learned, side), (tested, test_side or side)):
        assert {(right - left, bottom - top) for left, top, right, bottom in part} == {
            (wanted, wanted)
        }
    count = np.zeros((size, size), int)
    for left, top, right, bottom in learned + tested:
        assert min(left, top) >= 0
        assert max(right, bottom) <= size
        count[top:bottom, left:right] += 1
    assert count.max() == 1
    tests = np.array(tested)
    if held_out == "east":
        assert tests[:, 0].min() >= size * 2 / 3 > np.array(learned)[:, 2].max() - 1
    else:
        assert tests[:, 3].max() <= size / 3 < np.array(learned)[:, 1].min() + 1
    assert count.mean() > 0.8


def seen_shares(objects: Objects, square: tuple[int, int, int, int]) -> np.ndarray:
    """The share of each box within a square, counted on a fine grid of places in the box."""
    steps = (np.arange(60) + 0.5) / 60
    along, across = np.meshgrid(steps, steps)
    corners = objects.corners[:, :, None, None]
    places = (
        corners[:, 0]
        + along[..., None] * (corners[:, 3] - corners[:, 0])
        + across[..., None] * (corners[:, 1] - corners[:, 0])
    )
    left, top, right, bottom = square
    inside = (places >= (left, top)) & (places <= (right, bottom))
    return inside.all(-1).mean((1, 2))


def test_a_chip_has_the_objects_that_it_shows_by_half(world: World) -> None:
    everything = world.boxes()
    cut = 0
    large = np.flatnonzero(everything.labels == OBJECTS.index("aeroplane"))
    for number, (x, y) in enumerate(everything.corners[large].mean(1).astype(int)):
        # The left border runs through an aeroplane, now on this side of its middle, now on that.
        square = (int(x) + 4 * (-1) ** number, int(y) - 60, int(x) + 100, int(y) + 40)
        found = objects_in(everything, square)
        near = np.linalg.norm(everything.corners.mean(1) - (x, y), axis=1) < 250
        objects = everything.select(near)
        shares = seen_shares(objects, square)
        cut += int(((shares > 0.02) & (shares < 0.98)).sum())
        moved = found.corners + square[:2]
        kept = np.array(
            [(np.abs(moved - corners) < 1e-9).all((1, 2)).any() for corners in objects.corners]
        )
        assert kept[shares > 0.53].all()
        assert not kept[shares < 0.47].any()
        assert kept.sum() == len(found.labels) == len(found.horizontal)
        assert np.allclose(found.horizontal[:, :2], found.corners.min(1))
        assert np.allclose(found.horizontal[:, 2:], found.corners.max(1))
    assert cut > 5


def corners_of(path: Path) -> tuple[list[str], np.ndarray]:
    names, corners = [], []
    for thing in ElementTree.parse(path).getroot().iter("object"):
        names.append(thing.findtext("name"))
        box = thing.find("robndbox")
        corners.append(
            [
                [float(box.findtext(f"{axis}_{corner}")) for axis in "xy"]
                for corner in ("left_top", "right_top", "right_bottom", "left_bottom")
            ]
        )
    return names, np.reshape(corners, (-1, 4, 2))


def test_files_hold_the_world_s_boxes_shifted(
    world: World, squares: tuple[list, list], folder: Path
) -> None:
    parts = (
        ("trainval", squares[0], ("summer", "winter"), 1, OBJECTS),
        ("test", squares[1], ("autumn",), 2, CLASSES),
    )
    for part, places, seasons, date, classes in parts:
        pictures = {season: world.image(season, date) for season in seasons}
        objects = world.boxes(date)
        coco = json.loads((folder / "Annotations" / f"{part}.json").read_text())
        assert [(c["id"], c["name"]) for c in coco["categories"]] == list(enumerate(classes, 1))
        ids = [annotation["id"] for annotation in coco["annotations"]]
        assert len(set(ids)) == len(ids) > 20
        assert len(coco["images"]) == len(places) == len(list((folder / "images" / part).iterdir()))
        for number, (image, square) in enumerate(zip(coco["images"], places, strict=True)):
            left, top, right, bottom = square
            path = folder / "images" / part / image["file_name"]
            with Image.open(path) as picture:
                pixels = np.asarray(picture)
            assert pixels.shape[:2] == (image["height"], image["width"])
            season = seasons[number % len(seasons)]
            assert np.array_equal(pixels, pictures[season][top:bottom, left:right])

            named = [OBJECTS[label] in classes for label in objects.labels]
            expected = objects_in(objects.select(np.array(named)), square)
            xml = folder / "Annotations" / "Oriented Bounding Boxes" / f"{path.stem}.xml"
            names, corners = corners_of(xml)
            assert names == [OBJECTS[label] for label in expected.labels]
            assert np.allclose(corners, expected.corners, rtol=0, atol=1e-3)
            own = [a for a in coco["annotations"] if a["image_id"] == image["id"]]
            assert [classes[a["category_id"] - 1] for a in own] == names
            for annotation, quad in zip(own, expected.corners, strict=True):
                outline = np.reshape(annotation["segmentation"], (4, 2))
                assert np.allclose(outline, quad, rtol=0, atol=1e-3)
                x, y, width, height = annotation["bbox"]
                low, high = np.maximum(quad.min(0), 0), np.minimum(quad.max(0), pixels.shape[1::-1])
                assert np.allclose((x, y, x + width, y + height), (*low, *high), atol=2e-3)
                assert annotation["area"] == pytest.approx(width * height, abs=1e-2)


def test_annotations_are_read_by_the_field_s_own_tool(folder: Path) -> None:
    coco = COCO(str(folder / "Annotations" / "test.json"))
    names = [category["name"] for category in coco.loadCats(coco.getCatIds())]
    assert names == list(CLASSES)
    for name, number in zip(names, coco.getCatIds(), strict=True):
        assert len(coco.getAnnIds(catIds=[number])) > 3, name


def test_both_parts_show_ships_and_aeroplanes(folder: Path) -> None:
    for part in ("trainval", "test"):
        coco = json.loads((folder / "Annotations" / f"{part}.json").read_text())
        number = {category["name"]: category["id"] for category in coco["categories"]}
        for name in CLASSES:
            assert any(a["category_id"] == number[name] for a in coco["annotations"]), (part, name)


def test_a_class_that_is_not_drawn_is_reported(world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="airplane"):
        write_detection_chips(world, tmp_path, "test", [], classes=("ship", "airplane"))
