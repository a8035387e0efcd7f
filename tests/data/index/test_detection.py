"""Layouts and files as they come from the wild: what is meant is read, the rest is named."""

import json
import shutil
from pathlib import Path

import pytest
from annotated import CLASSES, PLACES, coco, config, refused, write, write_data
from PIL import Image

from cgeartheye.data import load_detection_parts
from cgeartheye.data.index.detection import survey_boxes


def labels(root: Path, **fields) -> list[list[int]]:
    """The labels of each training image."""
    chips = load_detection_parts(config(root, **fields)).train
    return [chips.load_boxes(index)[1].tolist() for index in range(len(chips))]


def write_coco(root: Path, change) -> Path:
    write_data(root, "coco")
    content = coco("ab")
    change(content)
    write(root / PLACES["coco"], json.dumps(content))
    return root


# Folders


@pytest.mark.parametrize(
    ("kind", "images", "annotations"),
    [
        ("yolo", "{part}/images", "{part}/labels"),
        ("dota", "{part}/images", "{part}/labelTxt-v1.0/labelTxt"),
        ("dior", "JPEGImages-{part}", "Annotations/Oriented Bounding Boxes"),
    ],
)
def test_published_layouts_are_found(tmp_path, kind, images, annotations):
    source = write_data(tmp_path / "source", kind)
    root = tmp_path / "root"
    fields = {"catalog": "DOTA"} if kind == "dota" else {}
    for part in ("train", "val"):
        shutil.copytree(source / "images" / part, root / images.format(part=part))
        boxes = Path(PLACES[kind].replace("train", part)).parent
        if (source / boxes).is_dir():
            place = root / annotations.format(part=part)
            shutil.copytree(source / boxes, place, dirs_exist_ok=True)
    assert labels(root, **fields) == [[0, 2], []]


@pytest.mark.parametrize("folder", ["JPEGImages", "images"])
def test_images_whose_parts_are_lists_are_found(tmp_path, folder):
    source = write_data(tmp_path / "source", "dior")
    root = tmp_path / "root"
    shutil.copytree(source / "Annotations/Oriented Bounding Boxes", root / "Annotations")
    for part, stems in (("train", "a\r\nb\r\n"), ("val", "c")):
        shutil.copytree(source / "images" / part, root / folder, dirs_exist_ok=True)
        write(root / "ImageSets/Main" / f"{part}.txt", stems)
    assert labels(root, lists="ImageSets/Main/{part}.txt") == [[0, 2], []]


def test_a_name_with_the_folder_of_other_images_is_not_one_of_another_folder(tmp_path):
    write_data(tmp_path, "coco")
    folder = tmp_path / "images/train"
    for below in ("x", "y"):
        (folder / below).mkdir()
    (folder / "a.png").rename(folder / "x/a.png")
    (folder / "b.png").rename(folder / "y/b.png")
    path = tmp_path / PLACES["coco"]
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["file_name"] = f"y/{Path(image['file_name']).name}"
    write(path, json.dumps(content))
    chips = load_detection_parts(config(tmp_path)).train
    assert [Path(name).name for name in chips.names] == ["b.png"]  # y/a.png is not there
    for image in content["images"]:
        image["file_name"] = image["file_name"].replace("y/", "elsewhere/")
    write(path, json.dumps(content))
    assert len(load_detection_parts(config(tmp_path)).train) == 2


def test_ids_of_categories_are_found_whatever_their_case(tmp_path):
    write_data(tmp_path, "coco")
    expected = load_detection_parts(config(tmp_path)).test.category_ids
    for path in (tmp_path / PLACES["coco"]).parent.glob("*.json"):
        content = json.loads(path.read_text())
        for one in content["categories"]:
            one["name"] = one["name"].upper()
        write(path, json.dumps(content))
    assert load_detection_parts(config(tmp_path)).test.category_ids == expected
    assert len(expected) == len(CLASSES)


