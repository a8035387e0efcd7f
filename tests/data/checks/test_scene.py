"""The check: one planted fault after another, and a clean bill for what is clean."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rich.console import Console

from cgeartheye.config import Backbone, Normalization, SceneClassification, SceneData
from cgeartheye.data.checks.contact_sheet import THUMBNAIL
from cgeartheye.data.checks.scene import CheckResult, Finding, check_scenes, render, write
from cgeartheye.utils.errors import UserError

SHARED = Path(__file__).parents[3] / ".." / "shared" / "data"


def check(
    root: Path, normalization: Normalization | None = None, workers: int = 0, **fields: object
) -> CheckResult:
    data = SceneData(root=root, workers=workers, **({"image_size": 14} | fields))
    return check_scenes(
        SceneClassification(backbone=Backbone(name="tiny"), data=data), normalization
    )


def only(result: CheckResult, words: str) -> Finding:
    (finding,) = (finding for finding in result.findings if words in finding.sentence)
    return finding


@pytest.fixture
def clean(tmp_path, make_folders, write_list):
    """Two classes in two lists, nothing wrong."""
    names = make_folders(tmp_path, {"Airport": 4, "Port": 4})
    labels = {name: int(name.startswith("Port")) for name in names}
    write_list(tmp_path / "train.txt", {n: labels[n] for n in names if n[-5] in "01"})
    write_list(tmp_path / "val.txt", {n: labels[n] for n in names if n[-5] in "23"})
    return tmp_path


LISTS = {"train": "train.txt", "val": "val.txt"}


def test_clean_data_are_well(clean):
    result = check(clean, **LISTS)
    assert result.ok
    assert [finding.severity for finding in result.findings] == ["ok"] * 6
    assert result.classes == ("Airport", "Port")
    assert result.counts == {"train": [2, 2], "val": [2, 2]}


def test_every_fault_is_found_in_one_go(clean, make_image):
    (clean / "Airport" / "Airport_0.png").unlink()
    whole = (clean / "Port" / "Port_1.png").read_bytes()
    (clean / "Port" / "Port_1.png").write_bytes(whole[:-100])
    shutil.copy(clean / "Port" / "Port_0.png", clean / "Port" / "copy.png")
    make_image(clean / "Port" / "stray.png", 100)
    with (clean / "val.txt").open("a") as file:
        file.write(
            "nonsense\n"
            "Port/Port_2.png 2\n"
            "Port/copy.png 1\n"
            "Airport/Airport_1.png 0\n"
            "Port/stray.png 0\n"
        )

    result = check(clean, **LISTS, classes=("Airport", "Port"))

    assert not result.ok
    errors = {f.sentence: f.examples for f in result.findings if f.severity == "error"}
    expected = {
        "is not a path and a label": ["nonsense"],
        "is out of range": ["val.txt:6: label 2 of Port/Port_2.png"],
        "1 of 4 images are missing": ["train.txt:1: Airport/Airport_0.png"],
        "images that cannot be read: 1 of 9": ["Port_1.png is truncated or damaged"],
        "disagrees with their folder: 1": ["val.txt:9: Port/stray.png has label 0, 'Airport'"],
        "an exact copy in another part: 1": [
            "Port/Port_0.png (train, Port) = Port/copy.png (val, Port)"
        ],
        "in more than one part: 1": [
            "Airport/Airport_1.png (train, Airport) = Airport/Airport_1.png (val, Airport)"
        ],
    }
    assert len(errors) == len(expected)
    for words, examples in expected.items():
        (found,) = (cases for sentence, cases in errors.items() if words in sentence)
        assert len(found) == len(examples)
        for case, example in zip(found, examples, strict=True):
            assert example in case


def test_repetitions_within_a_part_and_with_two_labels(clean, write_list):
    shutil.copy(clean / "Port" / "Port_0.png", clean / "Port" / "copy.png")
    write_list(
        clean / "train.txt", {"Port/Port_0.png": 1, "Port/copy.png": 1, "Airport/Airport_0.png": 0}
    )
    result = check(clean, **LISTS)
    assert result.ok
    assert only(result, "more than once in the same part: 1").severity == "warning"

    with (clean / "train.txt").open("a") as file:
        file.write("Port/Port_1.png 0\nPort/Port_1.png 1\n")
    result = check(clean, **LISTS, classes=("Airport", "Port"))
    found = only(result, "with more than one label: 1")
    assert found.severity == "error"
    assert found.examples == ["Port/Port_1.png (train, Airport) = Port/Port_1.png (train, Port)"]


def test_the_same_pixels_in_another_format_are_a_copy(clean):
    Image.open(clean / "Port" / "Port_2.png").save(clean / "Port" / "other.bmp")
    with (clean / "train.txt").open("a") as file:
        file.write("Port/other.bmp 1\n")
    assert only(check(clean, **LISTS), "an exact copy in another part: 1").severity == "error"


def test_images_of_the_same_colour_but_another_shape_are_no_copies(clean):
    for n, size in enumerate([(6, 4), (4, 6), (8, 3)]):
        Image.new("RGB", size, (9, 9, 9)).save(clean / "Port" / f"Port_{n}.png")
    assert only(check(clean, **LISTS), "no two images have the same pixels").severity == "ok"


def test_imbalance_and_empty_classes(tmp_path, make_folders):
    make_folders(tmp_path / "train", {"few": 1, "many": 11})
    make_folders(tmp_path / "val", {"few": 1})
    result = check(tmp_path, train="train", val="val")
    assert only(result, "training images a class: 1 to 11").severity == "warning"
    assert only(result, "classes without an image in val: 1 of 2").examples == ["many"]
    (tmp_path / "train" / "many" / "many_10.png").unlink()
    assert only(check(tmp_path, train="train", val="val"), "1 to 10").severity == "ok"


def test_small_images_are_warned_of(clean):
    sentence = "short sides of the images: 8 pixels, 8 in the median"
    assert only(check(clean, **LISTS, image_size=20), sentence).severity == "ok"
    found = only(check(clean, **LISTS, image_size=28), sentence)
    assert found.severity == "warning"
    assert "enlarges them 3.5 times: try 14, which has 4 times fewer patches" in found.sentence


def test_depth_without_a_stretch_is_warned_of(clean):
    values = np.random.default_rng(0).integers(0, 3000, (3, 8, 8)).astype("uint16")
    with rasterio.open(
        clean / "Port" / "deep.tif", "w", driver="GTiff", count=3, height=8, width=8, dtype="uint16"
    ) as file:
        file.write(values)
    with (clean / "train.txt").open("a") as file:
        file.write("Port/deep.tif 1\n")
    found = only(check(clean, **LISTS), "more than 8 bits a band: 1")
    assert found.severity == "warning"
    assert found.examples == ["Port/deep.tif"]
    assert only(check(clean, **LISTS, stretch=(0, 3000)), "8 bits a band: 1").severity == "ok"


def test_statistics_are_those_of_the_training_pixels(clean):
    pixels = np.concatenate(
        [
            np.asarray(Image.open(clean / folder / f"{folder}_{n}.png")).reshape(-1, 3)
            for folder in ("Airport", "Port")
            for n in (0, 1)
        ]
    )
    mean, std = pixels.mean(axis=0), pixels.std(axis=0)

    def in_words(values: np.ndarray, digits: int) -> str:
        return ", ".join(f"{value:.{digits}f}" for value in values)

    found = only(check(clean, **LISTS), "training pixels")
    assert found.sentence == (
        f"training pixels: mean {in_words(mean, 1)}, standard deviation {in_words(std, 1)}"
    )
    fitting = Normalization(mean=tuple(mean + 20), std=tuple(std * 1.5))
    found = only(check(clean, fitting, **LISTS), "training pixels")
    assert found.severity == "ok"
    center = in_words(-20 / (std * 1.5), 2)
    assert f"normalised: {center} and 0.67, 0.67, 0.67" in found.sentence
    for wrong in (
        Normalization(mean=(0.485, 0.456, 0.406), std=(2.29, 2.24, 2.25)),
        Normalization(mean=tuple(mean), std=tuple(std * 2.5)),
        Normalization(mean=tuple(mean), std=tuple(std / 2.5)),
        Normalization(mean=tuple(mean + 1.5 * std), std=tuple(std)),
    ):
        assert only(check(clean, wrong, **LISTS), "training pixels").severity == "warning"


def test_processes_find_the_same_and_report_progress(clean):
    config = SceneClassification(
        backbone=Backbone(name="tiny"), data=SceneData(root=clean, **LISTS, workers=2)
    )
    calls = []
    result = check_scenes(config, progress=lambda done, total: calls.append((done, total)))
    alone = check(clean, **LISTS, image_size=518)
    assert calls[-1] == (8, 8)
    assert result.findings == alone.findings
    assert np.array_equal(result.sheet, alone.sheet)


def test_the_contact_sheet_shows_every_class(clean):
    for folder, color in (("Airport", (255, 0, 0)), ("Port", (0, 0, 255))):
        for n in (0, 1):
            Image.new("RGB", (30, 20), color).save(clean / folder / f"{folder}_{n}.png")
    sheet = np.asarray(check(clean, **LISTS).sheet)
    for color in ((255, 0, 0), (0, 0, 255)):
        assert (sheet == color).all(axis=2).sum() == 2 * THUMBNAIL**2
    assert (sheet < 100).all(axis=2).any()  # ink


def test_what_is_written_and_what_the_terminal_shows(clean, tmp_path):
    (clean / "Port" / "Port_0.png").write_bytes(b"")
    result = check(clean, **LISTS)
    write(result, tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "check.json").read_text())
    assert facts["ok"] is False
    assert facts["images"] == {
        "train": {"Airport": 2, "Port": 2},
        "val": {"Airport": 2, "Port": 2},
    }
    assert len(facts["findings"]) == len(result.findings)
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.size == result.sheet.size

    text = io.StringIO()
    Console(file=text, width=200).print(render(result))
    for finding in result.findings:
        assert finding.sentence in text.getvalue()
    assert "Port_0.png is empty" in text.getvalue()


def test_hundreds_of_examples_are_counted_not_printed(clean):
    for folder in ("Airport", "Port"):
        for n in range(4):
            (clean / folder / f"{folder}_{n}.png").write_bytes(b"")
    result = check(clean, **LISTS)
    assert len(only(result, "cannot be read: 8 of 8").examples) == 8
    text = io.StringIO()
    Console(file=text, width=400).print(render(result))
    assert text.getvalue().count("is empty") == 5
    assert "and 3 more" in text.getvalue()


def test_nothing_to_look_at(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        check(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    result = check(tmp_path / "empty")
    assert not result.ok
    assert "ok" not in {finding.severity for finding in result.findings}  # nothing was looked at
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "contact_sheet.png").write_text("of an earlier check")
    write(result, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["check.json"]
    text = io.StringIO()
    Console(file=text, width=400).print(render(result))
    assert "class folders" in text.getvalue()
    assert "┃" not in text.getvalue()


@pytest.mark.parametrize(
    ("folder", "one", "other"),
    [
        ("UCMerced/airplane", "airplane01.jpg", "airplane02.jpg"),
        ("AID-150/Industrial", "industrial_203.jpg", "industrial_205.jpg"),
    ],
)
def test_known_copies_in_real_data(tmp_path, folder, one, other):
    images = sorted((SHARED / folder).resolve().glob("*.jpg"))
    if not images:
        pytest.skip(f"no images in the shared folder {folder}")
    train = [path for path in images if path.name != one]
    (tmp_path / "train.txt").write_text("".join(f"{path} 0\n" for path in train))
    (tmp_path / "val.txt").write_text(f"{SHARED.resolve() / folder / one} 0\n")
    result = check(tmp_path, **LISTS, classes=("any",))
    (case,) = only(result, "an exact copy in another part: 1").examples
    assert f"{other} (train" in case
    assert f"{one} (val" in case
