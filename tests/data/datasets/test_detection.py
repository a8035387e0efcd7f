"""Boxes: every format gives the same, and mistakes are one sentence."""

import json
import math
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from annotated import (
    CLASSES,
    DIFFICULT,
    FORMATS,
    PLACES,
    SIZES,
    TRUTH,
    coco,
    config,
    corners,
    refused,
    write,
    write_data,
    write_images,
)
from faster_coco_eval.core import mask as runs
from PIL import Image, ImageDraw
from torch.utils.data import DataLoader

from cgeartheye.boxes import horizontal_of, oriented_of
from cgeartheye.config import DetectionData
from cgeartheye.data import BoxChips, box_fingerprint, load_detection_parts
from cgeartheye.data.index.catalog import BOXED
from cgeartheye.data.index.detection import survey_boxes

SHARED = Path(__file__).parents[3] / ".." / "shared" / "data"


@pytest.mark.parametrize("boxes", ["horizontal", "oriented"])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same(tmp_path, kind, boxes):
    parts = load_detection_parts(config(write_data(tmp_path, kind), boxes=boxes))
    assert parts.classes == CLASSES
    assert parts.test is parts.val
    assert parts.train.names == ["images/train/a.png", "images/train/b.png"]
    for chips, names in ((parts.train, "ab"), (parts.val, "c")):
        for index, name in enumerate(names):
            found, labels, ignored = chips.load_boxes(index)
            assert labels.tolist() == [label for label, _ in TRUTH[name]]
            flags = [
                (name, n) in DIFFICULT and kind in ("dior", "dota") for n in range(len(labels))
            ]
            assert ignored.tolist() == flags
            truth = torch.tensor([box for _, box in TRUTH[name]]).reshape(-1, 5)
            if boxes == "horizontal":
                torch.testing.assert_close(found, horizontal_of(truth), atol=1e-3, rtol=0)
            else:
                back = oriented_of(found.reshape(-1, 4, 2))
                torch.testing.assert_close(back[:, :4], truth[:, :4], atol=1e-3, rtol=0)
                # A square has more than one angle.
                apart = (back[:, 4] - truth[:, 4]) % (math.pi / 2 if name == "c" else math.pi)
                assert (torch.minimum(apart, math.pi / 2 - apart).abs() < 1e-3).all()
    assert parts.train.most_boxes == 2


def test_yolo_has_horizontal_boxes_too(tmp_path):
    write_data(tmp_path, "yolo")
    write(tmp_path / "labels/train/a.txt", "1 0.5 0.25 0.2 0.1\n")
    chips = load_detection_parts(config(tmp_path, boxes="horizontal")).train
    boxes, labels, _ = chips.load_boxes(0)
    torch.testing.assert_close(boxes, torch.tensor([[24.0, 8.0, 36.0, 12.0]]))
    assert labels.tolist() == [1]


def test_voc_has_horizontal_boxes_too(tmp_path):
    write_data(tmp_path, "dior")
    box = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>13</xmax><ymax>24</ymax></bndbox>"
    text = f"<annotation><object><name>tank</name>{box}</object></annotation>"
    write(tmp_path / PLACES["dior"], text)
    boxes, labels, ignored = load_detection_parts(
        config(tmp_path, boxes="horizontal")
    ).train.load_boxes(0)
    assert boxes.tolist() == [[3, 4, 13, 24]]
    assert labels.tolist() == [2]
    assert ignored.tolist() == [False]


# Samples


@pytest.fixture
def dota(tmp_path) -> Path:
    return write_data(tmp_path, "dota")