def test_a_part_of_dota_without_any_object_is_empty_files(tmp_path):
    write_data(tmp_path, "dota")
    for path in (tmp_path / PLACES["dota"].replace("train", "val")).parent.glob("*.txt"):
        path.write_text("")
    val = load_detection_parts(config(tmp_path)).val
    assert [len(val.load_boxes(index)[1]) for index in range(len(val))] == [0]


@pytest.mark.parametrize("name", ["labels/classes.txt", "labels/train/classes.txt"])
def test_classes_of_yolo_may_be_named_among_the_labels(tmp_path, name):
    write_data(tmp_path, "yolo")
    write(tmp_path / name, "tank\nship\nplane\n")
    assert labels(tmp_path) == [[2, 1], []]
    assert load_detection_parts(config(tmp_path, classes=None)).classes == (
        "tank",
        "ship",
        "plane",
    )


@pytest.mark.parametrize("kind", ["coco", "dior", "dota"])
def test_a_list_of_classes_that_nothing_needs_may_be_anything(tmp_path, kind):
    write_data(tmp_path, kind)
    write(tmp_path / "dataset.yaml", "licence: MIT\n")
    assert labels(tmp_path) == [[0, 2], []]


@pytest.mark.parametrize("kind", ["dior", "dota", "yolo"])
def test_hidden_files_are_left_out(tmp_path, kind):
    write_data(tmp_path, kind)
    path = tmp_path / PLACES[kind]
    path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07\xff")
    copy = path.parent / ".ipynb_checkpoints" / f"a-checkpoint{path.suffix}"
    write(copy, path.read_text())
    assert labels(tmp_path) == [[0, 2], []]


def test_notes_beside_annotations_do_not_hide_their_kind(tmp_path):
    write_data(tmp_path, "dota")
    write(tmp_path / "labelTxt/train/README.txt", "Read me.\n")
    sentence = refused(tmp_path)
    assert "README.txt has no image in" in sentence
    assert "cgeartheye check" not in sentence  # nothing else is wrong


@pytest.mark.parametrize("kind", ["dior", "yolo"])
def test_a_link_that_leads_nowhere_is_named(tmp_path, kind):
    write_data(tmp_path, kind)
    path = tmp_path / PLACES[kind]
    path.unlink()
    path.symlink_to(tmp_path / "gone")
    assert f"{path.name} " in refused(tmp_path)


@pytest.mark.parametrize("kind", ["coco", "dota"])
def test_annotations_of_two_images_do_not_replace_each_other(tmp_path, kind):
    write_data(tmp_path, kind)
    folder = tmp_path / "images/train/x"
    folder.mkdir()
    (tmp_path / "images/train/a.png").rename(folder / "a.png")
    if kind == "coco":
        content = coco("ab")
        for place, name in enumerate(("x/a.png", "y/a.png")):
            content["images"][place]["file_name"] = name
        write(tmp_path / PLACES["coco"], json.dumps(content))
    else:
        write(tmp_path / "labelTxt/train/y/a.txt", "1 1 5 1 5 4 1 4 ship 0")
    assert "are both about images/train/x/a.png" in refused(tmp_path)


def test_equal_stems_in_a_part_differ_by_folders_or_are_refused(tmp_path):
    write_data(tmp_path, "dota")
    images, texts = tmp_path / "images/train", tmp_path / "labelTxt/train"
    for folder, name in (("x", "ship"), ("y", "plane")):
        (images / folder).mkdir()
        shutil.copy(images / "a.png", images / folder / "p.png")
        write(texts / folder / "p.txt", f"1 1 5 1 5 4 1 4 {name} 0")
    chips = load_detection_parts(config(tmp_path)).train
    named = {name: chips.load_boxes(n)[1].tolist() for n, name in enumerate(chips.names)}
    truth = [[CLASSES.index("ship")], [CLASSES.index("plane")]]
    assert [named[f"images/train/{folder}/p.png"] for folder in "xy"] == truth
    (texts / "x/p.txt").rename(texts / "p.txt")
    (texts / "y/p.txt").unlink()
    assert "belongs to two images with the same stem" in refused(tmp_path)
    shutil.rmtree(images / "y")
    shutil.copy(images / "x/p.png", images / "x/p.tif")
    assert "images/train/x/p.png and images/train/x/p.tif have the same stem" in refused(tmp_path)


