"""Backbones as modules of somebody else's program."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torch.testing import assert_close
from transformers import BitImageProcessor

import cgeartheye as cge


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth noise: where there are no edges all bicubic filters agree."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def test_the_transform_is_what_transformers_and_timm_do() -> None:
    preprocessing = cge.create_backbone("tiny").preprocessing
    image = Image.fromarray(noise(150, 201))
    ours = preprocessing.transform(112)(image)
    processor = BitImageProcessor(**preprocessing.processor_config(112))
    theirs = processor(image, return_tensors="pt")["pixel_values"][0]
    timms = create_transform(
        (3, 112, 112),
        interpolation="bicubic",
        mean=preprocessing.image_mean,
        std=preprocessing.image_std,
        crop_pct=1.0,
    )(image)
    level = 1 / min(preprocessing.std)  # a level of the 256 that both round to
    for other in (theirs, timms):
        assert ours.shape == other.shape
        assert (ours - other).abs().max() <= 1.01 * level


def test_mean_and_std_are_those_of_the_weights_file() -> None:
    from cgeartheye.models.backbone import inspect

    known = inspect(Path("tiny"))
    preprocessing = cge.create_backbone("tiny").preprocessing
    assert known["mean"] == str(preprocessing.mean)
    assert known["gsd"] == str(preprocessing.gsd)
    mid = np.full((28, 28, 3), 128, np.uint8)
    expected = [(128 - m) / s for m, s in zip(preprocessing.mean, preprocessing.std, strict=True)]
    assert_close(preprocessing.transform()(mid).mean((1, 2)), torch.tensor(expected))


@pytest.mark.parametrize(
    ("sides", "expected"), [((56, 70), (56, 70)), ((50, 63), (56, 56)), ((5, 30), (14, 28))]
)
def test_without_a_size_sides_become_the_nearest_multiples(
    sides: tuple[int, int], expected: tuple[int, int]
) -> None:
    transform = cge.create_backbone("tiny").preprocessing.transform()
    assert transform(noise(*sides)).shape[1:] == expected


def test_a_frozen_backbone_stays_frozen_in_a_loop() -> None:
    backbone = cge.create_backbone("tiny").train()
    assert not backbone.training
    assert not any(p.requires_grad for p in backbone.parameters())
    tuned = cge.create_backbone("tiny", tuning="full").train()
    assert tuned.training
    cls, (last,) = tuned(torch.linspace(-1, 1, 4704).view(2, 3, 28, 28), layers=[-1])
    (cls.sum() + last.sum()).backward()
    without = {n for n, p in tuned.named_parameters() if p.requires_grad and p.grad is None}
    assert not without
    adapted = cge.create_backbone("tiny", tuning="lora")
    learned = {n.rpartition(".")[2] for n, p in adapted.named_parameters() if p.requires_grad}
    assert learned == {"lora_a", "lora_b"}


def test_saved_weights_are_created_again_by_their_file(tmp_path: Path) -> None:
    backbone = cge.create_backbone("tiny", tuning="full")
    with torch.no_grad():
        backbone.network.norm.weight.mul_(2)
    path = backbone.save(tmp_path / "own.safetensors", {"data": "mine"})
    again = cge.create_backbone(path)
    assert again.preprocessing == backbone.preprocessing
    images = torch.linspace(-1, 1, 2352).view(1, 3, 28, 28)
    assert_close(again(images)[0], backbone.eval()(images)[0], rtol=0, atol=0)
    named = cge.create_backbone("tiny", weights=path)
    assert_close(named(images)[0], again(images)[0], rtol=0, atol=0)


def test_random_weights_follow_the_seed_and_pretrained_ones_draw_nothing() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = cge.create_backbone("tiny", pretrained=False).state_dict()
        torch.manual_seed(3)
        cge.create_backbone("tiny")
        second = cge.create_backbone("tiny", pretrained=False).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_timm_model_behind_the_same_contract() -> None:
    with torch.random.fork_rng():
        backbone = cge.create_backbone("timm/resnet10t", pretrained=False, image_size=64)
    pooled, (last,) = backbone(torch.zeros(1, 3, 64, 96), layers=[-1])
    assert pooled.shape == (1, backbone.embed_dim)
    assert last.shape[-2:] == (64 // backbone.patch_size, 96 // backbone.patch_size)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (["tiy"], {}, r"'tiy' is none of .* \(did you mean 'tiny'\?\)"),
        (["base"], {}, "no weights of 'base' ship .*: name a file with weights="),
        (["none.pth"], {}, "none.pth"),
        (["tiny"], {"pretrained": False, "weights": "a.pth"}, "asks for random weights"),
        (["tiny"], {"mean": (1, 2, 3)}, "mean and std go together"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], options: dict[str, object], message: str
) -> None:
    with pytest.raises(cge.UserError, match=message):
        cge.create_backbone(*arguments, **options)


def test_images_that_are_not_normalized_are_refused() -> None:
    with pytest.raises(cge.UserError, match="takes normalized float images"):
        cge.create_backbone("tiny")(torch.zeros(1, 3, 28, 28, dtype=torch.uint8))