@pytest.mark.parametrize("boxes", ["horizontal", "oriented"])
def test_a_test_sample_has_its_boxes_as_annotated_and_its_size(dota, boxes):
    chips = load_detection_parts(config(dota, boxes=boxes)).train
    sample = chips[0]
    assert set(sample) == {"image", "boxes", "labels", "ignored", "index", "size"}
    assert sample["image"].shape == (3, 56, 56)
    assert sample["size"].tolist() == [40, 60]
    assert sample["boxes"].format.name == ("XYXY" if boxes == "horizontal" else "XYXYXYXY")
    assert sample["boxes"].canvas_size == (40, 60)
    assert torch.equal(sample["boxes"].as_subclass(torch.Tensor), chips.load_boxes(0)[0])
    assert sample["ignored"].tolist() == [False, True]
    empty = chips[1]
    assert empty["boxes"].shape == (0, 4 if boxes == "horizontal" else 8)
    assert empty["labels"].dtype == torch.int64


def test_without_resizing_a_test_sees_the_image_itself(dota):
    chips = load_detection_parts(config(dota, resize=False)).train
    assert torch.equal(chips[0]["image"], chips.load_image_stack(0))
    assert chips[0]["size"].tolist() == [40, 60]
    assert chips[0, 5]["image"].shape == (3, 56, 56)


def test_a_training_sample_depends_on_its_image_and_seed(dota):
    chips = load_detection_parts(config(dota, color_jitter=True)).train
    one, other = chips[0, 3], pickle.loads(pickle.dumps(chips))[0, 3]
    assert set(one) == {"image", "boxes", "labels", "ignored", "index"}
    for name in ("image", "boxes", "labels", "ignored"):
        assert torch.equal(one[name], other[name])
    assert not torch.equal(one["image"], chips[0, 4]["image"])
    assert chips[1, 3]["boxes"].shape == (0, 8)


def test_loader_processes_return_the_same(dota):
    chips = load_detection_parts(config(dota)).train
    keys = [[(0, 1), (1, 1)], [(0, 2)]]
    loader = DataLoader(chips, batch_sampler=keys, num_workers=1, collate_fn=list)
    for batch, some in zip(loader, keys, strict=True):
        for sample, key in zip(batch, some, strict=True):
            assert torch.equal(sample["image"], chips[key]["image"])
            assert torch.equal(sample["boxes"], chips[key]["boxes"])


def test_the_largest_object_is_measured_as_the_network_sees_it(dota):
    def largest(**fields):
        return load_detection_parts(config(dota, **fields)).train.largest_side()

    low, high = horizontal_of(torch.tensor(TRUTH["a"][0][1])).reshape(2, 2)
    assert largest(boxes="horizontal") == pytest.approx(float((high - low).max()) * 56 / 60)
    assert largest() == pytest.approx(math.hypot(24, 8) * 56 / 60, rel=1e-4)
    assert largest(resize=False) == pytest.approx(math.hypot(24, 8), rel=1e-4)
    for name in ("labelTxt/train/a.txt", "labelTxt/train/b.txt"):
        write(dota / name, "")
    assert largest() is None


def test_the_fingerprint_is_of_images_and_annotations(dota):
    def fingerprint(**fields):
        return box_fingerprint(load_detection_parts(config(dota, **fields)).train)

    first = fingerprint()
    assert first == fingerprint()
    assert first != fingerprint(boxes="horizontal")
    path = dota / PLACES["dota"]
    path.write_text(path.read_text().replace("ship 0", "ship 1"))
    second = fingerprint()
    assert second != first
    Image.new("RGB", (60, 41)).save(dota / "images/train/a.png")
    assert fingerprint() != second


def test_crowds_are_ignored_in_tests_and_left_out_of_training(tmp_path):
    write_data(tmp_path, "coco")
    content = coco("ab")
    content["annotations"][1]["iscrowd"] = 1
    write(tmp_path / PLACES["coco"], json.dumps(content))
    chips = load_detection_parts(config(tmp_path)).train
    assert chips[0]["ignored"].tolist() == [False, True]
    assert chips.load_training(0)[2].tolist() == [0]
    # Nor do windows of a map have to overlap by a crowd.
    content["annotations"][1] |= {"bbox": [0, 0, 60, 40], "segmentation": []}
    write(tmp_path / PLACES["coco"], json.dumps(content))
    parts = load_detection_parts(config(tmp_path, resize=False))
    assert parts.train.largest_side() == pytest.approx(math.hypot(24, 8), rel=1e-4)


