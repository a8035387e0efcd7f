import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sklearn.decomposition import PCA
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from tests import processes
from toy_pretraining import SIZE, ToyStore, pretrain_toy, toy_config, toy_trainer

from cgeartheye.config import Network, Pretraining, Teacher
from cgeartheye.models.backbone import SIZES, VisionTransformer
from cgeartheye.pretraining.distillation import (
    Distillation,
    Standardizer,
    cut_maps,
    mean_of_regions,
)
from cgeartheye.pretraining.loader import mix
from cgeartheye.pretraining.teacher import FrozenTeacher
from cgeartheye.pretraining.views.crops import crop
from cgeartheye.training import checkpoint
from cgeartheye.training.run_dir import Run, read_history
from cgeartheye.utils.errors import UserError

CPU = torch.device("cpu")
FACTS = {"mean": "[120, 120, 120]", "std": "[60, 60, 60]", "gsd": "1"}
ALONE = {"objective__dino_weight": 0.0, "objective__masked_weight": 0.0}


@pytest.fixture(autouse=True)
def small_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "tiny", SIZE)


@pytest.fixture
def vit_file(tmp_path: Path) -> Path:
    torch.manual_seed(5)
    path = tmp_path / "vit.safetensors"
    save_file(VisionTransformer(SIZE, grid=3, layer_scale=1.0).state_dict(), path, FACTS)
    return path


@pytest.fixture
def conv_file(tmp_path: Path) -> Path:
    torch.manual_seed(6)
    model = timm.create_model("test_efficientnet", num_classes=0)
    for name, values in model.named_buffers():  # as if it had been trained
        if "running" in name:
            values.copy_(torch.rand_like(values) + 0.5)
    path = tmp_path / "conv.safetensors"
    save_file(model.state_dict(), path, FACTS)
    return path


def toy(folder: Path, weights: Path | None, name: str = "tiny", **changes: Any) -> Pretraining:
    network = {"name": name, "weights": weights}
    size = {"teacher__image_size": 42 if name == "tiny" else 64}
    return toy_config(folder, teacher__backbone=network, **(size | changes))


def frozen(weights: Path, name: str, **settings: Any) -> FrozenTeacher:
    settings = {"image_size": 64} | settings
    config = Teacher(backbone=Network(name=name, weights=weights), **settings)
    return FrozenTeacher(config, ToyStore(), "fp32", 0, CPU)


# Targets


@given(
    st.tuples(st.floats(0, 0.6), st.floats(0, 0.6), st.floats(0.25, 1), st.floats(0.25, 1)),
    st.integers(0, 7),
    st.integers(0, 9),
)
def test_maps_are_cut_as_images_are(
    box: tuple[float, float, float, float], symmetry: int, seed: int
) -> None:
    side, patches = 48, 4
    phase = np.random.default_rng(seed).uniform(0, 6, (3, 2))
    y, x = np.mgrid[:side, :side] / side
    waves = np.stack([np.sin(3 * x + a) + np.cos(2 * y + b) for a, b in phase])
    image = torch.from_numpy((120 + 50 * waves).round().astype(np.uint8))
    left, top = round(box[0] * side), round(box[1] * side)
    width, height = min(side - left, round(box[2] * side)), min(side - top, round(box[3] * side))
    # The map of a teacher with one "feature" a pixel, its colour.
    cut = cut_maps(
        torch.cat([torch.zeros(1, 3, side, side), image[None].float()]),
        torch.tensor([1]),
        torch.tensor([[left, top, left + width, top + height]]) / side,
        torch.tensor([symmetry]),
        patches,
    )
    pixels = crop(image, (top, left, height, width), symmetry, patches * 14)
    expected = F.avg_pool2d(pixels[None].float(), 14)
    torch.testing.assert_close(cut, expected, atol=2.5, rtol=0)


