"""Downloads become the layouts that configs read, and nothing is lost on the way."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from faster_coco_eval import COCO
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

sys.path.append(str(Path(__file__).parent))

import downloads

from cgeartheye.config import ChangeData, DetectionData, SceneData, SegmentationData
from cgeartheye.data.index.detection import survey_boxes
from cgeartheye.data.index.scene import survey
from cgeartheye.data.index.segmentation import survey_masks, survey_pairs
from cgeartheye.data.published.convert import convert
from cgeartheye.data.published.masks import patches
from cgeartheye.data.published.registry import find
from cgeartheye.utils.errors import UserError
from failing_writes import fail_each


def run(name: str, source: Path, out: Path) -> list[str]:
    return convert(find(name), source, out)


def published_patches(height: int, width: int, side: int, overlap: int) -> set:
    """The loop that mmsegmentation cuts iSAID with, after its padding."""
    height, width = max(height, side), max(width, side)
    found = set()
    for x in range(0, width, side - overlap):
        for y in range(0, height, side - overlap):
            shift_x, shift_y = max(x + side - width, 0), max(y + side - height, 0)
            found.add((y - shift_y, y - shift_y + side, x - shift_x, x - shift_x + side))
    return found


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(20, 90), st.data())
def test_patches_are_the_published_ones_and_cover_all(height, width, side, data) -> None:
    overlap = data.draw(st.integers(0, side // 2))
    found = patches(height, width, side, side - overlap)
    assert set(found) == published_patches(height, width, side, overlap)
    seen = np.zeros((max(height, side), max(width, side)), dtype=bool)
    for top, bottom, left, right in found:
        assert (bottom - top, right - left) == (side, side)
        seen[top:bottom, left:right] = True
    assert seen.all()


SIZES = {"train/P0000": (1000, 950), "train/P0002": (300, 896), "val/P0003": (897, 40)}


def test_isaid_patches_give_the_images_back(tmp_path: Path) -> None:
    found = downloads.isaid(tmp_path / "in", SIZES)
    assert run("iSAID", tmp_path / "in", tmp_path / "out") == []
    masks = survey_masks(SegmentationData(root=tmp_path / "out", catalog="iSAID"))
    assert masks.problems == []
    assert {part: len(samples) for part, samples in masks.parts.items()} == {"train": 5, "val": 2}
    for name, (image, labels) in found.items():
        part, stem = name.split("/")
        height, width = labels.shape
        canvas = np.full((max(height, 896), max(width, 896), 3), 7, dtype=np.uint8)
        mask = np.full(canvas.shape[:2], 7, dtype=np.uint8)
        for path in (tmp_path / "out" / "img_dir" / part).glob(f"{stem}_*.png"):
            top, bottom, left, right = map(int, path.stem.split("_")[1:])
            canvas[top:bottom, left:right] = downloads.pixels_of(path)
            other = tmp_path / "out" / "ann_dir" / part / f"{path.stem}_instance_color_RGB.png"
            mask[top:bottom, left:right] = downloads.pixels_of(other)
        np.testing.assert_array_equal(canvas[:height, :width], image)
        np.testing.assert_array_equal(mask[:height, :width], labels)
        assert (canvas[height:] == 0).all()
        assert (canvas[:, width:] == 0).all()
        assert (mask[height:] == 255).all()
        assert (mask[:, width:] == 255).all()


def test_potsdam_tiles_give_the_images_back(tmp_path: Path) -> None:
    found = downloads.potsdam(tmp_path / "in", {"2_10": (600, 520), "07_13": (512, 512)})
    assert run("Potsdam", tmp_path / "in", tmp_path / "out") == []
    out = tmp_path / "out"
    assert sorted(path.name for path in (out / "img_dir" / "val").iterdir()) == [
        "7_13_0_0_512_512.png"
    ]
    image, labels = found["2_10"]
    canvas, mask = np.zeros_like(image), np.zeros(labels.shape)
    for path in (out / "img_dir" / "train").iterdir():
        left, top, right, bottom = map(int, path.stem.split("_")[2:])
        canvas[top:bottom, left:right] = downloads.pixels_of(path)
        mask[top:bottom, left:right] = downloads.pixels_of(out / "ann_dir" / "train" / path.name)
    np.testing.assert_array_equal(canvas, image)
    np.testing.assert_array_equal(mask, labels)
    assert survey_masks(SegmentationData(root=out, catalog="Potsdam")).problems == []


def test_colors_of_no_class_are_not_labelled_and_named(tmp_path: Path) -> None:
    downloads.potsdam(tmp_path / "in", {"2_10": (512, 512)})
    mask = tmp_path / "in" / "labels" / "top_potsdam_2_10_label_noBoundary.tif"
    pixels = np.array(Image.open(mask))
    pixels[3, 4] = (252, 255, 0)
    Image.fromarray(pixels).save(mask)
    (warning,) = run("Potsdam", tmp_path / "in", tmp_path / "out")
    assert "(252, 255, 0) in 1 pixels" in warning
    written = tmp_path / "out" / "ann_dir" / "train" / "2_10_0_0_512_512.png"
    assert downloads.pixels_of(written)[3, 4] == 0


BOXES = {
    "00001": [("golffield", (133, 237, 684, 672))],
    "00002": [("Expressway-Service-area", (1, 2, 3.5, 9)), ("ship", (4, 4, 6, 8))],
    "11726": [("vehicle", (0, 0, 12, 10))],
}


def test_dior_becomes_coco(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for seed, (stem, boxes) in enumerate(BOXES.items()):
        folder = "JPEGImages-trainval" if seed < 2 else "JPEGImages-test"
        downloads.picture(source / folder / f"{stem}.jpg", seed, (800, 700))
        downloads.voc(source / "Annotations" / "Horizontal Bounding Boxes" / f"{stem}.xml", boxes)
        corners = [1, 1, 5, 1, 5, 3, 1, 3]
        downloads.robndbox(
            source / "Annotations" / "Oriented Bounding Boxes" / f"{stem}.xml", "dam", corners
        )
    run("DIOR", source, out)
    found = {}
    for part in ("trainval", "test"):
        coco = COCO(str(out / "Annotations" / f"{part}.json"))
        for image in coco.loadImgs(coco.getImgIds()):
            assert (image["width"], image["height"]) == (800, 700)
            assert (out / "images" / part / image["file_name"]).is_file()
            found[image["file_name"][:5]] = [
                (
                    coco.loadCats(one["category_id"])[0]["name"],
                    (*one["bbox"][:2], *np.add(one["bbox"][:2], one["bbox"][2:])),
                )
                for one in coco.loadAnns(coco.getAnnIds(image["id"]))
            ]
    expected = {stem: [(name.lower(), box) for name, box in boxes] for stem, boxes in BOXES.items()}
    assert found == expected

    data = DetectionData(root=out, catalog="DIOR", train="trainval", val="test")
    assert survey_boxes(data).problems == []
    run("DIOR-R", source, tmp_path / "oriented")
    data = DetectionData(
        root=tmp_path / "oriented", catalog="DIOR-R", boxes="oriented", train="trainval", val="test"
    )
    boxes = survey_boxes(data)
    assert boxes.problems == []
    assert [len(images) for images in boxes.parts.values()] == [2, 1]


def test_dior_with_a_wrong_annotation_is_refused(tmp_path: Path) -> None:
    downloads.picture(tmp_path / "in" / "00001.jpg", 0)
    with pytest.raises(UserError, match=r"00001.jpg \(of 1\) has no annotation file"):
        run("DIOR", tmp_path / "in", tmp_path / "out")
    downloads.voc(
        tmp_path / "in" / "Horizontal Bounding Boxes" / "00001.xml", [("cow", (1, 1, 2, 2))]
    )
    with pytest.raises(UserError, match="the class 'cow'"):
        run("DIOR", tmp_path / "in", tmp_path / "out")


def test_vhr10_becomes_coco(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for number in range(1, 11):
        downloads.picture(source / "positive image set" / f"{number:03d}.jpg", number, (50, 40))
        text = source / "ground truth" / f"{number:03d}.txt"
        text.parent.mkdir(exist_ok=True)
        text.write_text(f"({number},2),(30, 20),{number} \r\n\n")
    run("NWPU-VHR-10", source, tmp_path / "out")
    known = find("NWPU-VHR-10")
    boxes = survey_boxes(known.data.model_copy(update={"root": tmp_path / "out"}))
    assert boxes.problems == []
    assert {part: len(images) for part, images in boxes.parts.items()} == {"train": 7, "val": 3}
    for images in boxes.parts.values():
        for name, objects in images.items():
            number = int(Path(name).stem)
            assert objects.labels.tolist() == [number - 1]
            np.testing.assert_array_equal(objects.corners[0, ::2], [[number, 2], [30, 20]])


def test_text_that_is_none_is_named(tmp_path: Path) -> None:
    downloads.picture(tmp_path / "in" / "positive image set" / "001.jpg", 1, (50, 40))
    text = tmp_path / "in" / "ground truth" / "001.txt"
    text.parent.mkdir()
    text.write_bytes(b"\xff\xfe(1,2)")
    with pytest.raises(UserError, match=r"001\.txt cannot be read as text: save it as UTF-8"):
        run("NWPU-VHR-10", tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "folders", "suffix"),
    [
        ("LEVIR-CD", ("A", "B", "label"), ".png"),
        ("SYSU-CD", ("time1", "time2", "label"), ".png"),
        ("CDD", ("A", "B", "OUT"), ".jpg"),
    ],
)
def test_pairs_get_the_names_of_configs(tmp_path: Path, name, folders, suffix) -> None:
    source = tmp_path / "in" / "Real" / "subset"
    downloads.pairs(source, folders, suffix)
    if name == "CDD":
        downloads.pairs(tmp_path / "in" / "without_shift", folders, suffix)
    run(name, tmp_path / "in", tmp_path / "out")
    survey_of = survey_pairs(ChangeData(root=tmp_path / "out", catalog=name, test="test"))
    assert survey_of.problems == []
    assert [len(samples) for samples in survey_of.parts.values()] == [1, 1, 1]
    for ours, theirs in zip(("Image1", "Image2", "Label"), folders, strict=True):
        made = (tmp_path / "out" / "val" / ours / f"00001{suffix}").read_bytes()
        assert made == (source / "val" / theirs / f"00001{suffix}").read_bytes()


def test_loveda_brings_urban_and_rural_together(tmp_path: Path) -> None:
    for number, place in enumerate(("Train/Rural", "Train/Urban", "Val/Urban", "Test/Urban")):
        downloads.picture(tmp_path / "in" / place / "images_png" / f"{number}.png", number)
        if "Test" not in place:
            downloads.picture(tmp_path / "in" / place / "masks_png" / f"{number}.png", 9)
    run("LoveDA", tmp_path / "in", tmp_path / "out")
    found = survey_masks(SegmentationData(root=tmp_path / "out", catalog="LoveDA"))
    assert found.problems == []
    assert [len(samples) for samples in found.parts.values()] == [2, 1]
    assert (tmp_path / "out" / "img_dir" / "test" / "3.png").is_file()


def test_two_files_that_become_one_are_refused(tmp_path: Path) -> None:
    for place in ("Rural", "Urban"):
        for kind in ("images_png", "masks_png"):
            downloads.picture(tmp_path / "in" / "Train" / place / kind / "0.png", 0)
    with pytest.raises(UserError, match=r"would become img_dir/train/0.png"):
        run("LoveDA", tmp_path / "in", tmp_path / "out")


def test_roads_are_divided_and_cut(tmp_path: Path) -> None:
    for number in range(1, 51):
        downloads.picture(tmp_path / "in/training/images" / f"satImage_{number:03d}.png", number)
        path = tmp_path / "in/training/groundtruth" / f"satImage_{number:03d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.array([[0, 127, 128, 255]], dtype=np.uint8)).save(path)
    run("EPFL-roads", tmp_path / "in", tmp_path / "out")
    known = find("EPFL-roads")
    found = survey_masks(known.data.model_copy(update={"root": tmp_path / "out"}))
    assert [len(samples) for samples in found.parts.values()] == [32, 6, 12]
    mask = tmp_path / "out" / found.parts["test"][0].mask
    assert downloads.pixels_of(mask).tolist() == [[0, 0, 1, 1]]


def make_aid(folder: Path, images: int = 10) -> None:
    for label, name in enumerate(("Airport", "BareLand", "BaseballField")):
        for number in range(1, images + 1):
            downloads.picture(folder / name / f"{name.lower()}_{number}.jpg", 100 * label + number)


def test_lists_are_drawn_where_there_are_none(tmp_path: Path) -> None:
    make_aid(tmp_path / "in" / "AID")
    warnings = run("AID", tmp_path / "in", tmp_path / "out")
    assert [warning.split()[0] for warning in warnings] == ["train_80per.txt", "val_20per.txt"]
    data = SceneData(
        root=tmp_path / "out", catalog="AID", train="val_20per.txt", val="train_80per.txt"
    )
    found = survey(data)
    assert found.problems == []
    parts = {part: {one.name for one in entries} for part, entries in found.parts.items()}
    assert {part: len(names) for part, names in parts.items()} == {"train": 6, "val": 24}
    assert not parts["train"] & parts["val"]
    assert all(one.name.split("/")[0] == found.classes[one.label] for one in found.parts["val"])

    # An image that comes later is in the lists too, and the old images are where they were.
    downloads.picture(tmp_path / "in" / "AID" / "Airport" / "airport_11.jpg", 11)
    run("AID", tmp_path / "in", tmp_path / "out")
    assert sum(len(entries) for entries in survey(data).parts.values()) == 31


def test_published_lists_are_kept(tmp_path: Path) -> None:
    make_aid(tmp_path / "in")
    for name in ("train_80per.txt", "val_20per.txt"):
        (tmp_path / "in" / name).write_text("Airport/airport_1.jpg 0\n")
    assert run("AID", tmp_path / "in", tmp_path / "out") == []
    assert (tmp_path / "out" / "val_20per.txt").read_text() == "Airport/airport_1.jpg 0\n"


def test_a_list_alone_leaves_all_other_images_to_the_other_part(tmp_path: Path) -> None:
    make_aid(tmp_path / "in")
    (tmp_path / "in" / "val_20per.txt").write_text("Airport/airport_1.jpg 0\n")
    (warning,) = run("AID", tmp_path / "in", tmp_path / "out")
    assert warning.startswith("train_80per.txt has all images that the other list has not")
    lines = (tmp_path / "out" / "train_80per.txt").read_text().splitlines()
    assert len(lines) == 29
    assert "Airport/airport_1.jpg 0" not in lines


def test_a_corrected_download_is_taken(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    make_aid(source)
    image = source / "Airport" / "airport_1.jpg"
    whole = image.read_bytes()
    image.write_bytes(whole[:100])
    assert len(run("AID", source, out)) == 2  # drawn lists
    image.unlink()
    image.write_bytes(whole)
    for name in ("train_80per.txt", "val_20per.txt"):
        (source / name).write_text("Airport/airport_1.jpg 0\n")
    before = downloads.files(source)
    assert run("AID", source, out) == []
    assert (out / "val_20per.txt").read_text() == "Airport/airport_1.jpg 0\n"
    assert (out / "Airport" / "airport_1.jpg").read_bytes() == whole
    assert downloads.files(source) == before


def test_corrected_annotations_are_taken(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    downloads.picture(source / "JPEGImages-trainval" / "00001.jpg", 0)
    annotation = source / "Annotations" / "Horizontal Bounding Boxes" / "00001.xml"
    downloads.voc(annotation, [("ship", (1, 1, 5, 5))])
    run("DIOR", source, out)
    downloads.voc(annotation, [("ship", (1, 1, 5, 5)), ("ship", (2, 2, 6, 6))])
    run("DIOR", source, out)
    content = json.loads((out / "Annotations" / "trainval.json").read_text())
    assert len(content["annotations"]) == 2


def test_class_folders_in_any_spelling(tmp_path: Path) -> None:
    downloads.picture(tmp_path / "in" / "RS19" / "FootballField" / "a_1.jpg", 0)
    downloads.picture(tmp_path / "in" / "RS19" / "railway station" / "b_1.jpg", 1)
    run("WHU-RS19", tmp_path / "in", tmp_path / "out")
    made = downloads.files(tmp_path / "out")
    assert sorted(made) == ["footballField/a_1.jpg", "railwayStation/b_1.jpg"]


def test_any_failed_write_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads.isaid(tmp_path / "isaid", {"train/P0000": (1000, 40), "val/P0001": (30, 20)})
    times = fail_each(
        monkeypatch,
        lambda out: run("iSAID", tmp_path / "isaid", out),
        downloads.files,
        tmp_path / "failing",
        few=3,
    )
    assert times


def test_dior_again_after_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2, 11_726):
        downloads.picture(tmp_path / "in" / f"{number:05d}.jpg", number)
        path = tmp_path / "in" / "Horizontal Bounding Boxes" / f"{number:05d}.xml"
        downloads.voc(path, [("ship", (1, 1, 5, 5))])
    fail_each(
        monkeypatch,
        lambda out: run("DIOR", tmp_path / "in", out),
        downloads.files,
        tmp_path / "failing",
        few=3,
    )


def test_a_summary_of_fewer_images_is_made_again(tmp_path: Path) -> None:
    for number in (1, 2):
        downloads.picture(tmp_path / "in" / f"{number:05d}.jpg", number)
        path = tmp_path / "in" / "Horizontal Bounding Boxes" / f"{number:05d}.xml"
        downloads.voc(path, [("ship", (1, 1, 5, 5))])
        run("DIOR", tmp_path / "in", tmp_path / "out")
        coco = json.loads((tmp_path / "out" / "Annotations" / "trainval.json").read_text())
        assert len(coco["images"]) == number


def test_nothing_of_another_is_overwritten(tmp_path: Path) -> None:
    make_aid(tmp_path / "in", 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty, and nothing is overwritten"):
        run("AID", tmp_path / "in", tmp_path / "mine")
    run("AID", tmp_path / "in", tmp_path / "out")
    downloads.picture(tmp_path / "other" / "agricultural" / "agricultural00.jpg", 0)
    with pytest.raises(UserError, match="is being made from AID in"):
        run("UCMerced", tmp_path / "other", tmp_path / "out")
    for out in (tmp_path / "in", tmp_path / "in" / "new", tmp_path):
        with pytest.raises(UserError, match="are within each other"):
            run("AID", tmp_path / "in", out)
    with pytest.raises(UserError, match="no folder"):
        run("AID", tmp_path / "absent", tmp_path / "new")


def test_archives_are_to_be_extracted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=r"holds nothing of DIOR, .* to be had from"):
        run("DIOR", tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "JPEGImages-test.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"extract JPEGImages-test.zip first"):
        run("DIOR", tmp_path / "in", tmp_path / "out")


def test_damaged_and_lonely_files_are_named(tmp_path: Path) -> None:
    downloads.isaid(tmp_path / "in", {"train/P0000": (30, 20), "val/P0001": (30, 20)})
    image = tmp_path / "in" / "train" / "images" / "P0000.png"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"P0000.png is truncated or damaged"):
        run("iSAID", tmp_path / "in", tmp_path / "out")
    image.write_bytes(whole)
    run("iSAID", tmp_path / "in", tmp_path / "out")
    image.unlink()
    with pytest.raises(UserError, match=r"P0000_instance_color_RGB.png \(of 1\) has no image"):
        run("iSAID", tmp_path / "in", tmp_path / "out")
