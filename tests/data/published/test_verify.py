"""What is missing or odd in a data set is named, one by one."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

import downloads

from cgeartheye.config import load
from cgeartheye.data.checks.findings import Finding
from cgeartheye.data.index.scene import survey
from cgeartheye.data.published.convert import convert
from cgeartheye.data.published.data_set import PublishedDataSet
from cgeartheye.data.published.registry import DATA_SETS, find, how_to_get
from cgeartheye.data.published.verify import gaps, verify
from cgeartheye.utils.errors import UserError

ROOT = Path(__file__).parents[3]
SHARED = ROOT.parent / "shared" / "data"


@pytest.mark.parametrize("known", DATA_SETS.values(), ids=lambda one: one.name)
def test_entries_are_whole_and_agree_with_their_configs(known: PublishedDataSet) -> None:
    assert known.page.startswith(("https://", "http://"))
    assert known.license
    assert len(set(known.classes)) == len(known.classes) > 1
    assert known.download.startswith("FOLDER with")
    if isinstance(known.per_class, int):
        assert sum(known.images.values()) == known.per_class * len(known.classes)
    elif known.per_class:
        assert set(known.per_class) == set(known.classes)
        assert sum(known.images.values()) == sum(known.per_class.values())
    if known.config:
        data = load(ROOT / known.config, []).data
        for name in ("root", "catalog", "train", "val", "test"):
            assert getattr(data, name) == getattr(known.data, name), name


def test_the_ten_and_the_small_ones_are_there() -> None:
    assert len(DATA_SETS) == 16
    assert find("dior-r").name == "DIOR-R"
    with pytest.raises(
        UserError, match=r"no data set 'DIORR' is known \(did you mean 'DIOR-R'\?\)"
    ):
        find("DIORR")
    with pytest.raises(UserError, match="data list"):
        find("ImageNet")


def test_where_to_get_it_is_one_sentence() -> None:
    sentence = how_to_get("loveda", Path("datasets/LoveDA"))
    assert sentence == (
        "LoveDA is not in datasets/LoveDA: get it from https://github.com/Junjue-Wang/LoveDA "
        "(licence: CC BY-NC-SA 4.0); then `cgeartheye data convert LoveDA DOWNLOAD datasets/LoveDA`"
    )
    with pytest.raises(UserError, match=r"^UCMerced is not in nowhere: get it from"):
        verify(find("UCMerced"), Path("nowhere"))


@pytest.mark.parametrize(("folder", "name"), [("ISAID", "iSAID"), ("ucmerced", "UCMerced")])
def test_a_missing_folder_of_a_known_name_says_where(tmp_path: Path, folder, name) -> None:
    data = find("UCMerced").data.model_copy(update={"root": tmp_path / folder})
    with pytest.raises(UserError, match=f"no folder .*`cgeartheye data where {name}`"):
        survey(data)
    with pytest.raises(UserError, match=r"put the images there$"):
        survey(data.model_copy(update={"root": tmp_path / "chips"}))


def small_aid(folder: Path) -> PublishedDataSet:
    """Make 30 images of AID; return what is known of so small a one."""
    for label, name in enumerate(("Airport", "BareLand", "BaseballField")):
        for number in range(1, 11):
            path = folder / "download" / name / f"{name.lower()}_{number}.jpg"
            downloads.picture(path, 100 * label + number)
    convert(find("AID"), folder / "download", folder / "AID")
    known = find("AID")
    numbers = dict.fromkeys(known.classes, 0) | dict.fromkeys(
        ("Airport", "BareLand", "BaseballField"), 10
    )
    return replace(
        known, images={"train": 6, "val": 24}, per_class=numbers, checksums={}, side=None
    )


def sentences(findings: list[Finding], severity: str) -> list[str]:
    return [one.sentence for one in findings if one.severity == severity]


def test_a_whole_data_set_is_right(tmp_path: Path) -> None:
    known = small_aid(tmp_path)
    findings = verify(known, tmp_path / "AID", workers=0)
    assert {one.severity for one in findings} == {"ok"}
    assert sentences(findings, "ok") == [
        "images of val_20per.txt: 6",
        "images of train_80per.txt: 24",
        "all 30 class folders have their numbers of images",
        "all 30 files can be read",
    ]


def test_every_fault_is_named(tmp_path: Path) -> None:
    known = replace(
        small_aid(tmp_path), side=600, checksums={"val_20per.txt": "0", "absent.txt": "0"}
    )
    folder = tmp_path / "AID"
    (folder / "Airport" / "airport_3.jpg").unlink()
    cut = folder / "BareLand" / "bareland_4.jpg"
    content = cut.read_bytes()
    cut.unlink()  # it is a link to the download, which stays as it is
    cut.write_bytes(content[:-20])
    odd = folder / "BaseballField" / "odd name.jpg"
    (folder / "BaseballField" / "baseballfield_1.jpg").rename(odd)
    for name in ("train_80per.txt", "val_20per.txt"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("baseballfield_1.jpg", "odd name.jpg"))

    findings = verify(known, folder, workers=0)
    errors, warnings = sentences(findings, "error"), sentences(findings, "warning")
    assert any("Airport/airport_3.jpg is not in" in sentence for sentence in errors)
    assert "class folders with other numbers of images: 1" in errors
    (folders,) = [one for one in findings if one.sentence.startswith("class folders")]
    assert folders.examples == ["Airport: 9, published 10; missing airport_3"]
    assert "files that cannot be read: 1 of 29" in errors
    (unreadable,) = [one for one in findings if "cannot be read" in one.sentence]
    assert unreadable.examples == [f"{cut} is cut off: download it again"]
    assert any(sentence.startswith("images with names") for sentence in warnings)
    assert any("is another list than the published one" in sentence for sentence in warnings)
    assert any("28 have 12 x 10; they were resized" in sentence for sentence in warnings)
    assert (tmp_path / "download" / "Airport" / "airport_3.jpg").is_file()
    assert (tmp_path / "download" / "BareLand" / "bareland_4.jpg").read_bytes() == content


def test_a_missing_mask_and_too_few_patches(tmp_path: Path) -> None:
    downloads.isaid(tmp_path / "in", {"train/P0000": (30, 20), "val/P0001": (950, 20)})
    convert(find("iSAID"), tmp_path / "in", tmp_path / "out")
    known = replace(find("iSAID"), images={"train": 1, "val": 2})
    assert {one.severity for one in verify(known, tmp_path / "out", workers=0)} == {"ok"}
    name = "P0001_0_896_54_950_instance_color_RGB.png"
    (tmp_path / "out" / "ann_dir" / "val" / name).unlink()
    errors = sentences(verify(known, tmp_path / "out", workers=0), "error")
    assert any("P0001_0_896_54_950.png has no mask" in sentence for sentence in errors)
    assert "images of val: 1, published 2" in errors


def test_missing_numbers_of_dior_and_objects(tmp_path: Path) -> None:
    numbers = [1, 2, 3, 5, 6]
    for number in numbers:
        downloads.picture(tmp_path / "in" / f"{number:05d}.jpg", number)
        path = tmp_path / "in" / "Horizontal Bounding Boxes" / f"{number:05d}.xml"
        downloads.voc(path, [("ship", (1, 1, 5, 5))] * number)
    convert(find("DIOR"), tmp_path / "in", tmp_path / "out")
    (tmp_path / "out" / "images" / "test").mkdir()
    known = replace(find("DIOR"), images={"train": 6, "val": 2}, objects=21)
    findings = verify(known, tmp_path / "out", workers=0)
    (few,) = [one for one in findings if one.sentence == "images of trainval: 5, published 6"]
    assert few.examples == ["00004"]
    assert "objects: 17, published 21" in sentences(findings, "warning")


@pytest.mark.parametrize(
    ("stems", "first", "count", "missing"),
    [
        (["port_1", "port_3"], 1, 3, ["port_2"]),
        (["beach01", "beach02"], 0, 3, ["beach00"]),
        (["00002"], 1, 3, ["00001", "00003"]),
        (["a_1", "b_2"], 1, 3, []),
        (["a", "b"], 1, 3, []),
        ([], 1, 3, []),
    ],
)
def test_gaps(stems, first, count, missing) -> None:
    assert gaps(stems, first, count) == missing


@pytest.mark.skipif(not SHARED.is_dir(), reason="real imagery is not there")
def test_real_aid_has_its_published_lists() -> None:
    findings = verify(replace(find("AID"), side=150), SHARED / "AID-150", workers=2)
    assert {one.severity for one in findings} == {"ok"}
    assert "val_20per.txt is the published list" in sentences(findings, "ok")