# Outlines of COCO


def test_an_outline_gives_an_oriented_box_whether_polygons_or_runs(tmp_path):
    write_data(tmp_path, "coco")
    content = coco("ab")
    drawn = Image.new("L", SIZES["a"])
    box = TRUTH["a"][0][1]
    points = corners(box)
    ImageDraw.Draw(drawn).polygon(list(zip(points[::2], points[1::2], strict=True)), fill=1)
    packed = runs.encode(np.asfortranarray(np.array(drawn)))
    flat = np.array(drawn).flatten(order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=0, append=2))
    counts = np.diff(changes, prepend=0).tolist()
    pieces = [
        [*points[:4], *points[4:6]],
        [*points[4:8], *points[:2]],
        [sum(points[::2]) / 4, sum(points[1::2]) / 4] * 3,
    ]
    text = packed["counts"]
    text = text.decode() if isinstance(text, bytes) else text
    for outline, close in (
        (pieces, 1e-3),
        ({"size": [40, 60], "counts": text}, 2.5),
        ({"size": [40, 60], "counts": counts}, 2.5),
    ):
        content["annotations"][0]["segmentation"] = outline
        write(tmp_path / PLACES["coco"], json.dumps(content))
        boxes = load_detection_parts(config(tmp_path)).train.load_boxes(0)[0]
        (found, _) = oriented_of(boxes.reshape(-1, 4, 2))
        assert found[:4].tolist() == pytest.approx(box[:4], abs=close)
        assert float(found[4]) == pytest.approx(box[4], abs=0.06)


@pytest.mark.parametrize("outline", [None, [], [[]], {"size": [40, 60], "counts": [2400]}])
def test_without_an_outline_the_box_itself_counts(tmp_path, outline):
    write_data(tmp_path, "coco")
    content = coco("ab")
    content["annotations"][0]["segmentation"] = outline
    write(tmp_path / PLACES["coco"], json.dumps(content))
    boxes = load_detection_parts(config(tmp_path)).train.load_boxes(0)[0][0].reshape(4, 2)
    truth = horizontal_of(torch.tensor(TRUTH["a"][0][1]))
    assert torch.cat([boxes.amin(0), boxes.amax(0)]).tolist() == pytest.approx(
        truth.tolist(), abs=1e-3
    )


# Where classes come from


def test_classes_are_those_of_the_coco_file(tmp_path):
    write_data(tmp_path, "coco")
    parts = load_detection_parts(config(tmp_path, classes=None))
    assert parts.classes == CLASSES
    assert len(parts.colors) == 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "ship\nplane\ntank\n"),
        ("data.yaml", "names: [ship, plane, tank]\n"),
        ("data.yaml", "names: {0: ship, 1: plane, 2: tank}\n"),
        ("data.yml", "train: train/images\nnc: 3\nnames: [ship, plane, tank]\n"),
        ("labels.txt", "__ignore__\n_background_\nship\nplane\ntank\n"),
    ],
)
def test_classes_of_yolo_are_named_beside_it(tmp_path, name, text):
    write_data(tmp_path, "yolo")
    if "__ignore__" in text:  # labelme's list, here of indices
        for path in (tmp_path / "labels").rglob("*.txt"):
            lines = [line.split() for line in path.read_text().splitlines()]
            path.write_text("".join(f"{int(i) + 2} {' '.join(more)}\n" for i, *more in lines))
    write(tmp_path / name, text)
    parts = load_detection_parts(config(tmp_path, classes=None))
    assert parts.classes == CLASSES
    assert parts.train.load_boxes(0)[1].tolist() == [0, 2]
    if "__ignore__" in text:
        return
    other = load_detection_parts(config(tmp_path, classes=("tank", "ship", "plane")))
    assert other.train.load_boxes(0)[1].tolist() == [1, 0]