def test_a_whole_image_has_the_features_that_the_teacher_has_of_it(conv_file: Path) -> None:
    teacher = frozen(conv_file, "timm/test_efficientnet", layers=(1, -1))
    model = timm.create_model("test_efficientnet", num_classes=0).eval()
    model.load_state_dict(load_file(conv_file))
    store = ToyStore()
    image = store.decode(3)[None]
    scaled = (F.interpolate(image, (64, 64), mode="bilinear", antialias=True).float() - 120) / 60
    with torch.no_grad():
        expected = model(scaled)
        maps = model.forward_intermediates(scaled, indices=[1, 4], intermediates_only=True)
    teacher.see_images("toy", conv_file.parent / "features")
    found = teacher.recall(np.array([3]))
    torch.testing.assert_close(found.images, expected, rtol=2e-3, atol=1e-3)  # half precision
    for ours, theirs in zip(found.maps, maps, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-3)
    few = teacher.encode_few(100)
    assert len(few.images) == len(store)
    torch.testing.assert_close(few.images[3:4], found.images)


def test_features_of_a_crop_are_the_mean_of_what_is_pooled_there(conv_file: Path) -> None:
    teacher = frozen(conv_file, "timm/test_efficientnet", class_target="crop")
    teacher.see_images("toy", conv_file.parent / "features")
    pooled = teacher.recall(np.array([0, 3])).images  # [2, D, 2, 2]
    whole = frozen(conv_file, "timm/test_efficientnet")
    whole.see_images("toy", conv_file.parent / "whole")
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.5, 0.0, 1.0, 0.5], [0.0, 0.5, 1.0, 1.0]])
    found = mean_of_regions(pooled, torch.tensor([1, 1, 0]), boxes)
    torch.testing.assert_close(found[:1], whole.recall(np.array([3])).images, rtol=2e-3, atol=1e-3)
    # A crop of one pixel of the map; RoIAlign is exact in the middle of pixels.
    torch.testing.assert_close(found[1], pooled[1, :, 0, 1])
    torch.testing.assert_close(found[2], pooled[0, :, 1].mean(1))


def test_a_teacher_that_pools_no_map_has_no_features_of_crops(vit_file: Path) -> None:
    with pytest.raises(UserError, match="class_target=crop needs a network that pools a map"):
        frozen(vit_file, "tiny", class_target="crop", image_size=42)


def test_whitening_is_that_of_scikit_learn() -> None:
    mixing = np.random.default_rng(0).normal(size=(6, 6))
    samples = np.random.default_rng(1).normal(size=(500, 6)) @ mixing + 3
    settings = Teacher(backbone=Network(name="tiny"), targets="whiten", components=4)
    white = Standardizer(torch.from_numpy(samples).float(), settings)
    found = white(torch.from_numpy(samples).float()).numpy()
    expected = PCA(4, whiten=True).fit_transform(samples)
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found, signs * expected, atol=1e-3)


def test_standardized_channels_have_mean_0_and_variance_1() -> None:
    samples = torch.randn(400, 5) * torch.tensor([1.0, 2, 3, 4, 0]) + 7
    found = Standardizer(samples, Teacher(backbone=Network(name="tiny")))(samples)
    torch.testing.assert_close(found.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:, :4].var(0), torch.ones(4))
    assert found[:, 4].abs().max() < 1e-3  # what never varies is not blown up


def test_neighbours_are_mixed_with_each_other() -> None:
    values = torch.tensor([[1.0, 10.0], [3.0, 30.0], [5.0, 50.0], [7.0, 70.0]])
    mixed = mix(values, torch.tensor([0.75, 0.75, 1.0, 1.0]))
    assert mixed.tolist() == [[1.5, 15.0], [2.5, 25.0], [5.0, 50.0], [7.0, 70.0]]


