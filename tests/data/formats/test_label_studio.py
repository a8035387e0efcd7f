"""Label Studio's own JSON."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgeartheye.data.formats.label_studio import is_label_studio, read_label_studio
from cgeartheye.data.formats.voc_dota_yolo import Faults
from cgeartheye.utils.errors import UserError

WIDTH, HEIGHT = 400, 250


def region(value: dict[str, Any], kind: str = "rectanglelabels", **other: Any) -> dict[str, Any]:
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {"id": "r", "type": kind, **size, "value": {kind: ["ship"], **value}, **other}


BOX = {"x": 10.0, "y": 20.0, "width": 5.0, "height": 8.0, "rotation": 0}


def task(*regions: Any, name: str = "a.png", **other: Any) -> dict[str, Any]:
    given = [{"id": 1, "was_cancelled": False, "result": list(regions)}]
    return {"id": 5, "data": {"image": name}, "annotations": given, **other}


def read(folder: Path, *tasks: Any, stems: Any = ("a",), oriented: bool = True) -> Any:
    path = folder / "export.json"
    path.write_text(json.dumps(tasks))
    faults = Faults()
    file = read_label_studio(path, set(stems), oriented, faults)
    return file, [problem.sentence for problem in faults.problems()]


def corners_in(file: Any, name: str = "a.png") -> list[np.ndarray]:
    return [np.reshape(one.corners, (4, 2)) for _, one in file.images[name]]


@given(
    x=st.floats(0, 90), y=st.floats(0, 90), width=st.floats(0.5, 60), height=st.floats(0.5, 60),
    rotation=st.floats(-360, 360),
)  # fmt: skip
@pytest.mark.parametrize("oriented", [True, False])
def test_rectangles_are_turned_around_their_first_corner(
    tmp_path_factory, oriented, x, y, width, height, rotation
):
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation}
    folder = tmp_path_factory.mktemp("export")
    file, faults = read(folder, task(region(value)), oriented=oriented)
    assert faults == []
    # By complex numbers: pixels to the right are real, those down imaginary, so that a turn by a
    # positive angle is clockwise on the screen.
    first = complex(x * WIDTH, y * HEIGHT) / 100
    sides = [0, width * WIDTH / 100, complex(width * WIDTH, height * HEIGHT) / 100,
             1j * height * HEIGHT / 100]  # fmt: skip
    turned = [first + side * np.exp(1j * math.radians(rotation)) for side in sides]
    (corners,) = corners_in(file)
    assert corners == pytest.approx(np.array([[one.real, one.imag] for one in turned]), abs=1e-6)


def test_a_quarter_turn(tmp_path):
    file, _ = read(tmp_path, task(region({**BOX, "rotation": 90})))
    # 20 x 20 pixels from (40, 50); a quarter turn clockwise takes it to the left.
    (corners,) = corners_in(file)
    assert corners == pytest.approx(np.array([[40, 50], [40, 70], [20, 70], [20, 50]]))


def test_polygons_are_boxes_around_them(tmp_path):
    points = {"points": [[10, 20], [30, 20], [30, 40], [20, 60]]}
    file, faults = read(tmp_path, task(region(points, "polygonlabels")), oriented=False)
    assert faults == []
    (corners,) = corners_in(file)
    assert corners == pytest.approx(np.array([[40, 50], [120, 50], [120, 150], [40, 150]]))


def test_shapes_and_labels_that_are_written_apart_are_one_object(tmp_path):
    shape = {"id": "r", "type": "rectangle", "value": BOX}
    choice = {"id": "c", "type": "choices", "value": {"choices": ["clear"]}}
    file, faults = read(tmp_path, task(shape, region(BOX, "labels"), choice))
    assert faults == []
    assert [one.name for _, one in file.images["a.png"]] == ["ship"]
    _, (fault,) = read(tmp_path, task(shape))
    assert "task 5, region 1 has no label" in fault


@pytest.mark.parametrize(
    ("name", "stems", "found"),
    [
        ("/data/upload/3/0a1b2c3d-a.png", {"a"}, "/data/upload/3/a.png"),
        ("/data/upload/3/0a1b2c3d-a.png", {"0a1b2c3d-a"}, "/data/upload/3/0a1b2c3d-a.png"),
        ("/data/local-files/?d=north/my%20a.tif", set(), "north/my a.tif"),
        ("https://host.example/x/a.jpg?token=1", {"a"}, "/x/a.jpg"),
        ("s3://bucket/x/a.png", {"a"}, "/x/a.png"),
        ("north\\a.png", {"a"}, "north/a.png"),
    ],
)
def test_names_of_images(tmp_path, name, stems, found):
    file, faults = read(tmp_path, task(name=name), stems=stems)
    assert (list(file.images), faults) == ([found], [])


def test_the_upload_is_named_where_the_data_do_not(tmp_path):
    one = task(file_upload="0a1b2c3d-a.png") | {"data": {"title": "no image"}}
    assert list(read(tmp_path, one)[0].images) == ["a.png"]
    other = task(file_upload="0a1b2c3d-tasks.csv") | {"data": {"scene": "a.png"}}
    assert list(read(tmp_path, other)[0].images) == ["a.png"]


def test_of_several_annotations_the_true_or_the_newest_counts(tmp_path):
    def by(date: str, label: str, **other: Any) -> dict[str, Any]:
        value = {**BOX, "rectanglelabels": [label]}
        return {"created_at": date, "result": [region(value)], **other}

    old, new = by("2026-01-01T00:00:00Z", "old"), by("2026-01-02T00:00:00Z", "new")
    skipped = by("2026-01-03T00:00:00Z", "skipped", was_cancelled=True)
    true = by("2025-01-01T00:00:00Z", "true", ground_truth=True)
    for given_ones, label in (([new, old, skipped], "new"), ([old, true, new], "true")):
        file, _ = read(tmp_path, task() | {"annotations": given_ones})
        assert [one.name for _, one in file.images["a.png"]] == [label]
    # Not labeled yet is something else than without an object.
    assert read(tmp_path, task() | {"annotations": [skipped]})[0].images == {}
    assert read(tmp_path, task() | {"annotations": []})[0].images == {}
    assert read(tmp_path, task())[0].images == {"a.png": []}


BROKEN = {
    "no side": region({"x": 1, "y": 2, "width": 3}),
    "a text": region({**BOX, "x": "left"}),
    "a negative side": region({**BOX, "width": -1}),
    "no label": region({**BOX, "rectanglelabels": []}),
    "two labels": region({**BOX, "rectanglelabels": ["ship", "car"]}),
    "half a letter": region({**BOX, "rectanglelabels": ["\ud800"]}),
    "a label that is a list": region({**BOX, "rectanglelabels": [["ship"]]}),
    "no size": region(BOX, original_width=0),
    "a size of hundreds of digits": region(BOX, original_width=10**400),
    "a turned image": region(BOX, image_rotation=90),
    "a turn without end": region({**BOX, "rotation": math.inf}),
    "no value": region(BOX) | {"value": None},
    "a brush": region({"format": "rle", "rle": [1]}, "brushlabels"),
    "an ellipse": region({"x": 1, "y": 1, "radiusX": 2, "radiusY": 3}, "ellipselabels"),
    "two points": region({"points": [[1, 2], [3, 4]]}, "polygonlabels"),
    "points of three": region({"points": [[1, 2, 3]] * 3}, "polygonlabels"),
    "a number": 3,
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=list(BROKEN))
def test_damaged_regions_are_named_and_the_others_are_read(tmp_path, broken):
    file, (fault,) = read(tmp_path, task(region(BOX), broken))
    assert f"{tmp_path / 'export.json'}: task 5, region 2 " in fault
    assert "\n" not in fault
    assert len(file.images["a.png"]) == 1


def test_tasks_without_an_image_and_images_in_two_tasks(tmp_path):
    _, (fault,) = read(tmp_path, task(name="a.csv"))
    assert "task 5 names no image" in fault
    _, (fault,) = read(tmp_path, task(), task())
    assert "the image 'a.png' is in two tasks" in fault


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"id": 1', "is not JSON"),
        ("[{" + '"a":[' * 50_000, "is not JSON"),
        ('[{"image": "/a.png", "label": []}]', "JSON-MIN"),
        ('[{"data": {}, "annotations": [{"result": 3}]}]', "neither COCO's JSON nor Label Studio"),
        ('[{"data": {}, "annotations": []}, 3]', "neither COCO's JSON nor Label Studio"),
    ],
)
def test_a_damaged_file_is_reported_in_one_sentence(tmp_path, text, words):
    path = tmp_path / "export.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read_label_studio(path, set(), False, Faults())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_is_distinguished_from_other_json(tmp_path):
    path = tmp_path / "any.json"
    for text, right in (('\n [ {"id"', True), ('{"images": [', False), ("[1]", False), ("", False)):
        path.write_text(text)
        assert is_label_studio(path) == right
    assert not is_label_studio(tmp_path / "absent.json")