def test_categories_that_nothing_has_need_no_class(tmp_path):
    write_data(tmp_path, "coco")
    content = coco("ab")
    content["categories"].append({"id": 0, "name": "things"})
    write(tmp_path / PLACES["coco"], json.dumps(content))
    assert load_detection_parts(config(tmp_path)).classes == CLASSES


def test_the_catalog_knows_classes_and_places(tmp_path):
    write_data(tmp_path / "DIORR", "dior")
    for path in (tmp_path / "DIORR").rglob("*.xml"):
        text = path.read_text().replace("Plane", "airplane")
        path.write_text(text.replace("Tank", "Expressway-Service-area"))
    parts = load_detection_parts(config(tmp_path / "DIOR-R", catalog="DIOR-R", classes=None))
    assert parts.classes == BOXED["DIOR-R"].classes
    assert [parts.classes[label] for label in parts.train.load_boxes(0)[1]] == [
        "ship",
        "expressway-service-area",
    ]
    assert len(BOXED["DIOR"].classes) == len(set(BOXED["DIOR"].classes)) == 20
    assert len(BOXED["DOTA"].classes) == len(set(BOXED["DOTA"].classes)) == 15


# Folders of images and annotations


def test_lists_choose_images_of_several_folders(tmp_path):
    write_data(tmp_path, "dior")
    for part, stems in (("train", "a\nc.png\n"), ("val", "b\n\n")):
        write(tmp_path / "ImageSets/Main" / f"{part}.txt", stems)
    data = config(tmp_path, images="images/*", lists="ImageSets/Main/{part}.txt")
    parts = load_detection_parts(data)
    assert parts.train.names == ["images/train/a.png", "images/val/c.png"]
    assert parts.val.names == ["images/train/b.png"]


def test_without_parts_the_images_are_shared_out(tmp_path):
    write_data(tmp_path, "dior")
    data = config(tmp_path, images="images", train_fraction=0.7)
    parts = load_detection_parts(data)
    names = parts.train.names + parts.val.names
    assert (len(parts.train), len(parts.val), len(set(names))) == (2, 1, 3)


def test_subfolders_distinguish_equal_stems(tmp_path):
    for city in ("x", "y"):
        for part, name in (("train", "a"), ("val", "c")):
            path = tmp_path / city / "images" / part / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 9), (ord(city), 0, ord(name))).save(path)
            text = "" if city == "x" else "1 1 5 1 5 4 1 4 ship 0"
            write(tmp_path / city / "labelTxt" / part / f"{name}.txt", text)
    parts = load_detection_parts(
        config(tmp_path, images="*/images/{part}", annotations="*/labelTxt/{part}")
    )
    assert parts.train.names == ["x/images/train/a.png", "y/images/train/a.png"]
    assert [len(parts.train.load_boxes(i)[1]) for i in range(2)] == [0, 1]


def test_one_coco_file_may_serve_all_parts(tmp_path):
    write_images(tmp_path)
    write(tmp_path / "all.json", json.dumps(coco("abc")))
    parts = load_detection_parts(config(tmp_path, annotations="all.json"))
    assert (len(parts.train), len(parts.val)) == (2, 1)


# Mistakes


def damage(root: Path, kind: str, old: str, new: str) -> Path:
    path = root / PLACES[kind]
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


COCO_DAMAGE = {
    "not JSON": ("{", "is not JSON"),
    "a list": ("[1, 2]", "is not a COCO file, its content is a list or a number"),
    "no categories": ('{"images": [], "annotations": []}', "it has no list 'categories'"),
    "numbers": ('{"images": [3], "annotations": [], "categories": []}', "hold something else"),
    "no name": ('{"images": [{"id": 3}], "annotations": [], "categories": []}', "lacks its id or"),
    "empty": ("", "is not JSON"),
}