# COCO


def test_coco_files_of_windows_and_of_statistics_programs_are_read(tmp_path):
    def change(content):
        for image in content["images"]:
            image["id"] = float(image["id"])
            image["file_name"] = f"images\\train\\{image['file_name']}"
        content["images"].append({"id": 99.0, "file_name": "images\\test\\d.png"})

    write_coco(tmp_path, change)
    (tmp_path / "images/test").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "images/test/d.png")
    path = tmp_path / PLACES["coco"]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert labels(tmp_path) == [[0, 2], []]


@pytest.mark.parametrize(("which", "what"), [("images", "image 'b.png'"), ("categories", "'ship'")])
def test_ids_that_stand_for_two_are_named(tmp_path, which, what):
    def change(content):
        content[which][1]["id"] = content[which][0]["id"]

    sentence = refused(write_coco(tmp_path, change))
    assert what in sentence
    assert "have the same id" in sentence


def test_a_run_that_is_negative_is_named(tmp_path):
    def change(content):
        content["annotations"][0]["segmentation"] = {"size": [40, 60], "counts": [-5, 2405]}

    assert "neither polygons nor a run-length code" in refused(write_coco(tmp_path, change))


ONE = '{"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "ship"}], '


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "is not JSON"),
        ('{"images": [{"id": 1, "file_name": "\\ud800.png"}], "annotations": [], '
         '"categories": []}', "a name is no text"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": ["a"]}]}',
         "a name is no text"),
        (ONE + '"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 1, 1'
         + "0" * 400 + "]}]}",
         "no finite number"),
        (ONE + '"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 1, 1], '
         '"segmentation": [[1, 1, 1' + "0" * 400 + ", 1, 5, 5]]}]}", "neither polygons nor"),
        (ONE + '"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 1, 1], '
         '"iscrowd": "perhaps"}]}', "neither 0 nor 1"),
    ],
)  # fmt: skip
def test_impossible_values_in_a_coco_file_are_named(tmp_path, text, words):
    write_data(tmp_path, "coco")
    write(tmp_path / PLACES["coco"], text)
    found = survey_boxes(config(tmp_path))
    assert any(words in problem.sentence for problem in found.problems)


# XML


@pytest.mark.parametrize("encoding", ["gbk", "gb2312", "big5", "latin-1", "utf-8", "utf-16"])
def test_xml_in_the_encoding_that_it_declares(tmp_path, encoding):
    write_data(tmp_path, "dior")
    path = tmp_path / PLACES["dior"]
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n{path.read_text()}'
    path.write_bytes(text.encode(encoding))
    assert labels(tmp_path) == [[0, 2], []]
    write(path, text.replace(encoding, "klingon"))
    if encoding != "utf-16":
        assert "a.xml (unknown encoding: klingon) cannot be read as XML" in refused(tmp_path)


def test_class_names_in_gbk(tmp_path):
    write_data(tmp_path, "dior")
    path = tmp_path / PLACES["dior"]
    text = path.read_text().replace("Ship", "\u8239")
    path.write_bytes(f'<?xml version="1.0" encoding="GBK"?>{text}'.encode("gbk"))
    assert labels(tmp_path, classes=("\u8239", *CLASSES[1:])) == [[0, 2], []]


# YOLO's classes


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("classes.txt", b"ship\nship\ntank\n", "names a class twice"),
        ("data.yaml", b"names: {0: ship, 1: ship}", "names a class twice"),
        ("data.yaml", b"names: {0: ship, x: plane}", "has no 'names'"),
        ("data.yaml", b"names: [b\xe2teau]", "save it as UTF-8"),
    ],
)
def test_other_wrong_lists_of_yolo_classes_are_named(tmp_path, name, content, words):
    write_data(tmp_path, "yolo")
    (tmp_path / name).write_bytes(content)
    sentence = refused(tmp_path)
    assert str(tmp_path / name) in sentence
    assert words in sentence
