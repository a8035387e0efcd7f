"""Shapes of labelme become masks: against GDAL's rasterizer, shapely, and by hand."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.features import rasterize

from cgeartheye.config import SegmentationData
from cgeartheye.data.checks.segmentation import check_masks
from cgeartheye.data.datasets.segmentation import load_segmentation_parts
from cgeartheye.data.formats.labelme_masks import draw_shapes
from cgeartheye.data.index.segmentation import survey_masks
from cgeartheye.utils.errors import UserError

CLASSES = ("background", "pond", "field")


def shape(label: str, points: Any, kind: str | None = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "flags": {}, **more}


def write(path: Path, shapes: list[Any], size: tuple[int, int] = (40, 30), **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {"version": "5.5.0", "imagePath": "a.png", "imageWidth": size[0], "imageHeight": size[1]}
    path.write_text(json.dumps({**head, "shapes": shapes, **more}))
    return path


def _thousandths(low: int, high: int) -> st.SearchStrategy[float]:
    # shapely's buffer loses area beside coordinates of 1e-200.
    return st.integers(1000 * low, 1000 * high).map(lambda value: value / 1000)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(_thousandths(-5, 45), _thousandths(-5, 35)), min_size=3, max_size=7, unique=True
    )
)
def test_a_polygon_covers_what_gdal_fills(tmp_path_factory, points) -> None:
    polygon = shapely.Polygon(points)
    if not polygon.is_valid or polygon.area < 1:
        return
    path = write(tmp_path_factory.getbasetemp() / "p.json", [shape("pond", points)])
    mask = draw_shapes(path, CLASSES)
    # Pillow's pixel (x, y) is a point, GDAL's a square from x to x + 1: they part at the outline.
    moved = shapely.affinity.translate(polygon, 0.5, 0.5)
    inner, outer = moved.buffer(-1.5), moved.buffer(1.5)
    filled = rasterize([(outer, 1)], out_shape=(30, 40)) > 0
    assert not mask[~filled].any()
    if not inner.is_empty:
        assert (mask[rasterize([(inner, 1)], out_shape=(30, 40)) > 0] == 1).all()


def test_a_rectangle_has_its_corners_within(tmp_path: Path) -> None:
    for corners in ([[3, 4], [10, 8]], [[10, 8], [3, 4]], [[3, 8], [10, 4]]):
        path = write(tmp_path / "r.json", [shape("field", corners, "rectangle")])
        expected = np.zeros((30, 40))
        expected[4:9, 3:11] = 2
        np.testing.assert_array_equal(draw_shapes(path, CLASSES), expected)


def test_a_circle_is_round(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", [shape("pond", [[20, 15], [20, 25]], "circle")])
    rows, columns = np.mgrid[:30, :40]
    distance = np.hypot(columns - 20, rows - 15)
    mask = draw_shapes(path, CLASSES)
    assert (mask[distance < 9] == 1).all()
    assert not mask[distance > 11].any()


def test_a_later_shape_lies_over_an_earlier_one(tmp_path: Path) -> None:
    first = shape("pond", [[0, 0], [20, 20]], "rectangle")
    second = shape("field", [[10, 10], [30, 29]], "rectangle")
    ignored = shape("__ignore__", [[0, 0], [2, 2]], "rectangle")
    mask = draw_shapes(write(tmp_path / "a.json", [first, second, ignored]), CLASSES)
    assert (mask[5, 5], mask[15, 15], mask[25, 25], mask[1, 1], mask[0, 39]) == (1, 2, 2, 255, 0)
    mask = draw_shapes(write(tmp_path / "a.json", [second, first]), CLASSES)
    assert mask[15, 15] == 1
    # A shape without a type is a polygon, as labelme has it.
    mask = draw_shapes(
        write(tmp_path / "a.json", [shape("pond", [[0, 0], [9, 0], [9, 9], [0, 9]], None)]), CLASSES
    )
    assert mask.sum() == 100


def test_without_a_background_the_rest_is_not_labelled(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [shape("pond", [[0, 0], [3, 3]], "rectangle")])
    mask = draw_shapes(path, ("pond", "field"))
    assert (mask[:4, :4] == 0).all()
    assert (mask[5:] == 255).all()


def test_a_mask_in_text_lies_at_its_corner(tmp_path: Path) -> None:
    covered = np.random.default_rng(0).integers(0, 2, (6, 9), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(covered * 255).save(stream, "PNG")
    text = base64.b64encode(stream.getvalue()).decode()
    for left, top in ((4, 5), (-2, -3), (35, 27)):
        one = shape("pond", [[left, top], [left + 8, top + 5]], "mask", mask=text)
        expected = np.zeros((50, 60), dtype=np.uint8)
        expected[10 + top : 16 + top, 10 + left : 19 + left] = covered
        made = draw_shapes(write(tmp_path / "m.json", [one]), CLASSES)
        np.testing.assert_array_equal(made, expected[10:40, 10:50])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([shape("pond", [[1, 1], [5, 5]], "line")], "shape 1 is a 'line', which covers no area"),
        ([shape("pont", [[1, 1], [5, 5], [1, 5]])], r"'pont' is not among the 3 classes .*'pond'"),
        ([shape("pond", [[1, 1], [5, 5]])], "needs 3 points or more for its type 'polygon'"),
        ([shape("pond", [[1, 1], [5, float("inf")], [2, 3]])], "with finite coordinates"),
        ([shape("pond", [[1, 1], [5, 5]], "mask", mask="!")], "has no PNG that fits"),
        (["pond"], "the label ''"),
        ("pond", "is not labelme's JSON"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, shapes: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        draw_shapes(write(tmp_path / "a.json", shapes), CLASSES)


def test_a_size_that_no_image_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="million pixels"):
        draw_shapes(write(tmp_path / "a.json", [], (1_000_000, 1_000_000)), CLASSES)
    with pytest.raises(UserError, match="is not labelme's JSON"):
        draw_shapes(write(tmp_path / "a.json", [], (0, 3)), CLASSES)
    with pytest.raises(UserError, match="restore the file"):
        draw_shapes(tmp_path / "none.json", CLASSES)


LAYOUTS = [
    ("{part}", "{part}"),
    ("images/{part}", "labels/{part}"),
    ("{part}/Img", "{part}/Label"),
    (".", "."),
    ("images", "annotations"),
]


@pytest.mark.parametrize(("images", "masks"), LAYOUTS)
def test_shapes_are_found_without_settings(tmp_path: Path, images: str, masks: str) -> None:
    for number, part in enumerate(("train", "train", "train", "train", "val")):
        place = tmp_path / images.replace("{part}", part) / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (number * 40, 9, 9)).save(place)
        box = [[number, 0], [number + 3, 3]]
        path = tmp_path / masks.replace("{part}", part) / f"{number}.json"
        write(
            path, [shape("pond", box, "rectangle"), shape("field", [[30, 20], [35, 25]], "circle")]
        )
    data = SegmentationData(root=tmp_path, classes=CLASSES, image_size=28, workers=0)
    found = survey_masks(data)
    assert found.problems == []
    assert [len(samples) for samples in found.parts.values()] == [4, 1]
    assert any("pixels that none covers are 'background'" in note for note in found.notes)
    parts = load_segmentation_parts(data)
    for chips in (parts.train, parts.val):
        for index in range(len(chips)):
            number = int(Path(chips.names[index]).stem)
            mask = chips[index]["mask"].numpy()
            assert (mask[:4, number : number + 4] == 1).all()
            assert set(np.unique(mask)) == {0, 1, 2}
    assert check_masks(data).ok


def test_masks_of_pixels_at_their_usual_place_come_first(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for folder in ("Img", "Label"):
            (tmp_path / part / folder).mkdir(parents=True)
            Image.new("L", (40, 30), 1).save(tmp_path / part / folder / f"{part}.png")
        write(tmp_path / part / "Img" / f"{part}.json", [shape("pond", [[0, 0]], "point")])
    data = SegmentationData(root=tmp_path, classes=CLASSES, workers=0)
    parts = load_segmentation_parts(data)
    assert (parts.train[0]["mask"] == 1).all()