@pytest.mark.parametrize("what", COCO_DAMAGE)
def test_a_json_that_is_not_coco_is_named(tmp_path, what):
    text, words = COCO_DAMAGE[what]
    write_data(tmp_path, "coco")
    write(tmp_path / PLACES["coco"], text)
    sentence = refused(tmp_path)
    assert str(tmp_path / PLACES["coco"]) in sentence
    assert words in sentence


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"category_id": 99}, "annotation 0 has an image_id or category_id"),
        ({"image_id": "zebra"}, "annotation 0 has an image_id or category_id"),
        ({"bbox": [1, 2, 3], "segmentation": []}, "annotation 0 has no bbox of x, y"),
        ({"bbox": [1, 2, -3, 4], "segmentation": []}, "annotation 0 has no bbox of x, y"),
        ({"bbox": ["1", 2, 3, 4], "segmentation": []}, "annotation 0 has no bbox of x, y"),
        ({"bbox": [1, math.nan, 3, 4], "segmentation": []}, "no finite number"),
        ({"segmentation": [[1, 2, math.inf, 3, 5, 6]]}, "no finite number"),
        ({"segmentation": [[1, 2, 3]]}, "has a segmentation that is neither"),
        ({"segmentation": {"size": [4, 4]}}, "has a segmentation that is neither"),
        (
            {"segmentation": {"size": [4, 4], "counts": [3, 2]}},
            "has a segmentation that is neither",
        ),
        ({"segmentation": {"size": [4, 4], "counts": "12"}}, "has a segmentation that is neither"),
        ({"segmentation": "outline"}, "has a segmentation that is neither"),
        ({"image_id": [1]}, "annotation 0 has an image_id or category_id"),
        ({"category_id": {}}, "annotation 0 has an image_id or category_id"),
    ],
)
def test_a_wrong_coco_annotation_is_named(tmp_path, change, words):
    write_data(tmp_path, "coco")
    content = coco("ab")
    content["annotations"][0] |= change
    write(tmp_path / PLACES["coco"], json.dumps(content))
    sentence = refused(tmp_path)
    assert str(tmp_path / PLACES["coco"]) in sentence
    assert words in sentence


def test_a_coco_image_that_is_there_twice_or_not_on_disk_is_named(tmp_path):
    write_data(tmp_path, "coco")
    write(tmp_path / PLACES["coco"], json.dumps(coco("aba")))
    assert "the image 'a.png' is there twice" in refused(tmp_path)
    write(tmp_path / PLACES["coco"], json.dumps(coco("ab")))
    (tmp_path / "images/train/b.png").unlink()
    assert "train.json: the image 'b.png' has no image in" in refused(tmp_path)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_class_that_is_not_listed_is_named_with_the_nearest(tmp_path, kind):
    write_data(tmp_path, kind)
    if kind == "yolo":
        write(tmp_path / "classes.txt", "shipp\nplane\ntank\n")
    else:
        damage(tmp_path, kind, "Ship" if kind == "dior" else "ship", "shipp")
    sentence = refused(tmp_path)
    assert "a." in sentence or "train.json" in sentence
    assert "the class 'shipp' is not among the 3 classes (did you mean 'ship'?)" in sentence


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize("kind", ["dior", "dota", "yolo"])
def test_corners_that_are_not_finite_are_named(tmp_path, kind, number):
    write_data(tmp_path, kind)
    first = corners(TRUTH["a"][0][1])[0]
    path = damage(tmp_path, kind, str(first / 60 if kind == "yolo" else first), number)
    sentence = refused(tmp_path)
    assert sentence.startswith(str(path))
    assert "has a corner that is no finite number" in sentence