@pytest.mark.parametrize("loss", ["smooth_l1", "cosine", "both"])
def test_the_loss_is_that_of_its_formula(tmp_path: Path, vit_file: Path, loss: str) -> None:
    config = toy(tmp_path / "run", vit_file, teacher__loss=loss, teacher__patch_weight=0.5, **ALONE)
    with Run(config, False) as run:
        trainer = toy_trainer(config, run)
    distillation = trainer.losses.distillation
    assert isinstance(distillation, Distillation)
    views = next(trainer.loader.batches(0, 1))
    classes, patches = distillation.targets(views)
    assert classes.shape == (5 * 4, 24)  # 2 global and 3 local crops of 4 samples
    assert [p.shape for p in patches] == [(8, 4, 24), (12, 1, 24)]
    torch.manual_seed(0)
    guesses = torch.randn_like(classes), [torch.randn_like(p) for p in patches]
    losses = distillation(*guesses, views)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        gap = (a - b).abs()
        smooth = torch.where(gap < 1, 0.5 * gap**2, gap - 0.5).mean(-1)
        cosine = 1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
        return {"smooth_l1": smooth, "cosine": cosine, "both": smooth + cosine}[loss]

    torch.testing.assert_close(losses["distill_class"], distance(guesses[0], classes).mean())
    by_crop = [distance(a, b).mean(1) for a, b in zip(guesses[1], patches, strict=True)]
    torch.testing.assert_close(losses["distill_patch"], 0.5 * torch.cat(by_crop).mean())
    perfect = distillation(classes, patches, views)
    assert all(value.abs() < 1e-5 for value in perfect.values())


def test_a_student_that_sees_fewer_patches_predicts_those(tmp_path: Path, vit_file: Path) -> None:
    changes = {"teacher__kept_patches": 0.5, "views__local_crops": 0, "views__seasons": "off"}
    config = toy(tmp_path / "run", vit_file, **changes, **ALONE)
    with Run(config, False) as run:
        trainer = toy_trainer(config, run)
    views = next(trainer.loader.batches(0, 1))
    assert views.kept is not None
    assert views.kept[0].shape == (8, 2)
    _, (patches, none) = trainer.losses.distillation.targets(views)
    assert len(none) == 0
    chosen = patches[torch.arange(8)[:, None], views.kept[0]]
    losses = trainer.losses.distillation(None, [chosen], views)
    assert losses["distill_patch"].abs() < 1e-5


# The student's tokens


def test_tokens_that_are_kept_do_not_see_the_others() -> None:
    torch.manual_seed(0)
    vit = VisionTransformer(SIZE, grid=3, layer_scale=1.0).eval()
    images = torch.randn(2, 3, 42, 42)
    ((cls, patches),) = vit.forward_crops([images], [None])
    everything = torch.arange(9).expand(2, 9)
    ((same_cls, same),) = vit.forward_crops([images], [None], [everything])
    torch.testing.assert_close(same_cls, cls)
    torch.testing.assert_close(same, patches)
    kept = torch.tensor([[8, 1, 4], [0, 2, 3]])
    ((few_cls, few),) = vit.forward_crops([images], [None], [kept])
    changed = images.clone()
    hidden = torch.ones(2, 9, dtype=torch.bool).scatter(1, kept, False)
    blocks = hidden.view(2, 3, 3).repeat_interleave(14, 1).repeat_interleave(14, 2)
    changed[blocks[:, None].expand_as(changed)] = 77.0
    ((other_cls, other),) = vit.forward_crops([changed], [None], [kept])
    torch.testing.assert_close(other_cls, few_cls)
    torch.testing.assert_close(other, few)
    assert not torch.allclose(few_cls, cls)


# Training


