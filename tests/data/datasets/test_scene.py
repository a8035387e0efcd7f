"""Scene data: what a config's parts hold, messages about mistakes, what a view depends on."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from cgeartheye.config import SceneData
from cgeartheye.data.datasets.scene import SceneParts, fingerprint, load_parts
from cgeartheye.data.image_io import read_image
from cgeartheye.data.index.catalog import CATALOG
from cgeartheye.data.index.scene import split, survey
from cgeartheye.utils.errors import UserError

SHARED = Path(__file__).parents[3] / ".." / "shared" / "data"


def load(root: Path, **fields: object) -> SceneParts:
    return load_parts(SceneData(root=root, image_size=14, **fields))


def labeled(chips) -> dict[str, str]:
    """The class of each image."""
    return {
        name: chips.classes[label] for name, label in zip(chips.names, chips.labels, strict=True)
    }


@pytest.fixture
def listed(tmp_path, make_folders, write_list):
    """Three classes, labels in another order than their folders' names, in two lists."""
    names = make_folders(tmp_path, {"Port": 3, "Beach": 4, "Airport": 2})
    order = {"Port": 0, "Airport": 1, "Beach": 2}
    labels = {name: order[name.split("/")[0]] for name in names}
    write_list(tmp_path / "train.txt", {n: labels[n] for n in names if "_0" not in n})
    write_list(tmp_path / "val.txt", {n: labels[n] for n in names if "_0" in n})
    return tmp_path


# What the parts hold


def test_lists_name_their_classes_by_the_folders(listed):
    parts = load(listed, train="train.txt", val="val.txt")
    assert parts.classes == ("Port", "Airport", "Beach")
    assert labeled(parts.val) == {
        "Port/Port_0.png": "Port",
        "Beach/Beach_0.png": "Beach",
        "Airport/Airport_0.png": "Airport",
    }
    assert len(parts.train) == 6
    assert parts.test is parts.val
    assert all(path.is_file() for path in parts.train.paths)


def test_lists_are_read_however_they_were_written(tmp_path, make_image):
    names = ["Port/port 1.png", "Port/port_2.png", "sub/Port/p.png"]
    for seed, name in enumerate(names):
        make_image(tmp_path / name, seed)
    lines = [
        "\ufeff# a comment",
        "",
        "Port/port 1.png 0",
        "Port\\port_2.png\t0 ",
        "./sub/Port/p.png  0",
    ]
    (tmp_path / "list.txt").write_bytes("\r\n".join(lines).encode())
    parts = load(tmp_path, train="list.txt", val="list.txt")
    assert parts.train.names == names
    assert parts.classes == ("Port",)


def test_parts_may_be_class_folders_and_config_classes_order_them(tmp_path, make_folders):
    make_folders(tmp_path / "training", {"b": 2, "a": 3})
    make_folders(tmp_path / "testing", {"a": 1})
    make_folders(tmp_path / "training", {".thumbnails": 1})
    (tmp_path / "training" / "notes").mkdir()
    parts = load(tmp_path, train="training", val="testing", test="training")
    assert parts.classes == ("a", "b")
    assert labeled(parts.val) == {"testing/a/a_0.png": "a"}
    assert parts.test.names == parts.train.names
    other = load(tmp_path, train="training", val="testing", classes=("b", "a"))
    assert labeled(other.val) == {"testing/a/a_0.png": "a"}
    assert other.val.labels == [1]


def test_a_list_and_a_folder_may_be_mixed(listed, make_folders):
    make_folders(listed / "more", {"Port": 1, "Beach": 1})
    parts = load(listed, train="train.txt", val="more")
    assert labeled(parts.val) == {
        "more/Port/Port_0.png": "Port",
        "more/Beach/Beach_0.png": "Beach",
    }


@pytest.mark.parametrize("spelling", ["NWPU_RESISC45", "NWPU-RESISC45", "RESISC45"])
def test_the_catalog_knows_classes_and_other_spellings_of_the_root(
    tmp_path, spelling, make_folders
):
    make_folders(tmp_path / spelling, {"wetland": 2, "airplane": 2})
    parts = load(tmp_path / "NWPU_RESISC45", catalog="RESISC45")
    assert parts.classes == CATALOG["RESISC45"].classes
    assert sorted(parts.train.labels) == sorted(parts.val.labels) == [0, 44]


def test_a_test_part_named_like_val_is_val(listed):
    parts = load(listed, train="train.txt", val="val.txt", test="val.txt")
    assert parts.test is parts.val


# The random split


class_sizes = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.integers(1, 12), min_size=1
)


@given(
    sizes=class_sizes,
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**31),
    random=st.randoms(use_true_random=False),
)
def test_a_split_is_stratified_and_independent_of_order(sizes, fraction, seed, random):
    by_class = {name: [f"{name}/{n}.png" for n in range(size)] for name, size in sizes.items()}
    parts = split(by_class, fraction, seed)
    for name, images in by_class.items():
        train, val = parts["train"][name], parts["val"][name]
        assert sorted(train + val) == sorted(images)
        assert len(train) >= 1
        if len(images) >= 2:
            assert len(val) >= 1
            wanted = min(max(fraction * len(images), 1), len(images) - 1)
            assert abs(len(train) - wanted) <= 0.5
    shuffled = {
        name: random.sample(images, len(images))
        for name, images in random.sample(list(by_class.items()), len(by_class))
    }
    assert split(shuffled, fraction, seed) == parts