TEXT_DAMAGE = {
    "dota": [
        ("1 2 3 4 5 6 7 8", "a.txt:1 is not x1 y1"),
        ("1 2 3 4 5 6 7 8 ship 0 9", "a.txt:1 is not x1 y1"),
        ("gsd:1\n1 2 3 4 5 6 7 x ship 0", "a.txt:2 is not x1 y1"),
        ("gsd:1\n1 2 3 4 5 6 7 8 ship hard", "a.txt:2 is not x1 y1"),
    ],
    "yolo": [
        ("0 0.1 0.2 0.3", "a.txt:1 is not class cx cy w h"),
        ("0 0.1 0.2 0.3 x", "a.txt:1 is not class cx cy w h"),
        ("\n3 0.1 0.2 0.3 0.4", "a.txt:2: class 3 is out of range: 3 classes are named"),
        ("-1 0.1 0.2 0.3 0.4", "a.txt:1: class -1 is out of range"),
        ("0.5 0.1 0.2 0.3 0.4", "a.txt:1: class 0.5 is out of range"),
    ],
}


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [(kind, *case) for kind, cases in TEXT_DAMAGE.items() for case in cases],
)
def test_a_wrong_line_is_named(tmp_path, kind, text, words):
    write_data(tmp_path, kind)
    if kind == "dota":  # the other files decide between DOTA and YOLO
        write(tmp_path / "labelTxt/train/0.txt", "1 1 5 1 5 4 1 4 ship 0")
        Image.new("RGB", (9, 9)).save(tmp_path / "images/train/0.png")
    write(tmp_path / PLACES[kind], text)
    assert words in refused(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotation><object>", "cannot be read as XML"),
        ("nonsense", "cannot be read as XML"),
        ("<html></html>", "is not an annotation of VOC, DIOR-R"),
        ("<annotation><object><name>ship</name></object></annotation>", "object 1 needs a <name>"),
        (
            "<annotation><object><name>ship</name><bndbox><xmin>x</xmin></bndbox></object>"
            "</annotation>",
            "object 1 needs a <name>",
        ),
    ],
)
def test_a_wrong_xml_is_named(tmp_path, text, words):
    write_data(tmp_path, "dior")
    write(tmp_path / PLACES["dior"], text)
    sentence = refused(tmp_path)
    assert "a.xml" in sentence
    assert words in sentence


@pytest.mark.parametrize("kind", ["dior", "dota", "yolo"])
def test_an_empty_file_is_an_image_without_objects(tmp_path, kind):
    write_data(tmp_path, kind)
    write(tmp_path / PLACES[kind], "")
    assert load_detection_parts(config(tmp_path)).train.most_boxes == 0


def test_annotations_that_are_no_text_are_named(dota):
    (dota / PLACES["dota"]).write_bytes(b"\xff\xfe\x00\x9f")
    assert "a.txt cannot be read as text" in refused(dota)


@pytest.mark.parametrize("kind", FORMATS)
def test_annotations_without_their_image_are_named(tmp_path, kind):
    write_data(tmp_path, kind)
    (tmp_path / "images/train/a.png").unlink()
    assert "a." in refused(tmp_path)
    assert "has no image in" in refused(tmp_path)


def test_annotations_of_parts_that_are_not_used_are_no_mistake(tmp_path):
    write_data(tmp_path, "dior")
    (tmp_path / "images/test").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "images/test/d.png")
    write(tmp_path / "Annotations/Oriented Bounding Boxes/d.xml", "<annotation/>")
    load_detection_parts(config(tmp_path))


@pytest.mark.parametrize("kind", ["dior", "dota"])
def test_an_image_without_annotations_is_named(tmp_path, kind):
    write_data(tmp_path, kind)
    (tmp_path / PLACES[kind]).unlink()
    sentence = refused(tmp_path)
    assert sentence.startswith("images/train/a.png has no annotations in")


def test_two_images_of_one_stem_are_named(dota):
    Image.new("RGB", (9, 9)).save(dota / "images/train/a.bmp")
    assert "images/train/a.bmp and images/train/a.png have the same stem" in refused(dota)


def test_annotations_that_two_parts_share_are_named(tmp_path):
    write_data(tmp_path, "dior")
    shutil.copy(tmp_path / "images/train/a.png", tmp_path / "images/val/a.png")
    assert "belongs to two images with the same stem" in refused(tmp_path)


def test_classes_that_nothing_lists_are_those_of_the_annotations_or_asked_for(tmp_path, capsys):
    write_data(tmp_path, "dota")
    assert load_detection_parts(config(tmp_path, classes=None)).classes == ("plane", "ship", "tank")
    assert "those that the annotations name, by letter: plane, ship, tank" in (
        " ".join(capsys.readouterr().out.split())
    )
    shutil.rmtree(tmp_path / "labelTxt")
    write_data(tmp_path, "yolo")
    for fields in (
        {"classes": None},
        {"classes": None, "catalog": "DOTA", "images": "images/{part}"},
    ):
        assert "gives classes by index" in refused(tmp_path, **fields)