def test_a_student_learns_what_its_teacher_knows(tmp_path: Path, conv_file: Path) -> None:
    config = toy(
        tmp_path / "run",
        conv_file,
        "timm/test_efficientnet",
        training__steps=120,
        training__lr=5e-3,
        training__checkpoint_every=120,
        views__global_area=(1.0, 1.0),
        **ALONE,
    )
    pretrain_toy(config)
    history = read_history(tmp_path / "run")
    assert history[-1]["distill_class"] < 0.5 * history[0]["distill_class"]
    assert "dino" not in history[-1]
    assert "entropy" not in history[-1]
    exported = load_file(tmp_path / "run" / "model.safetensors")
    assert set(exported) == set(VisionTransformer(SIZE, grid=2).state_dict())


SETTINGS: list[dict[str, Any]] = [
    {"teacher__mixup": 0.5, "teacher__kept_patches": 0.5, **ALONE},
    {"teacher__view": "crop", "teacher__mixup": 0.5, **ALONE},
    {"teacher__targets": "whiten", "teacher__components": 8},  # beside DINO and iBOT
    {"teacher__class_weight": 0.0, **ALONE},
    {"teacher__patch_weight": 0.0, "views__local_crops": 0, "views__seasons": "off", **ALONE},
    {"teacher__view": "crop", "data__hold": "device", "training__precision": "bf16", **ALONE},
]


@pytest.mark.parametrize("changes", SETTINGS)
def test_a_resumed_run_ends_with_the_same_bits(
    tmp_path: Path, vit_file: Path, changes: dict[str, Any]
) -> None:
    whole = pretrain_toy(toy(tmp_path / "whole", vit_file, **changes))
    config = toy(tmp_path / "killed", vit_file, **changes)
    with Run(config, False) as run:
        trainer = toy_trainer(config, run)
        step = trainer.step

        def killed(views: Any) -> None:
            if trainer.position.step == 5:
                raise KeyboardInterrupt
            step(views)

        trainer.step = killed  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    last = checkpoint.latest(tmp_path / "killed" / "checkpoints")
    assert last is not None
    assert last.name == "step-000000004"
    resumed = pretrain_toy(config, last)
    for part in ("student", "teacher", "losses"):
        expected = getattr(whole, part).state_dict()
        for name, tensor in getattr(resumed, part).state_dict().items():
            assert torch.equal(tensor, expected[name]), name
    losses = [{k: v for k, v in r.items() if "distill" in k} for r in read_history(config.work_dir)]
    assert len(losses) == 6
    wanted = {"distill_class", "distill_patch"}
    wanted -= {
        f"distill_{n}" for n in ("class", "patch") if changes.get(f"teacher__{n}_weight") == 0
    }
    assert all(set(record) == wanted for record in losses)


@pytest.mark.distributed
@pytest.mark.parametrize("changes", [SETTINGS[0], SETTINGS[2]])
def test_two_processes_are_one(tmp_path: Path, vit_file: Path, changes: dict[str, Any]) -> None:
    changes = {
        **changes,
        "teacher__backbone": {"name": "tiny", "weights": str(vit_file)},
        "teacher__image_size": 42,
    }
    one = pretrain_toy(toy_config(tmp_path / "a" / "one", batch=4, **changes))
    script = Path(__file__).with_name("toy_pretraining.py")
    processes.run_ranks([script, tmp_path / "b" / "two", "2", json.dumps(changes)])
    two = json.loads((tmp_path / "b" / "two" / "history.json").read_text())
    for ours, theirs in zip(read_history(tmp_path / "a" / "one"), two, strict=True):
        for name in ours.keys() & {"distill_class", "distill_patch", "dino", "rank"}:
            assert theirs[name] == pytest.approx(ours[name], rel=2e-4, abs=1e-5), name
    weights = load_file(tmp_path / "b" / "two" / "model.safetensors")
    for name, tensor in one.teacher.backbone.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-5)


