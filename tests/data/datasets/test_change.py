"""Change data: pairs of dates with known masks, and a finding for every planted fault."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torchvision import tv_tensors

from cgeartheye.config import ChangeData
from cgeartheye.data import load_change_parts, read_pair
from cgeartheye.data.checks.change import check_pairs
from cgeartheye.data.checks.findings import CheckResult, Finding
from cgeartheye.data.transforms.image import dense_transform, seeded
from cgeartheye.utils.errors import UserError

SHARED = Path(__file__).parents[3] / ".." / "shared" / "data"


def data(root: Path, **fields) -> ChangeData:
    return ChangeData(root=root, **{"image_size": 42, "workers": 0, **fields})


def check(root: Path, **fields) -> CheckResult:
    return check_pairs(data(root, **fields))


def only(result: CheckResult, words: str) -> Finding:
    (finding,) = (finding for finding in result.findings if words in finding.sentence)
    return finding


def image_stack(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(128, 200, (48, 56, 3))
    return ndimage.gaussian_filter(noise, (1.5, 1.5, 0)).clip(0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """Two pairs of 48 x 56 pixels a part, of which a block of 8 x 8 changes."""
    for seed, part in enumerate(["train", "train", "val", "val"]):
        before, mask = image_stack(seed), np.zeros((48, 56), np.uint8)
        mask[16:24, 16:24] = 255
        after = before.copy()
        after[mask > 0] = 255 - after[mask > 0]
        after[0, 0] = 7  # no two images are the same
        for kind, pixels in (("Image1", before), ("Image2", after), ("Label", mask)):
            save(tmp_path / part / kind / f"{seed}.png", pixels)
    return tmp_path


def test_samples(clean: Path) -> None:
    parts = load_change_parts(data(clean))
    assert parts.legend.classes == ("unchanged", "changed")
    assert parts.train.names == ["train/Image1/0.png", "train/Image1/1.png"]
    sample = parts.val[1]
    assert sample.keys() == {"image1", "image2", "mask", "index"}
    assert (sample["image1"] == torch.from_numpy(image_stack(3)).permute(2, 0, 1)).all()
    changed = (sample["image1"] != sample["image2"]).any(0)
    changed[0, 0] = False
    # A value of 127.5 is its own opposite: none is.
    assert (changed == (sample["mask"] == 1)).all()
    assert set(sample["mask"].unique().tolist()) == {0, 1}
    one, same, other = (parts.train[0, seed] for seed in (5, 5, 6))
    assert one["image2"].shape == (3, 42, 42)
    assert all((one[name] == same[name]).all() for name in one if name != "index")
    assert (one["image1"] != other["image1"]).any()


@pytest.mark.parametrize("rotation", [0, 180])
def test_dates_and_mask_move_together(clean: Path, rotation: float) -> None:
    """Whatever is drawn: a mask of what is bright stays one."""
    blob = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(70, 70)), 4)
    mask = torch.from_numpy((blob > 0.02).astype(np.uint8))
    bright = (mask * 200)[None].repeat(3, 1, 1)
    pair = torch.cat([bright, 200 - bright])
    transform = dense_transform(42, (0.7, 1.5), 1.0, color_jitter=False, rotation=rotation)
    turned = 0
    for seed in range(40):
        with seeded(seed):
            image, moved = transform(tv_tensors.Image(pair), tv_tensors.Mask(mask))
        inside = moved != 255
        turned += bool((~inside).float().mean() > 0.01)
        for date, sign in ((image[:3], 1), (image[3:], -1)):
            values = date.float().mean(0)[inside]
            agree = (sign * (values - 100) > 0) == (moved[inside] == 1)
            # Beyond the edge an image is black, and at a boundary it is blurred.
            assert agree.float().mean() > 0.93
    assert (turned > 5) == bool(rotation)


def test_colours_of_the_dates_change_independently() -> None:
    pair = torch.full((6, 42, 42), 120, dtype=torch.uint8)
    mask = torch.zeros(42, 42, dtype=torch.uint8)
    transform = dense_transform(42, (1.0, 1.0), 1.0, color_jitter=True)
    means = []
    for seed in range(60):
        with seeded(seed):
            image, _ = transform(tv_tensors.Image(pair), tv_tensors.Mask(mask))
        means.append((image[:3].float().mean(), image[3:].float().mean()))
    assert abs(np.corrcoef(np.array(means).T)[0, 1]) < 0.4
    assert np.std(means, axis=0).min() > 5


@pytest.mark.parametrize(
    ("kind", "options"),
    [("0/1", {}), ("jpeg", {"quality": 60}), ("bilevel", {}), ("rgb", {})],
)
def test_masks_of_every_kind(clean: Path, kind: str, options: dict[str, int]) -> None:
    mask = np.array(Image.open(clean / "val/Label/2.png"))
    (clean / "val/Label/2.png").unlink()
    path = clean / "val/Label" / ("2.jpg" if kind == "jpeg" else "2.png")
    if kind == "0/1":
        mask = mask // 255
    elif kind == "bilevel":
        mask = mask > 0
    elif kind == "rgb":
        mask = mask[..., None].repeat(3, 2)
    save(path, mask, **options)
    loaded = load_change_parts(data(clean)).val.load_mask(0)
    expected = np.array(mask[..., 0] if kind == "rgb" else mask) > 0
    assert (loaded.numpy() == expected).all()


def test_a_jpeg_is_cut_at_128(clean: Path) -> None:
    for level, label in ((127, 0), (128, 1)):
        save(clean / "val/Label/2.jpg", np.full((48, 56), level, np.uint8), quality=100)
        (clean / "val/Label/2.png").unlink(missing_ok=True)
        assert (load_change_parts(data(clean)).val.load_mask(0) == label).all()


def test_values_of_its_own(clean: Path) -> None:
    mask = np.full((48, 56), 1, np.uint8)
    mask[:5], mask[5:9] = 2, 9
    save(clean / "val/Label/2.png", mask)
    parts = load_change_parts(data(clean, values=(1, 2), unlabeled=(9,)))
    labels = parts.val.load_mask(0)
    assert (labels[:5] == 1).all()
    assert (labels[5:9] == 255).all()
    assert (labels[9:] == 0).all()
    with pytest.raises(UserError, match="the value 2"):
        load_change_parts(data(clean)).val.load_mask(0)


def test_masks_that_might_mean_two_things(clean: Path) -> None:
    """255 means changed in masks of 0 and 255, and is often: not labelled, in masks of 0 and 1."""
    mask = np.zeros((48, 56), np.uint8)
    mask[:5], mask[5:9] = 1, 255
    save(clean / "val/Label/2.png", mask)
    with pytest.raises(UserError, match=r"holds both 1 and 255, .* add it to data.unlabeled"):
        load_change_parts(data(clean)).val.load_mask(0)
    assert not check(clean).ok
    labels = load_change_parts(data(clean, unlabeled=(255,))).val.load_mask(0)
    assert (labels.numpy() == mask).all()
    save(clean / "val/Label/2.png", mask * 2)
    with pytest.raises(UserError, match=r"the value 2 .* the 2 classes have the values 0, 1, 255;"):
        load_change_parts(data(clean)).val.load_mask(0)


def test_pairs_that_lie_otherwise(clean: Path) -> None:
    """In one folder, distinguished by their endings, and split at random."""
    for path in [*clean.glob("*/*/*.png")]:
        ending = {"Image1": "_2018", "Image2": "_2021", "Label": "_change"}[path.parent.name]
        save(clean / "all" / f"{path.stem}{ending}.png", np.array(Image.open(path)))
    fields = {"before_suffix": "_2018", "after_suffix": "_2021", "mask_suffix": "_change"}
    parts = load_change_parts(
        data(clean, before="all", after="all", masks="all", train_fraction=0.5, **fields)
    )
    names = [*parts.train.names, *parts.val.names]
    assert sorted(names) == [f"all/{n}_2018.png" for n in range(4)]
    assert len(parts.val) == 2


def test_refusals(clean: Path) -> None:
    save(clean / "val/Image2/2.png", image_stack(0)[:40])
    with pytest.raises(UserError, match=r"Image1/2.png has 56 x 48 .*Image2/2.png has 56 x 40"):
        _ = load_change_parts(data(clean)).val[0]
    for gone, words in (
        (
            "val/Image2/2.png",
            "val/Image1/2.png has no image of the other date in .*, a file of its name: add it",
        ),
        ("val/Label/3.png", "val/Image1/3.png has no mask in"),
    ):
        (clean / gone).unlink()
        with pytest.raises(UserError, match=words):
            load_change_parts(data(clean))


def test_clean_pairs_are_well(clean: Path) -> None:
    result = check(clean)
    assert result.ok, result.findings
    assert {finding.severity for finding in result.findings} == {"ok"}
    share = 48 * 56
    assert result.counts["train"] == [2 * (share - 64), 128]
    only(result, "all 12 images and masks can be read")
    only(result, "0.0 pixels apart in the median")


def test_what_two_dates_can_have_wrong(clean: Path) -> None:
    shutil.copy(clean / "train/Image1/0.png", clean / "train/Image2/0.png")
    for one, other in (("Image1", "Image2"), ("Image2", "Image1"), ("Label", "Label")):
        shutil.copy(clean / "train" / one / "1.png", clean / "train" / other / "5.png")
        shutil.copy(clean / "val" / one / "2.png", clean / "train" / one / "6.png")
    moved = np.roll(np.array(Image.open(clean / "val/Image1/3.png")), (3, -4), (0, 1))
    save(clean / "val/Image2/3.png", moved)
    (clean / "train/Image1/alone.png").write_bytes((clean / "train/Image1/0.png").read_bytes())

    result = check(clean)
    assert not result.ok
    same = only(result, "two dates are the same image: 1")
    assert same.examples == ["train/Image1/0.png = train/Image2/0.png"]
    assert only(result, "dates swapped: 1").examples == [
        "train/Image1/1.png (train) = train/Image1/5.png (train)"
    ]
    assert only(result, "in more than one part: 2").examples[0] == (
        "train/Image1/6.png (train) = val/Image1/2.png (val)"
    )
    (case,) = only(result, "more than 2 pixels: 1").examples
    assert case == ("val/Image2/3.png is +3.0 rows and -4.0 columns off val/Image1/3.png")
    assert only(result, "alone.png has no mask in").severity == "error"
    assert only(result, "alone.png has no image of the other date in").severity == "error"


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared real pairs")
def test_real_pairs() -> None:
    parts = load_change_parts(data(SHARED / "LEVIR-CD-20", catalog="LEVIR-CD", test="test"))
    assert [len(part) for part in (parts.train, parts.val, parts.test)] == [48, 12, 20]
    assert parts.test[3]["image2"].shape == (3, 512, 512)
    cdd = load_change_parts(data(SHARED / "published-samples" / "CDD", catalog="CDD"))
    assert set(cdd.train[0]["mask"].unique().tolist()) == {0, 1}
    paths = cdd.train.image_paths[0]
    assert read_pair(*paths, (1, 2, 3), None).shape == (6, 256, 256)
