"""The check of masks: one planted fault after another, and a clean bill for what is clean."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cgeartheye.config import Normalization, SegmentationData
from cgeartheye.data.checks.findings import CheckResult, Finding, render, write
from cgeartheye.data.checks.segmentation import check_masks, overlay_mask
from cgeartheye.data.formats.masks import make_legend
from cgeartheye.utils.errors import UserError

SHARED = Path(__file__).parents[3] / ".." / "shared" / "data"
CLASSES = ("grass", "house")


def check(root: Path, normalization: Normalization | None = None, **fields) -> CheckResult:
    data = SegmentationData(
        root=root, **{"classes": CLASSES, "image_size": 12, "workers": 0, **fields}
    )
    return check_masks(data, normalization)


def only(result: CheckResult, words: str) -> Finding:
    (finding,) = (finding for finding in result.findings if words in finding.sentence)
    return finding


def write_mask(path: Path, *rows: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(rows, np.uint8)).save(path)


@pytest.fixture
def clean(tmp_path, make_image):
    """Two pairs of 8 x 8 pixels a part, an eighth of them 'house'."""
    for seed, name in enumerate(["train/{}/0", "train/{}/1", "val/{}/2", "val/{}/3"]):
        make_image(tmp_path / f"{name.format('Img')}.png", seed)
        write_mask(tmp_path / f"{name.format('Label')}.png", *[[1, *[0] * 7]] * 8)
    return tmp_path


def test_clean_data_are_well(clean):
    result = check(clean)
    assert result.ok
    assert [finding.severity for finding in result.findings] == ["ok"] * 7
    assert result.classes == CLASSES
    assert result.unit == "pixels"
    assert result.counts == {"train": [112, 16], "val": [112, 16]}
    only(
        result,
        "100.0% of all pixels are labelled; the rarest class in training is 'house' with 12.50%",
    )
    only(result, "all 8 images and masks can be read")


def test_every_fault_is_found_in_one_go(clean, make_image):
    whole = (clean / "train/Img/0.png").read_bytes()
    (clean / "train/Img/0.png").write_bytes(whole[:-100])
    (clean / "train/Label/1.png").write_bytes(b"")
    write_mask(clean / "val/Label/2.png", [0] * 8, [1] * 8)
    write_mask(clean / "val/Label/3.png", *[[5, 5, 7, 255, 0, 1, 1, 1]] * 8)
    make_image(clean / "val/Img/4.png", 9)
    make_image(clean / "val/Img/5.png", 10)
    write_mask(clean / "val/Label/5.png", *[[255] * 8] * 8)
    write_mask(clean / "val/Label/stray.png", [0])

    result = check(clean)

    bad = {f.sentence: f.examples for f in result.findings if f.severity == "error"}
    expected = {
        "val/Img/4.png has no mask in": ["val/Img/4.png"],
        "images and masks that cannot be read: 2 of 10": [
            "Img/0.png is truncated or damaged",
            "Label/1.png is",
        ],
        "masks of another size than their image: 1": [
            "val/Img/2.png has 8 x 8 pixels, val/Label/2.png has 8 x 2"
        ],
        "masks with values that are no class: 1; the value 5 (and 1 more) is in 16 pixels: the 2 "
        "classes have the values 0 to 1; correct data.values": [
            "val/Label/3.png: the value 5 in 16 pixels, the value 7 in 8 pixels"
        ],
    }
    assert len(bad) == len(expected)
    for words, examples in expected.items():
        (found,) = (cases for sentence, cases in bad.items() if words in sentence)
        assert len(found) == len(examples)
        for case, example in zip(found, examples, strict=True):
            assert example in case
    assert only(result, "nothing is labelled: 1").examples == ["val/Label/5.png"]
    assert only(result, "masks without an image: 1").examples == ["val/Label/stray.png"]
    assert result.counts == {"train": [56, 8], "val": [16, 32]}


def test_copies(clean):
    shutil.copy(clean / "train/Img/0.png", clean / "train/Img/9.png")
    shutil.copy(clean / "train/Label/0.png", clean / "train/Label/9.png")
    assert only(check(clean), "more than once in the same part: 1").severity == "warning"
    shutil.copy(clean / "train/Img/1.png", clean / "val/Img/2.png")
    found = only(check(clean), "an exact copy in another part: 1")
    assert found.severity == "error"
    assert found.examples == ["train/Img/1.png (train) = val/Img/2.png (val)"]
    write_mask(clean / "val/Label/2.png", *[[0, *[1] * 7]] * 8)
    only(check(clean), "with more than one mask: 1")
    assert only(check(clean, val="train"), "in more than one part: 2").severity == "error"


def test_masks_of_0_and_255_are_not_mistaken(clean):
    for path in clean.glob("*/Label/*.png"):
        write_mask(path, *[[255, 255, *[0] * 6]] * 8)
    found = only(check(clean), "75.0% of all pixels are labelled")
    assert found.severity == "error"
    assert "all 'grass': if 255 in the masks is a class, name the value of each" in found.sentence
    result = check(clean, values=(0, 255))
    assert result.ok
    assert result.counts["train"] == [96, 32]


def test_rare_and_absent_classes(clean):
    assert only(
        check(clean, classes=(*CLASSES, "road")), "without a pixel in val: 1 of 3"
    ).examples == ["road"]
    for folder, fill in (("Img", 3), ("Label", 0)):
        pixels = np.full((40, 60, 3) if folder == "Img" else (40, 60), fill, np.uint8)
        pixels[0, 0] = 1
        for n in (0, 1):
            Image.fromarray(pixels).save(clean / "train" / folder / f"{n}.png")
    assert only(check(clean), "'house' with 0.04%").severity == "warning"


def test_an_input_that_is_mostly_padding(clean):
    assert only(check(clean, image_size=12), "short sides of the images: 8 pixels").severity == "ok"
    found = only(check(clean, image_size=28), "short sides of the images: 8 pixels")
    assert found.severity == "warning"
    assert "data.image_size 28 is mostly padding: try 14" in found.sentence


def test_the_normalisation_is_compared(clean):
    far = Normalization(mean=(0.485, 0.456, 0.406), std=(2.29, 2.24, 2.25))
    assert only(check(clean, far), "training pixels").severity == "warning"
    assert only(check(clean), "training pixels").severity == "ok"


def test_processes_find_the_same_and_report_progress(clean):
    calls = []
    data = SegmentationData(root=clean, classes=CLASSES, image_size=12, workers=2)
    result = check_masks(data, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (8, 8)
    assert result.findings == check(clean).findings


def test_the_sheet_shows_where_each_class_is(clean):
    """A house in a large image is found and shown; its mask is laid over it half and half."""
    picture = np.full((300, 400, 3), 40, np.uint8)
    picture[250:260, 30:40] = (200, 100, 0)
    Image.fromarray(picture).save(clean / "train/Img/0.png")
    labels = np.full((300, 400), 255, np.uint8)
    labels[250:260, 30:40] = 1
    Image.fromarray(labels).save(clean / "train/Label/0.png")

    sheet = np.asarray(check(clean, classes=("void", "house"), values=(7, 1), image_size=20).sheet)

    red = np.array(make_legend(SegmentationData(root=clean, classes=CLASSES)).colors[1])
    house = (sheet == (200, 100, 0)).all(axis=2).sum()
    tinted = (sheet == (np.array([200, 100, 0]) + red) // 2).all(axis=2).sum()
    # A quarter of the 160 pixels a side, less what resizing mixes at the edges.
    assert 0.8 < house / 80**2 <= 1
    assert 0.8 < tinted / 80**2 <= 1


def test_what_is_not_labelled_is_not_tinted():
    image = np.full((1, 2, 3), 101, np.uint8)
    legend = make_legend(
        SegmentationData(root=Path(), classes=CLASSES, colors=((255, 0, 0), (0, 0, 255)))
    )
    shown = overlay_mask(image, np.array([[255, 1]], np.uint8), legend)
    assert shown.tolist() == [[[101, 101, 101], [50, 50, 178]]]


def test_what_is_written_and_what_the_terminal_shows(clean, tmp_path):
    write_mask(clean / "val/Label/2.png", *[[9] * 8] * 8)
    result = check(clean)
    write(result, tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "check.json").read_text())
    assert facts["ok"] is False
    assert facts["pixels"]["train"] == {"grass": 112, "house": 16}
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.size == result.sheet.size
    text = io.StringIO()
    Console(file=text, width=300).print(render(result))
    assert "87.50%" in text.getvalue()
    for finding in result.findings:
        assert finding.sentence in text.getvalue()


def test_nothing_to_look_at(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        check(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    result = check(tmp_path / "empty")
    assert not result.ok
    assert result.counts == {"train": [0, 0], "val": [0, 0]}
    write(result, tmp_path / "out")


@pytest.mark.parametrize(
    ("folder", "fields"),
    [
        ("EPFL-roads", {"test": "test"}),
        ("GSI-solar", {"test": "test"}),
        ("Amazon-forest", {"test": "test"}),
        ("published-samples/ISAID", {"classes": None, "catalog": "iSAID"}),
    ],
)
def test_real_data_are_well(folder, fields):
    root = (SHARED / folder).resolve()
    if not root.is_dir():
        pytest.skip(f"no {folder} in the shared folder")
    result = check(root, **fields)
    assert result.ok
    assert all(sum(counts) > 0 for counts in result.counts.values())