def test_the_teacher_sees_images_once(tmp_path: Path, vit_file: Path) -> None:
    first = pretrain_toy(toy(tmp_path / "first", vit_file, **ALONE))
    assert len(list((tmp_path / "features").glob("*.npy"))) == 1
    config = toy(tmp_path / "second", vit_file, **ALONE)
    seen: list[int] = []
    with Run(config, False) as run, pytest.MonkeyPatch.context() as patch:
        encode = FrozenTeacher.encode

        def counted(self: FrozenTeacher, images: Tensor) -> Any:
            seen.append(len(images))
            return encode(self, images)

        patch.setattr(FrozenTeacher, "encode", counted)
        second = toy_trainer(config, run)
        views = next(second.loader.batches(0, 1))
        second.losses.distillation.targets(views)
    assert seen == [1]  # what it needs to know its shapes
    ours, theirs = (t.losses.distillation.targets(views)[0] for t in (first, second))
    torch.testing.assert_close(ours, theirs)


def test_crops_are_shown_to_the_teacher_as_they_are(tmp_path: Path, vit_file: Path) -> None:
    config = toy(tmp_path / "run", vit_file, teacher__view="crop", **ALONE)
    with Run(config, False) as run:
        trainer = toy_trainer(config, run)
        views = next(trainer.loader.batches(0, 1))
    assert views.shown is not None
    assert views.shown.shape == (8, 3, 42, 42)
    assert views.globals.shape == (8, 3, 28, 28)
    plain = replace(views, shown=views.shown.flip(0))
    assert not torch.equal(
        trainer.losses.distillation.targets(plain)[0],
        trainer.losses.distillation.targets(views)[0],
    )


# What cannot be learned from


def test_a_teacher_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"teacher\.backbone\.weights is not set: name the weights file of small"
    ):
        pretrain_toy(toy(tmp_path, None, "small"))


def test_a_teacher_whose_weights_do_not_fit(tmp_path: Path, conv_file: Path) -> None:
    with pytest.raises(UserError, match=r"conv\.safetensors"):
        pretrain_toy(toy(tmp_path / "run", conv_file))
    with pytest.raises(UserError, match="does not fit the backbone"):
        pretrain_toy(toy(tmp_path / "run", conv_file, "timm/test_resnet"))


def test_a_teacher_of_another_number_of_channels(tmp_path: Path, vit_file: Path) -> None:
    state = load_file(vit_file)
    state["patch_embed.proj.weight"] = torch.randn(SIZE.width, 4, 14, 14)
    save_file(state, tmp_path / "four.safetensors", FACTS)
    with pytest.raises(UserError, match=r"takes 4 bands and a backbone here takes 3"):
        pretrain_toy(toy(tmp_path / "run", tmp_path / "four.safetensors"))


def test_a_student_wider_than_its_teacher_is_reported(
    tmp_path: Path, conv_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = timm.create_model("test_efficientnet", num_classes=0)
    wide = SIZE.__class__(width=model.num_features * 2, depth=1, heads=2, hidden=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", wide)
        config = toy(tmp_path / "run", conv_file, "timm/test_efficientnet", **ALONE)
        with Run(config, False) as run:
            toy_trainer(config, run)
    assert "the student is wider" in capsys.readouterr().out


def test_features_that_do_not_fit_the_budget(tmp_path: Path, vit_file: Path) -> None:
    config = toy(tmp_path / "run", vit_file, teacher__cache={"budget_gb": 1e-9}, **ALONE)
    with pytest.raises(UserError, match=r"teacher\.cache\.budget_gb=1e-09: raise it"):
        pretrain_toy(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teacher__mixup": 0.5, "batch": 3}, "must be even"),
        ({"teacher__kept_patches": 0.5}, "kept_patches below 1"),
        ({"teacher__class_weight": 0, "teacher__patch_weight": 0}, "are both 0"),
        ({"teacher__components": 3}, "goes with teacher.targets=whiten"),
    ],
)
def test_settings_that_exclude_each_other(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        toy(tmp_path, None, **changes)
    with pytest.raises(ValueError, match="nothing to learn"):
        toy_config(tmp_path, **ALONE)
