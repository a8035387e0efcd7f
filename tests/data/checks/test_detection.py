"""The check of boxes: one planted fault after another, and a clean bill for what is clean."""

import io
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cgeartheye.config import DetectionData, Normalization
from cgeartheye.data.checks.detection import check_boxes
from cgeartheye.data.checks.findings import CheckResult, Finding, render, write
from cgeartheye.utils.errors import UserError

SHARED = Path(__file__).parents[3] / ".." / "shared" / "data"
CLASSES = ("car", "pond")
CAR, POND = "10 10 50 10 50 30 10 30 car 0", "60 40 90 40 90 70 60 70 pond 0"


def check(root: Path, normalization: Normalization | None = None, **fields) -> CheckResult:
    options = {"classes": CLASSES, "image_size": 98, "workers": 0, "boxes": "oriented"}
    return check_boxes(DetectionData(root=root, **{**options, **fields}), normalization)


def only(result: CheckResult, words: str) -> Finding:
    (finding,) = (finding for finding in result.findings if words in finding.sentence)
    return finding


def annotate(root: Path, name: str, *lines: str) -> None:
    path = root / "labelTxt" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


@pytest.fixture
def clean(tmp_path) -> Path:
    """Twelve images of 100 x 80 pixels, ten for training, with a car and a pond each."""
    for seed, name in enumerate([*(f"train/{n}" for n in range(10)), "val/x", "val/y"]):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (80, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        annotate(tmp_path, name, CAR, POND)
    return tmp_path


@pytest.mark.parametrize("boxes", ["horizontal", "oriented"])
def test_clean_data_are_well(clean, boxes):
    result = check(clean, boxes=boxes)
    assert result.ok
    assert {finding.severity for finding in result.findings} == {"ok"}
    assert result.classes == CLASSES
    assert result.unit == "boxes"
    assert result.counts == {"train": [10, 10], "val": [2, 2]}
    for words in (
        "all 12 images can be read",
        "every box is inside its image",
        "every box has an area, and its corners are in order",
        "no object is annotated twice",
        "no two images have the same pixels",
        "20 boxes in 10 training images, 2 at most; the rarest class is 'car' with 10",
    ):
        only(result, words)
    sizes = only(result, "boxes as the network sees them, 32 and 96 pixels a side the limits")
    # 40 x 20 and 30 x 30 pixels, 0.98 times.
    assert sizes.sentence.endswith("100% small, 0% medium, 0% large")
    assert sizes.examples[0] == "car: 12 small, 0 medium, 0 large"


def test_sizes_are_those_that_the_network_sees(clean):
    sizes = only(check(clean, image_size=196), "boxes as the network sees them")
    # 1.96 times: 55 pixels a side of a square, and 59.
    assert sizes.sentence.endswith("0% small, 100% medium, 0% large")
    assert "100% small" in only(check(clean, resize=False), "boxes as the network").sentence


PLANTED = {
    "outside": (
        "110 10 150 10 150 30 110 30 car 0",
        "error",
        "boxes wholly outside their image: 1",
    ),
    "above": ("10 -30 50 -30 50 -10 10 -10 car 0", "error", "boxes wholly outside their image: 1"),
    "beyond": (
        "80 10 120 10 120 30 80 30 car 0",
        "warning",
        "boxes that reach beyond their image by more than 1 pixel: 1 of 25",
    ),
    "flat": ("10 50 50 50 50 50 10 50 car 0", "error", "boxes without area: 1"),
    "point": ("10 50 10 50 10 50 10 50 car 0", "error", "boxes without area: 1"),
    "crossed": (
        "10 40 50 40 10 60 50 60 car 0",
        "warning",
        "boxes whose sides cross, their corners out of order: 1",
    ),
    "against": (
        "10 40 10 60 50 60 50 40 car 0",
        "ok",
        "boxes whose corners run counter-clockwise: 1 of 25; their rectangles are the same, so",
    ),
    "double": (
        "10 10 50 10 50 30.1 10 30 car 0",
        "warning",
        "objects that are annotated twice (IoU above 0.99, same class): 1",
    ),
}


@pytest.mark.parametrize("boxes", ["horizontal", "oriented"])
@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_box_is_found(clean, what, boxes):
    line, severity, words = PLANTED[what]
    annotate(clean, "train/3", CAR, POND, line)
    result = check(clean, boxes=boxes)
    finding = only(result, words)
    assert finding.severity == severity
    if severity == "ok":  # stated, but no alarm
        assert all(found.severity == "ok" for found in result.findings)
        return
    assert finding.examples[0].startswith("images/train/3.png: the box around (")
    assert [f for f in result.findings if f.severity != "ok"] == [finding]


def test_a_box_of_another_class_or_a_neighbour_is_no_double(clean):
    annotate(
        clean, "train/3", CAR, POND, CAR.replace("car", "pond"), "10 11 50 11 50 31 10 31 car 0"
    )
    only(check(clean), "no object is annotated twice")


@pytest.mark.parametrize("boxes", ["horizontal", "oriented"])
def test_doubles_among_thousands_are_found(tmp_path, boxes):
    """A table of all pairs of 10,000 boxes would take gigabytes."""
    for part in ("train", "val"):
        (tmp_path / "images" / part).mkdir(parents=True)
        Image.new("RGB", (1000, 800)).save(tmp_path / "images" / part / f"{part}.png")
    corners = [(x, y) for x in range(0, 1000, 5) for y in range(0, 250, 5)]
    lines = [f"{x} {y} {x + 4} {y} {x + 4} {y + 3} {x} {y + 3} car 0" for x, y in corners]
    annotate(tmp_path, "train/train", *lines, lines[7], lines[77], lines[77])
    annotate(tmp_path, "val/val", CAR)
    tracemalloc.start()
    found = only(check(tmp_path, boxes=boxes), "annotated twice")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500e6
    assert len(found.examples) == 4


def test_a_rounded_border_is_no_fault(clean):
    annotate(clean, "train/3", CAR, POND, "60 -1 101 -1 101 20 60 20 car 0")
    only(check(clean), "every box is inside its image")


def test_unknown_classes_and_every_other_problem_are_listed(clean):
    annotate(clean, "train/3", CAR, "1 2 3 4", POND.replace("pond", "pnod"))
    (clean / "labelTxt/train/4.txt").unlink()
    result = check(clean)
    assert not result.ok
    unknown = only(result, "the class 'pnod' is not among the 2 classes (did you mean 'pond'?)")
    assert unknown.severity == "error"
    only(result, "3.txt:2 is not x1 y1 x2 y2")
    only(result, "images/train/4.png has no annotations in")


def test_unreadable_images_are_listed(clean):
    (clean / "images/train/3.png").write_bytes(b"nothing")
    finding = only(check(clean), "images that cannot be read: 1 of 12")
    assert finding.severity == "error"
    assert "3.png is not a JPEG" in finding.examples[0]


def test_an_image_in_two_parts_is_found(clean):
    pixels = (clean / "images/train/3.png").read_bytes()
    (clean / "images/val/x.png").write_bytes(pixels)
    finding = only(check(clean), "images with an exact copy in another part: 1")
    assert finding.severity == "error"
    annotate(clean, "val/x", CAR)
    only(check(clean), "images that occur with more than one annotation: 1")


def test_an_image_in_the_lists_of_two_parts_is_found(clean):
    for part, stems in (("train", "0\n1\n"), ("val", "1\n2\n")):
        (clean / f"{part}.txt").write_text(stems)
    fields = {"images": "images/train", "annotations": "labelTxt/train", "lists": "{part}.txt"}
    only(check(clean, **fields), "files that are in more than one part: 1")


def test_classes_without_a_box_and_rare_ones_are_named(clean):
    for n in range(1, 10):
        annotate(clean, f"train/{n}", CAR)
    annotate(clean, "val/x")
    annotate(clean, "val/y", POND)
    result = check(clean)
    rare = only(result, "the rarest class is 'pond' with 1: it will be learnt poorly")
    assert rare.severity == "warning"
    assert only(result, "classes without a box in val: 1 of 2").examples == ["car"]
    assert only(result, "images without an object, which are kept: 1").severity == "ok"


@pytest.mark.parametrize(
    ("fields", "advice"),
    [
        # Objects of 6 pixels a side; images of 100 x 80.
        ({"image_size": 98}, "data.image_size="),
        ({"image_size": 98, "resize": False}, "images enlarged 4.7 times, by a finer GSD"),
        ({"image_size": 98, "resize": False, "gsd": 1.4}, "a GSD of 0.3 m"),
    ],
)
def test_the_side_that_makes_the_median_object_two_patches(clean, fields, advice):
    words = "the median object is 6 pixels as the network sees it, less than a patch of 14"
    for name in (*(f"train/{n}" for n in range(10)), "val/x", "val/y"):
        annotate(clean, name, "10 10 16 10 16 16 10 16 car 0", "60 40 66 40 66 46 60 46 pond 0")
    sentence = only(check(clean, **fields), words).sentence
    assert advice in sentence
    if fields.get("resize", True):
        side = int(sentence.split("data.image_size=")[1].split()[0])
        assert side % 14 == 0
        assert 28 <= 6 * side / 100 < 28 + 1  # rounded up to whole patches
        enlarged = check(clean, image_size=side).findings
        assert not any("the median object" in finding.sentence for finding in enlarged)


def test_tiny_objects_are_named_with_what_helps(clean):
    annotate(
        clean, "train/3", *(f"{x} 10 {x + 9} 10 {x + 9} 13 {x} 13 car 0" for x in range(0, 80, 10))
    )
    finding = only(
        check(clean), "boxes with a side below 8 pixels as the network sees them: 8 of 30"
    )
    assert finding.severity == "warning"
    assert "set it to false" in finding.sentence
    finding = only(check(clean, min_box_size=4), "with a side below")
    assert "(8 below data.min_box_size=4)" in finding.sentence
    assert "finer GSD" in only(check(clean, resize=False), "with a side below").sentence


def test_difficult_ones_are_counted(clean):
    annotate(clean, "train/3", CAR.replace("car 0", "car 1"), POND)
    result = check(clean)
    only(result, "boxes that count neither way in a test (difficult): 1")
    assert not any("more than half" in finding.sentence for finding in result.findings)


def test_a_class_that_is_mostly_difficult_is_named(clean):
    for n in range(7):  # of 12 cars, ponds stay as they are
        annotate(clean, f"train/{n}", CAR.replace("car 0", "car 1"), POND)
    finding = only(check(clean), "more than half of the boxes of 'car' are difficult (7 of 12)")
    assert finding.severity == "warning"


def test_deep_images_and_a_wrong_normalisation_are_reported(clean):
    for path in (clean / "images/train").glob("*.png"):
        pixels = np.random.default_rng(int(path.stem)).integers(0, 4000, (80, 100), dtype=np.uint16)
        Image.fromarray(pixels).save(path)
    only(check(clean), "images of more than 8 bits a band: 10; each is stretched by its own")
    only(check(clean, stretch=(0, 4000)), "0 becomes black and 4000 white")
    wrong = Normalization(mean=(0.5, 0.5, 0.5), std=(2, 2, 2))
    assert only(check(clean, wrong), "training pixels").severity == "warning"


def test_images_that_coco_does_not_name_are_reported(clean):
    for part in ("train", "val"):
        box = {"image_id": 0, "category_id": 1, "bbox": [1, 1, 20, 30]}
        content = {
            "images": [{"id": 0, "file_name": "0.png" if part == "train" else "x.png"}],
            "annotations": [box],
            "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "pond"}],
        }
        (clean / f"{part}.json").write_text(json.dumps(content))
    finding = only(
        check(clean, annotations="{part}.json"), "images that the annotations do not name: 10"
    )
    assert finding.examples[0] == "images/train/1.png"


def test_without_anything_to_look_at_the_check_refuses(tmp_path):
    with pytest.raises(UserError, match=r"correct data\.root"):
        check(tmp_path / "no")
    with pytest.raises(UserError, match="no annotations of the part 'train'"):
        check(tmp_path)


def test_data_without_a_box_are_looked_at(clean):
    for path in (clean / "labelTxt").rglob("*.txt"):
        path.write_text("gsd:1")
    for boxes in ("horizontal", "oriented"):
        result = check(clean, boxes=boxes)
        assert result.counts["train"] == [0, 0]
        assert result.sheet.size[0] > 0


def test_the_result_is_shown_and_written(clean, tmp_path):
    result = check(clean)
    text = io.StringIO()
    Console(file=text, width=120).print(render(result))
    assert "car" in text.getvalue()
    assert "10" in text.getvalue()
    write(result, tmp_path / "out")
    facts = json.loads((tmp_path / "out/check.json").read_text())
    assert facts["boxes"]["train"] == {"car": 10, "pond": 10}


def test_the_sheet_shows_the_boxes_where_they_are(tmp_path):
    """A white object on black: the coloured outline runs along its edge."""
    for part in ("train", "val"):
        (tmp_path / "images" / part).mkdir(parents=True)
        image = Image.new("RGB", (200, 200))
        image.paste((255, 255, 255), (80, 60, 120, 100))
        image.save(tmp_path / "images" / part / f"{part}.png")
        annotate(tmp_path, f"{part}/{part}", "80 60 120 60 120 100 80 100 pond 0")
    sheet = np.array(check(tmp_path).sheet).astype(int)
    colored = (sheet.max(-1) - sheet.min(-1)) > 60
    rows, columns = colored[22:].nonzero()  # below the name and its swatch
    # 40 of the 80 pixels that are shown: half of a thumbnail of 160.
    assert np.ptp(rows) == pytest.approx(80, abs=4)
    assert np.ptp(columns) == pytest.approx(80, abs=4)


@pytest.mark.skipif(not (SHARED / "DOTA8").is_dir(), reason="needs the shared DOTA8")
def test_real_boxes_are_well():
    classes = tuple(f"class {n}" for n in range(15))
    result = check(SHARED / "DOTA8", classes=classes, image_size=784)
    assert result.ok
    assert sum(result.counts["train"]) == 125
    only(result, "boxes that reach beyond their image by more than 1 pixel: 17 of 133")
