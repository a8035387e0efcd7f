"""Masks: every format gives the same, mistakes are reported, and a crop depends on its seed."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from torch.utils.data import DataLoader

from cgeartheye.config import SegmentationData
from cgeartheye.data.datasets.segmentation import fingerprint_masks, load_segmentation_parts
from cgeartheye.data.formats.masks import UNLABELED, make_legend, read_labels, read_mask
from cgeartheye.data.index.catalog import MASKED
from cgeartheye.data.index.segmentation import survey_masks
from cgeartheye.utils.errors import UserError

SHARED = Path(__file__).parents[3] / ".." / "shared" / "data"
COLORS = ((0, 0, 0), (255, 0, 0), (10, 200, 30), (255, 255, 255))
LABELS = np.random.default_rng(0).integers(0, 4, (23, 31), dtype=np.uint8)


def legend(**fields):
    return make_legend(SegmentationData(root=Path(), **{"classes": tuple("abcd"), **fields}))


def write_raster(path: Path, bands: np.ndarray, palette=None, **options) -> None:
    with rasterio.open(
        path,
        "w",
        count=len(bands),
        height=bands.shape[1],
        width=bands.shape[2],
        dtype=bands.dtype,
        **({"driver": "GTiff"} | options),
    ) as file:
        file.write(bands)
        if palette:
            file.write_colormap(1, palette)


def palette_image(labels: np.ndarray, colors=COLORS) -> Image.Image:
    image = Image.fromarray(labels)
    image.putpalette([channel for color in colors for channel in color])
    return image


# Classes in a mask's file

WRITERS = {
    "grey": lambda path: Image.fromarray(LABELS).save(path, "PNG"),
    "palette": lambda path: palette_image(LABELS).save(path, "PNG"),
    "palette of 2 bits": lambda path: palette_image(LABELS).save(path, "PNG", bits=2),
    "grey of 2 bits": lambda path: write_raster(path, LABELS[None], driver="PNG", nbits=2),
    "grey of 4 bits": lambda path: write_raster(path, LABELS[None], driver="PNG", nbits=4),
    "grey of 16 bits": lambda path: Image.fromarray(LABELS.astype(np.uint16)).save(path, "PNG"),
    "grey with alpha": lambda path: Image.fromarray(LABELS).convert("LA").save(path, "PNG"),
    "three equal bands": lambda path: Image.fromarray(LABELS).convert("RGB").save(path, "PNG"),
    "BMP": lambda path: Image.fromarray(LABELS).save(path, "BMP"),
    "TIFF": lambda path: write_raster(path, LABELS[None]),
    "TIFF of 16 bits": lambda path: write_raster(path, LABELS[None].astype(np.int16)),
    "TIFF of floats": lambda path: write_raster(path, LABELS[None].astype(np.float32)),
    "TIFF palette": lambda path: write_raster(path, LABELS[None], dict(enumerate(COLORS))),
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_index_mask_gives_the_same_whatever_its_ending(tmp_path, kind):
    path = tmp_path / "mask.png"
    WRITERS[kind](path)
    mask = read_mask(path, legend())
    assert mask.dtype == torch.uint8
    assert np.array_equal(mask, LABELS)


def test_one_bit(tmp_path):
    Image.fromarray(LABELS > 1).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", legend()), LABELS > 1)


PICTURES = {
    "RGB": lambda path: palette_image(LABELS).convert("RGB").save(path, "PNG"),
    "RGBA": lambda path: palette_image(LABELS).convert("RGBA").save(path, "PNG"),
    "BMP": lambda path: palette_image(LABELS).convert("RGB").save(path, "BMP"),
    "palette in another order": lambda path: palette_image(3 - LABELS, COLORS[::-1]).save(
        path, "PNG"
    ),
    "TIFF": lambda path: write_raster(path, np.array(COLORS, np.uint8)[LABELS].transpose(2, 0, 1)),
    "TIFF palette": lambda path: write_raster(
        path, 3 - LABELS[None], dict(enumerate(COLORS[::-1]))
    ),
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("kind", PICTURES)
def test_every_kind_of_picture_is_read_by_its_colours(tmp_path, kind):
    path = tmp_path / "mask.png"
    PICTURES[kind](path)
    assert np.array_equal(read_mask(path, legend(colors=COLORS)), LABELS)


@pytest.mark.parametrize("one_bit", [False, True])
def test_a_grey_picture_is_read_by_its_colours(tmp_path, one_bit):
    """The usual masks of 0 and 255."""
    white = LABELS > 1
    Image.fromarray(white if one_bit else white.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    black_and_white = legend(classes=("a", "b"), colors=((0, 0, 0), (255, 255, 255)))
    assert np.array_equal(read_mask(tmp_path / "mask.png", black_and_white), white)


def test_each_pixel_of_a_jpeg_takes_the_nearest_colour(tmp_path):
    blocks = LABELS[:8, :8].repeat(16, axis=0).repeat(16, axis=1)
    image_stack = palette_image(blocks).convert("RGB")
    image_stack.save(tmp_path / "mask.jpg", quality=60)
    assert not np.array_equal(Image.open(tmp_path / "mask.jpg"), image_stack)
    assert np.array_equal(read_mask(tmp_path / "mask.jpg", legend(colors=COLORS)), blocks)

    Image.fromarray(blocks).save(tmp_path / "mask.jpg")
    with pytest.raises(
        UserError, match=r"mask\.jpg is a JPEG, whose compression changes values: save it as PNG"
    ):
        read_mask(tmp_path / "mask.jpg", legend())


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=2, max_size=9, unique=True),
    unlabeled=st.integers(0, 3),
    strays=st.sets(st.integers(-(2**31), 2**31 - 1), max_size=2),
    seed=st.integers(0, 9),
)
def test_values_map_to_classes_by_the_config(tmp_path_factory, values, unlabeled, strays, seed):
    unlabeled = min(unlabeled, len(values) - 1)
    labels = {value: label for label, value in enumerate(values[unlabeled:])}
    meaning = {**dict.fromkeys(values[:unlabeled], UNLABELED), **labels}
    pixels = np.random.default_rng(seed).choice([*values, *strays], (7, 5)).astype(np.int32)
    path = tmp_path_factory.getbasetemp() / "mask.tif"
    write_raster(path, pixels[None])

    mask, found = read_labels(
        path,
        legend(
            classes=tuple(map(str, labels)),
            values=tuple(labels),
            unlabeled=tuple(values[:unlabeled]),
        ),
    )

    expected = [meaning.get(value, UNLABELED) for value in pixels.flatten().tolist()]
    assert mask.flatten().tolist() == expected
    unknown = [value for value in pixels.flatten().tolist() if value not in meaning]
    assert found == {f"the value {value}": unknown.count(value) for value in set(unknown)}


def test_255_is_not_labelled_unless_a_class_has_it(tmp_path):
    path = tmp_path / "mask.png"
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(path)
    assert read_mask(path, legend()).tolist() == [[0, 255]]
    assert read_mask(path, legend(classes=("a", "b"), values=(0, 255))).tolist() == [[0, 1]]
    with pytest.raises(UserError, match="the value 255 in 1 pixels"):
        read_mask(path, legend(unlabeled=(9,)))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_unknown_values_are_reported_with_the_fix(tmp_path):
    path = tmp_path / "mask.png"
    Image.fromarray(np.array([[0, 4, 4, 9]], np.uint8)).save(path)
    with pytest.raises(UserError) as error:
        read_mask(path, legend())
    assert str(error.value) == (
        f"{path} has the value 4 in 2 pixels, which is no class: the 4 classes have the values "
        "0 to 3; correct data.values, or add it to data.unlabeled"
    )
    with pytest.raises(UserError, match="the 4 classes have the values 4, 0, 8, 2;"):
        read_mask(path, legend(values=(4, 0, 8, 2)))

    Image.fromarray(np.array([[[0, 0, 0], [1, 2, 3]]], np.uint8)).save(path)
    with pytest.raises(UserError, match=r"the colour \(1, 2, 3\) in 1 pixels, .*data.colors"):
        read_mask(path, legend(colors=COLORS))
    assert read_mask(path, legend(colors=COLORS, unlabeled=[(1, 2, 3)])).tolist() == [[0, 255]]
    with pytest.raises(UserError, match=r"mask\.png is a picture in colours: .*data.colors"):
        read_mask(path, legend())

    for values in ([0, 0.5], [0, np.nan]):
        write_raster(path, np.array([[values]], np.float32))
        with pytest.raises(UserError, match="which is no class: save whole numbers"):
            read_mask(path, legend())


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_a_damaged_mask_is_reported(tmp_path, kind):
    path = tmp_path / "mask.png"
    Image.fromarray(LABELS).save(path, kind)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(UserError, match=r"mask\.png is truncated or damaged"):
        read_mask(path, legend())
    path.unlink()
    with pytest.raises(UserError, match=r"no image .*mask\.png"):
        read_mask(path, legend())


# Settings of a config


def test_published_data_sets():
    assert {name: len(known.classes) for name, known in MASKED.items()} == {
        "iSAID": 16,
        "cropland": 2,
        "LoveDA": 7,
        "Potsdam": 6,
    }
    for known in MASKED.values():
        assert len(known.classes) == len({*known.colors}) == len({*known.values})
    isaid, potsdam = MASKED["iSAID"], MASKED["Potsdam"]
    assert isaid.colors[isaid.classes.index("Small_Vehicle")] == (0, 0, 127)
    assert potsdam.colors[potsdam.classes.index("car")] == (255, 255, 0)


def test_the_catalog_reads_indices_and_published_colours(tmp_path):
    path = tmp_path / "mask.png"

    def read(catalog: str, pixels: list) -> list[int]:
        Image.fromarray(np.array([pixels], np.uint8)).save(path)
        return read_mask(path, legend(classes=None, catalog=catalog)).flatten().tolist()

    assert read("LoveDA", [0, 1, 7, 255]) == [255, 0, 6, 255]
    assert read("Potsdam", [0, 1, 6]) == [255, 0, 5]
    assert read("Potsdam", [[0, 0, 0], [255, 255, 0]]) == [255, 4]
    assert read("iSAID", [0, 15, 255]) == [0, 15, 255]
    assert read("iSAID", [[0, 0, 63], [0, 100, 155]]) == [1, 15]
    assert read("cropland", [0, 1]) == [0, 1]
    with pytest.raises(
        UserError, match=r"data\.values has 3 entries for the 2 classes of cropland"
    ):
        legend(classes=None, catalog="cropland", values=(0, 1, 2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": None}, "set either classes or catalog"),
        ({"catalog": "iSAID"}, "set either classes or catalog"),
        ({"classes": ("a", "a")}, "duplicate entry"),
        ({"values": (0, 1)}, "one for each of 4"),
        ({"colors": COLORS[:3]}, "one for each of 4"),
        ({"values": (0, 1, 2, 3), "colors": COLORS}, "one of the two"),
        ({"values": (0, 1, 2, 9), "unlabeled": (9,)}, "9 is both a class and in unlabeled"),
        ({"scale": (2.0, 1.0)}, "rising"),
        ({"classes": tuple(map(str, range(255)))}, "at most 254"),
    ],
)
def test_what_contradicts_itself_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        legend(**fields)


def test_colours_for_drawing_are_the_given_or_distinct_ones():
    assert legend(colors=COLORS).colors == COLORS
    many = legend(classes=("background", *map(str, range(60)))).colors
    assert many[0] == (0, 0, 0)
    assert len({*many}) == 61


# Images and their masks


@pytest.fixture
def make_pairs(make_image):
    """Write images and masks of 8 pixels; return the root."""

    def make(root: Path, *pairs: tuple[str, str]) -> Path:
        for seed, (image, mask) in enumerate(pairs):
            make_image(root / image, seed)
            (root / mask).parent.mkdir(parents=True, exist_ok=True)
            labels = np.random.default_rng(seed).integers(0, 2, (8, 8), dtype=np.uint8)
            Image.fromarray(labels).save(root / mask)
        return root

    return make


def pairs_of(root: Path, **fields) -> dict[str, list[tuple[str, str]]]:
    found = survey_masks(SegmentationData(root=root, **{"classes": ("a", "b"), **fields}))
    assert not found.problems
    return {
        part: [(pair.image, pair.mask) for pair in pairs] for part, pairs in found.parts.items()
    }


def test_pairs_share_their_stem_whatever_the_types(tmp_path, make_pairs):
    train = [
        ("train/Img/a.b.png", "train/Label/a.b.tif"),
        ("train/Img/s/a.jpg", "train/Label/s/a.png"),
    ]
    val = [("val/Img/a.bmp", "val/Label/a.PNG")]
    root = make_pairs(tmp_path, *train, *val)
    assert pairs_of(root) == {"train": train, "val": val}
    assert pairs_of(root, val="train", test="val")["test"] == val


@pytest.mark.parametrize(
    ("pair", "fields"),
    [
        ("img_dir/{}/P0_0.png ann_dir/{}/P0_0_instance_color_RGB.png", {"catalog": "iSAID"}),
        ("{}/Img/LC_1.png {}/Label/LC_1.png", {"catalog": "cropland"}),
        ("img_dir/{}/2_10_0.png ann_dir/{}/2_10_0.png", {"catalog": "Potsdam"}),
        ("img_dir/{}/0.png ann_dir/{}/0.png", {"catalog": "LoveDA"}),
        (
            "{}/12_sat.jpg {}/12_mask.png",
            {"images": "{part}", "masks": "{part}", "image_suffix": "_sat", "mask_suffix": "_mask"},
        ),
        (
            "{}/12.jpg {}/12_mask.png",
            {"images": "{part}", "masks": "{part}", "mask_suffix": "_mask"},
        ),
    ],
)
def test_layouts(tmp_path, make_pairs, pair, fields):
    of_part = {part: tuple(pair.format(part, part).split()) for part in ("train", "val")}
    make_pairs(tmp_path, *of_part.values())
    classes = None if "catalog" in fields else ("a", "b")
    assert pairs_of(tmp_path, **fields, classes=classes) == {
        part: [pair] for part, pair in of_part.items()
    }


def test_a_star_is_the_same_folder_for_images_and_masks(tmp_path, make_pairs):
    """LoveDA as it is published: numbers may come back in the other area."""
    pairs = {
        part: [
            (f"{part}/{area}/images_png/{n}.png", f"{part}/{area}/masks_png/{n}.png")
            for area in ("Rural", "Urban")
            for n in (0, 1)
        ]
        for part in ("Train", "Val")
    }
    make_pairs(tmp_path, *pairs["Train"], *pairs["Val"])
    found = pairs_of(
        tmp_path,
        classes=None,
        catalog="LoveDA",
        images="{part}/*/images_png",
        masks="{part}/*/masks_png",
        train="Train",
        val="Val",
    )
    assert found == {"train": pairs["Train"], "val": pairs["Val"]}


def test_another_spelling_of_the_root(tmp_path, make_pairs):
    pairs = [(f"img_dir/{p}/0.png", f"ann_dir/{p}/0.png") for p in ("train", "val")]
    make_pairs(tmp_path / "loveDA", *pairs)
    assert pairs_of(tmp_path / "LoveDA", classes=None, catalog="LoveDA")["val"] == pairs[1:]


def test_folders_without_parts_are_split(tmp_path, make_pairs):
    pairs = [(f"images/{n}.png", f"masks/{n}.png") for n in range(10)]
    make_pairs(tmp_path, *pairs)
    layout = {"images": "images", "masks": "masks"}
    split = pairs_of(tmp_path, **layout)
    assert {part: len(found) for part, found in split.items()} == {"train": 8, "val": 2}
    assert sorted(split["train"] + split["val"]) == pairs
    assert pairs_of(tmp_path, **layout) == split
    assert any(pairs_of(tmp_path, **layout, split_seed=seed) != split for seed in (1, 2, 3))


def refusal(root: Path, **fields) -> str:
    with pytest.raises(UserError) as error:
        load_segmentation_parts(SegmentationData(root=root, **{"classes": ("a", "b"), **fields}))
    return str(error.value)


def test_mistakes_are_reported_in_one_sentence(tmp_path, make_pairs):
    root = make_pairs(
        tmp_path,
        *(
            (f"{part}/Img/{n}.png", f"{part}/Label/{n}.png")
            for part in ("train", "val")
            for n in "01"
        ),
    )
    assert load_segmentation_parts(SegmentationData(root=root, classes=("a", "b")))

    assert refusal(root / "nowhere").startswith(f"no folder {root / 'nowhere'}: correct data.root")
    text = refusal(root, val="valid")
    assert text.startswith(f"no folder {root / 'valid'}")
    assert "correct data.val" in text

    (root / "val/Label/1.png").rename(root / "val/Label/2.png")
    text = refusal(root)
    assert text.startswith("val/Img/1.png has no mask in")
    assert survey_masks(SegmentationData(root=root, classes=("a", "b"))).unused == [
        "val/Label/2.png"
    ]

    shutil.copy(root / "val/Label/0.png", root / "val/Label/0.tif")
    assert "val/Label/0.png and val/Label/0.tif have the same stem" in refusal(root)
    assert "(and 1 more: `cgeartheye check` lists all)" in refusal(root)

    for path in (root / "val" / "Img").iterdir():
        path.unlink()
    (root / "val/Label/0.tif").unlink()
    assert f"the part 'val' of {root} has no image with a mask" in refusal(root)


# Chips


@pytest.fixture
def parts(tmp_path, make_pairs):
    pairs = [
        (f"{part}/Img/{n}.png", f"{part}/Label/{n}.png") for part in ("train", "val") for n in "01"
    ]
    data = SegmentationData(root=make_pairs(tmp_path, *pairs), classes=("a", "b"), image_size=14)
    return load_segmentation_parts(data)


@pytest.mark.parametrize(("train", "val"), [("Train", "valid"), ("trainval", "test")])
def test_other_names_of_parts_are_found_and_reported(tmp_path, make_pairs, capsys, train, val):
    pairs = [
        (f"{part}/Img/{n}.png", f"{part}/Label/{n}.png") for part in (train, val) for n in "01"
    ]
    data = SegmentationData(root=make_pairs(tmp_path, *pairs), classes=("a", "b"), image_size=14)
    found = load_segmentation_parts(data)
    assert found.train.names == [f"{train}/Img/{n}.png" for n in "01"]
    assert found.val.names == [f"{val}/Img/{n}.png" for n in "01"]
    output = " ".join(capsys.readouterr().out.split())
    assert f"the part '{train}' is taken for data.train" in output
    assert f"the part '{val}' is taken for data.val" in output


def test_a_test_sees_the_whole_image(parts):
    chip = parts.val[1]
    assert parts.test is parts.val
    assert len(parts.val) == 2
    assert chip["index"] == 1
    assert parts.val.names[1] == "val/Img/1.png"
    assert type(chip["image"]).__name__ == "Image"
    assert type(chip["mask"]).__name__ == "Mask"
    assert np.array_equal(chip["image"].permute(1, 2, 0), Image.open(parts.val.paths[1]))
    assert np.array_equal(chip["mask"], Image.open(parts.val.mask_paths[1]))


def test_a_crop_depends_on_the_image_and_the_seed_alone(parts):
    train = parts.train
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = {key: train[key] for key in [(0, 1), (0, 2), (1, 1)]}
    assert torch.equal(torch.random.get_rng_state(), before)
    for key, crop in first.items():
        assert crop["image"].shape == (3, 14, 14)
        assert crop["mask"].shape == (14, 14)
        torch.rand(7)
        assert all(torch.equal(train[key][name], crop[name]) for name in ("image", "mask"))
    assert not torch.equal(first[0, 1]["image"], first[0, 2]["image"])

    loader = DataLoader(train, batch_sampler=[[(1, 1), (0, 2)], [(0, 1)]], num_workers=2)
    images = torch.cat([batch["image"] for batch in loader])
    assert torch.equal(
        images, torch.stack([first[1, 1]["image"], first[0, 2]["image"], first[0, 1]["image"]])
    )


def test_a_mask_of_another_size_is_refused_with_both_sizes(parts):
    Image.fromarray(np.zeros((7, 8), np.uint8)).save(parts.train.mask_paths[0])
    with pytest.raises(UserError) as error:
        parts.train[0]
    text = str(error.value)
    assert f"{parts.train.paths[0]} has 8 x 8 pixels" in text
    assert f"its mask {parts.train.mask_paths[0]} has 8 x 7" in text


def test_the_fingerprint_changes_with_the_files_and_their_meaning(parts):
    first = fingerprint_masks(parts.train)
    assert fingerprint_masks(parts.train) == first != fingerprint_masks(parts.val)
    for path in (parts.train.paths[0], parts.train.mask_paths[1]):
        before = fingerprint_masks(parts.train)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        assert fingerprint_masks(parts.train) != before
    before = fingerprint_masks(parts.train)
    parts.train.legend = legend(classes=("a", "b"), values=(1, 0))
    assert fingerprint_masks(parts.train) != before


# Real data


@pytest.mark.parametrize(
    ("folder", "fields", "seen"),
    [
        (
            "LoveDA-3",
            {"catalog": "LoveDA", "images": "img_dir", "masks": "ann_dir"},
            {0, 1, 2, 3, 5, 6},
        ),
        ("published-samples/ISAID", {"catalog": "iSAID"}, {0, 2, 8, 9}),
        ("published-samples/cropland", {"catalog": "cropland", "test": "test"}, {0, 1}),
        ("GSI-roads", {"classes": ("other", "road"), "test": "test"}, {0, 1}),
        (
            "Dubai-tile1",
            {
                "classes": ("building", "land", "road", "vegetation", "water"),
                "colors": (
                    (60, 16, 152),
                    (132, 41, 246),
                    (110, 193, 228),
                    (254, 221, 58),
                    (226, 169, 41),
                ),
                "unlabeled": ((155, 155, 155),),
                "images": "images",
                "masks": "masks",
            },
            {0, 1, 2, 3, 4, 255},
        ),
    ],
)
def test_real_data(folder, fields, seen):
    root = (SHARED / folder).resolve()
    if not root.is_dir():
        pytest.skip(f"no {folder} in the shared folder")
    parts = load_segmentation_parts(SegmentationData(root=root, **fields))
    values = set()
    for chips in {parts.train, parts.val, parts.test}:
        for index in range(len(chips)):
            values |= {*chips[index]["mask"].unique().tolist()}
    assert values == seen