@pytest.mark.parametrize("text", ["names: 3", "{", "names: {1: ship}", "- ship"])
def test_a_wrong_list_of_yolo_classes_is_named(tmp_path, text):
    write_data(tmp_path, "yolo")
    write(tmp_path / "data.yaml", text)
    assert "data.yaml has no 'names'" in refused(tmp_path)


def test_missing_folders_and_lists_are_named(dota):
    assert "correct data.root" in refused(dota / "no")
    assert "no annotations of the part 'trian'" in refused(dota, train="trian")
    fields = {"annotations": "labelTxt/train"}
    assert "trian (did you mean 'train'?): correct data.train" in refused(
        dota, train="trian", **fields
    )
    assert "no annotations" in refused(dota, annotations="nothing/{part}")
    assert "no annotations" in refused(dota, annotations="nothing/{part}.json")
    assert "no list" in refused(dota, lists="lists/{part}.txt")
    write(dota / "lists/train.txt", "a\nz\n")
    write(dota / "lists/val.txt", "c\nzz\n")
    assert "train.txt:2: 'z' (and 1 more) is no image in" in refused(dota, lists="lists/{part}.txt")


def test_a_part_without_images_is_named(dota):
    shutil.rmtree(dota / "images/val")
    (dota / "images/val").mkdir()
    shutil.rmtree(dota / "labelTxt/val")
    (dota / "labelTxt/val").mkdir()
    assert "the part 'val' of" in refused(dota)


def test_the_survey_goes_on_past_mistakes(tmp_path):
    write_data(tmp_path, "dota")
    damage(tmp_path, "dota", "ship", "shipp")
    damage(tmp_path, "dota", "tank 1", "tank 1 1")
    found = survey_boxes(config(tmp_path))
    assert len(found.problems) == 2
    assert len(found.parts["train"]["images/train/a.png"]) == 0
    assert len(found.parts["val"]["images/val/c.png"]) == 1


# Real data


NWPU = (
    "airplane", "ship", "storage_tank", "baseball_diamond", "tennis_court", "basketball_court",
    "ground_track_field", "harbor", "bridge", "vehicle",
)  # fmt: skip


@pytest.mark.skipif(not (SHARED / "NWPU-VHR10").is_dir(), reason="needs the shared NWPU VHR-10")
def test_real_boxes_of_both_kinds_agree():
    fields = {"root": SHARED / "NWPU-VHR10", "train": "trainval", "val": "test"}
    flat = load_detection_parts(DetectionData(**fields))
    turned = load_detection_parts(DetectionData(**fields, boxes="oriented", classes=NWPU))
    assert flat.classes == turned.classes == NWPU
    assert (len(flat.train), len(flat.val)) == (227, 98)
    assert flat.train.names == turned.train.names
    lists = {"images": "images/*", "lists": "ImageSets/Main/{part}.txt", "classes": NWPU}
    parts = load_detection_parts(DetectionData(root=fields["root"], test="test", **lists))
    assert (len(parts.train), len(parts.val), len(parts.test)) == (195, 32, 98)
    for index in range(len(flat.train)):
        one, other = flat.train.load_boxes(index), turned.train.load_boxes(index)
        assert sorted(one[1].tolist()) == sorted(other[1].tolist())


@pytest.mark.skipif(not (SHARED / "DOTA8").is_dir(), reason="needs the shared DOTA8")
def test_real_boxes_of_yolo_are_read():
    classes = tuple(f"class {n}" for n in range(15))
    parts = load_detection_parts(
        DetectionData(root=SHARED / "DOTA8", boxes="oriented", classes=classes)
    )
    assert isinstance(parts.train, BoxChips)
    assert parts.train.most_boxes == 110