def test_another_seed_draws_other_images(tmp_path, make_folders):
    make_folders(tmp_path, {"a": 20, "b": 20})
    drawn = {tuple(load(tmp_path, split_seed=seed).val.names) for seed in range(5)}
    assert len(drawn) == 5
    assert load(tmp_path, split_seed=3).val.names == load(tmp_path, split_seed=3).val.names
    shares = [sum(name == f"a/a_{n}.png" for val in drawn for name in val) for n in range(20)]
    assert sum(shares) == 5 * 4
    assert max(shares) < 5  # no image is always drawn


# Messages about mistakes


def fails(sentence: str, root: Path, **fields: object) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        load(root, **fields)
    assert "\n" not in str(caught.value)


def test_missing_things(listed):
    fails("no folder .*nowhere: correct data.root", listed / "nowhere")
    fails("no folder .*nowhere", listed / "nowhere", catalog="AID")
    fails(
        r"no list file or folder .*trian\.txt \(did you mean 'train\.txt'\?\): correct data\.train",
        listed,
        train="trian.txt",
        val="val.txt",
    )
    (listed / "Beach" / "Beach_1.png").unlink()
    (listed / "Port" / "Port_2.png").unlink()
    fails(
        r"train\.txt:2: Port/Port_2\.png \(and 1 more\) is not in .*: 2 of 6 images are missing",
        listed,
        train="train.txt",
        val="val.txt",
    )


@pytest.mark.parametrize(
    "line", ["Port/Port_0.png", "Port/Port_0.png,0", "0", "Port/Port_0.png 1.5"]
)
def test_a_bad_line(listed, line):
    with (listed / "val.txt").open("a") as file:
        file.write(f"\n# comment\n{line}\n")
    fails(r"val\.txt:6: '.*' is not a path and a label", listed, train="train.txt", val="val.txt")


def test_a_list_that_is_no_text(listed):
    (listed / "val.txt").write_bytes(b"\xff\xfe\x00")
    fails(r"val\.txt cannot be read as a list", listed, train="train.txt", val="val.txt")


def test_a_label_out_of_range(listed, write_list):
    fields = {"train": "train.txt", "val": "val.txt", "classes": ("Port", "Airport", "Beach")}
    for label in (3, -1):
        write_list(listed / "val.txt", {"Port/Port_0.png": 0, "Beach/Beach_0.png": label})
        fails(
            rf"val\.txt:2: label {label} of Beach/Beach_0\.png is out of range: data\.classes "
            "names 3 classes, so labels run from 0 to 2",
            listed,
            **fields,
        )


def test_class_lists_that_do_not_fit(listed):
    lists = {"train": "train.txt", "val": "val.txt"}
    fails(
        r"label 2 of Beach/Beach_1\.png \(and 2 more\) is out of range: data\.classes names 2 ",
        listed,
        classes=("Port", "Airport"),
        **lists,
    )
    fails(
        "data.classes names 4 classes, but no image in .* has a label above 2: take out 'Pond'",
        listed,
        classes=("Port", "Airport", "Beach", "Pond"),
        **lists,
    )
    fails(
        r"Beach/Beach_1\.png and most images of label 2 are in another folder than 'Airport'",
        listed,
        classes=("Port", "Beach", "Airport"),
        **lists,
    )
    fails("data.classes has 'Port' twice", listed, classes=("Port", "Port", "Beach"), **lists)


def test_labels_without_a_name(listed, write_list):
    sentence = "do not give each label from 0 a folder of its own: name the classes"
    write_list(listed / "val.txt", {"Port/Port_0.png": 1})
    fails(sentence, listed, train="train.txt", val="val.txt")
    write_list(listed / "one.txt", {"Port/Port_0.png": 0, "Beach/Beach_0.png": 999_999_999})
    fails(sentence, listed, train="one.txt", val="one.txt")


def test_one_relabelled_image_is_not_a_wrong_class_list(listed, write_list):
    write_list(listed / "val.txt", {"Port/Port_0.png": 1})
    classes = ("Port", "Airport", "Beach")
    parts = load(listed, train="train.txt", val="val.txt", classes=classes)
    assert labeled(parts.val) == {"Port/Port_0.png": "Airport"}


def test_class_folders_that_do_not_fit(tmp_path, make_folders):
    make_folders(tmp_path, {"Bridge": 2, "Port": 2})
    fails(
        r"the class folder 'Bridge' in .* is not among the 2 classes of data\.classes "
        r"\(did you mean 'Brigde'\?\)",
        tmp_path,
        classes=("Brigde", "Port"),
    )
    make_folders(tmp_path / "deep" / "train", {"a": 2})
    make_folders(tmp_path / "deep" / "val", {"a": 2})
    fails(
        "holds parts, not classes: name 'train' and 'val' in data.train and data.val",
        tmp_path / "deep",
    )
    (tmp_path / "empty").mkdir()
    fails("empty has no class folders with images", tmp_path / "empty")


def test_an_empty_part(listed, make_folders):
    (listed / "val.txt").write_text("# nothing yet\n")
    fails("the part 'val' of .* has no usable image", listed, train="train.txt", val="val.txt")
    make_folders(listed / "single", {"a": 1, "b": 1})
    fails("the part 'val' of .* has no usable image", listed / "single")


def test_every_problem_is_counted_and_the_first_is_named(listed):
    (listed / "Beach" / "Beach_1.png").unlink()
    with (listed / "val.txt").open("a") as file:
        file.write("nonsense\n")
    fails(
        r"val\.txt:4.*\(and 1 more: `cgeartheye check` lists all\)",
        listed,
        train="train.txt",
        val="val.txt",
    )
    found = survey(SceneData(root=listed, train="train.txt", val="val.txt"))
    assert [len(problem.cases) for problem in found.problems] == [1, 1]
    assert {part: len(entries) for part, entries in found.parts.items()} == {"train": 5, "val": 3}


# What a view depends on


def test_views(tmp_path, make_folders):
    make_folders(tmp_path, {"a": 3, "b": 3})
    chips = load(tmp_path).train
    plain = chips[1]
    assert plain["image"].shape == (3, 14, 14)
    assert plain["image"].dtype == torch.uint8
    assert (plain["label"], plain["index"]) == (chips.labels[1], 1)
    torch.testing.assert_close(
        plain["image"], chips.test_view(chips.load_image_stack(1)), rtol=0, atol=0
    )
    torch.testing.assert_close(
        chips.load_image_stack(1), read_image(chips.paths[1]), rtol=0, atol=0
    )
    views = torch.stack([chips[1, seed]["image"] for seed in range(8)])
    assert len(torch.unique(views.flatten(1), dim=0)) == 8


def test_a_view_depends_on_image_and_seed_alone_and_leaves_the_generator_alone(
    tmp_path, make_folders
):
    make_folders(tmp_path, {"a": 5, "b": 5})
    chips = load(tmp_path).train
    keys = [(index, 10 * index + 3) for index in range(len(chips))]
    torch.manual_seed(0)
    before = torch.get_rng_state()
    expected = {key: chips[key]["image"] for key in keys}
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    for workers in (0, 2):
        order = np.random.default_rng(workers).permutation(len(keys))
        loader = DataLoader(
            chips, sampler=[keys[place] for place in order], num_workers=workers, batch_size=3
        )
        for batch in loader:
            for index, image in zip(batch["index"].tolist(), batch["image"], strict=True):
                assert torch.equal(image, expected[keys[index]])


def test_bands_and_stretch_reach_the_reader(tmp_path, make_folders):
    make_folders(tmp_path, {"a": 2})
    plain, swapped = load(tmp_path).train, load(tmp_path, bands=(3, 2, 1)).train
    assert torch.equal(plain.load_image_stack(0).flip(0), swapped.load_image_stack(0))


# The fingerprint


def test_the_fingerprint_follows_images_and_labels_but_not_the_place(tmp_path, make_folders):
    root = tmp_path / "here"
    make_folders(root, {"a": 3, "b": 3})
    first = fingerprint(load(root).train)
    assert fingerprint(load(root).train) == first
    assert fingerprint(load(root).val) != first
    assert fingerprint(load(root, classes=("b", "a")).train) != first

    shutil.copytree(root, tmp_path / "there", copy_function=shutil.copyfile)
    moved = load(tmp_path / "there").train
    assert fingerprint(moved) == first

    # Other pixels in a file of the same size and time, as an archive may unpack them.
    path, status = moved.paths[0], moved.paths[0].stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint(moved) != first


# The real thing


@pytest.mark.skipif(not (SHARED / "AID-150").is_dir(), reason="the shared AID images are not here")
def test_aid_in_its_published_layout():
    fields = {"train": "val_20per.txt", "val": "train_80per.txt"}
    parts = load(SHARED / "AID-150", catalog="AID", **fields)
    assert (len(parts.train), len(parts.val)) == (2000, 8000)
    assert not set(parts.train.names) & set(parts.val.names)
    assert load(SHARED / "AID-150", **fields).classes == parts.classes
    assert all(name.startswith(label + "/") for name, label in labeled(parts.val).items())


def test_views_of_one_image_are_the_views_one_by_one(tmp_path, make_folders):
    make_folders(tmp_path, {"a": 4, "b": 4})
    chips = load_parts(SceneData(root=tmp_path, image_size=28)).train
    views = chips.load_views(1, [5, 6, 5])
    assert torch.equal(views[0], chips[1, 5]["image"])
    assert torch.equal(views[1], chips[1, 6]["image"])
    assert torch.equal(views[2], views[0])
    assert not torch.equal(views[0], views[1])
    assert torch.equal(chips.load_views(1, [])[0], chips[1]["image"])
