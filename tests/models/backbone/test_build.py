from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cgeartheye.config import Backbone, Lora, Normalization
from cgeartheye.models.backbone import build
from cgeartheye.models.backbone.checkpoint_io import WeightsMetadata, fingerprint, save_tensors
from cgeartheye.models.backbone.variants import SIZES, Size
from cgeartheye.models.backbone.vit import VisionTransformer
from cgeartheye.utils.errors import UserError

FACTS = WeightsMetadata(mean=(10, 20, 30), std=(1, 2, 3), gsd=0.75, image_size=56)
IMAGES = torch.randn(2, 3, 42, 42, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def short(monkeypatch) -> None:
    monkeypatch.setitem(SIZES, "tiny", replace(SIZES["tiny"], depth=2))


@pytest.fixture
def source(randomize) -> VisionTransformer:
    vit = VisionTransformer(SIZES["tiny"], grid=4, registers=2).eval()
    randomize(vit)
    return vit


@pytest.fixture
def weights(source, tmp_path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_tensors(path, source.state_dict(), FACTS.to_metadata())
    return path


def test_weights_bring_their_conditions(weights, source):
    built = build(Backbone(name="tiny", weights=weights), image_size=42)
    assert built.normalization == Normalization(mean=(10, 20, 30), std=(1, 2, 3))
    assert (built.gsd, built.registers) == (0.75, 2)
    assert built.fingerprint == fingerprint(source.state_dict())
    assert built.module.grid == 3
    # Resampled when loading: what the network of the file's own grid computes.
    torch.testing.assert_close(built.module(IMAGES)[0], source(IMAGES)[0], rtol=1e-4, atol=1e-4)
    assert {
        f"weights {weights} (native naming)",
        "position embeddings resampled from 4 x 4 patches to 3 x 3",
        "normalization from the weights file",
        "gsd from the weights file",
    } == set(built.notes)


def test_the_fingerprint_is_that_of_the_weights_whatever_is_done_with_them(weights):
    prints = {
        build(Backbone(name="tiny", weights=weights, tuning=tuning), size).fingerprint
        for tuning, size in (("frozen", 56), ("frozen", 42), ("lora", 56), ("full", 56))
    }
    assert len(prints) == 1


def test_registers_that_the_file_lacks_are_other_features(weights):
    def fingerprint(seed, registers):
        torch.manual_seed(seed)
        return build(Backbone(name="tiny", weights=weights, registers=registers), 56).fingerprint

    known = fingerprint(0, None)
    assert fingerprint(1, None) == known
    assert len({known, fingerprint(0, 3), fingerprint(1, 3), fingerprint(0, 4)}) == 4
    assert fingerprint(0, 3) == fingerprint(0, 3)


def test_the_config_comes_first_and_that_is_noted(weights):
    given = Normalization(mean=(1, 1, 1), std=(2, 2, 2))
    config = Backbone(name="tiny", weights=weights, normalization=given, gsd=0.3)
    built = build(config, 56)
    assert (built.normalization, built.gsd) == (given, 0.3)
    assert "gsd from the config, in place of 0.75 in the weights file" in built.notes
    assert any(
        note.startswith("normalization from the config, in place of") for note in built.notes
    )


@pytest.mark.parametrize(
    ("facts", "given", "message"),
    [
        (
            WeightsMetadata(gsd=1),
            {},
            "does not record its normalization: set backbone.normalization",
        ),
        (replace(FACTS, std=None), {}, "does not record its normalization"),
        (replace(FACTS, gsd=None), {}, "does not record its gsd: set backbone.gsd"),
        (WeightsMetadata(), {"normalization": Normalization()}, "does not record its gsd"),
    ],
)
def test_weights_without_their_conditions_need_them_named(tmp_path, source, facts, given, message):
    path = tmp_path / "bare.safetensors"
    save_tensors(path, source.state_dict(), facts.to_metadata())
    with pytest.raises(UserError, match=message) as error:
        build(Backbone(name="tiny", weights=path, **given), 56)
    assert str(path) in str(error.value)
    built = build(Backbone(name="tiny", weights=path, normalization=Normalization(), gsd=1), 56)
    assert "normalization from the config" in " ".join(built.notes)


def test_random_weights_have_the_published_normalisation():
    built = build(Backbone(name="tiny", weights="random", tuning="full"), 56)
    assert built.normalization.mean == (123.675, 116.28, 103.53)
    assert (built.gsd, built.registers, built.notes) == (None, 0, ())
    for tuning in ("frozen", "lora"):
        (note,) = build(Backbone(name="tiny", weights="random", tuning=tuning), 56).notes
        assert f"tuning is {tuning}: the backbone is random and stays so" in note


def test_the_seed_decides_random_weights():
    prints = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        prints.append(build(Backbone(name="tiny", weights="random"), 56).fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_frozen(weights):
    module = build(Backbone(name="tiny", weights=weights, drop_path=0.5), 56).module
    assert not any(p.requires_grad for p in module.parameters())
    assert not module.training


def test_lora(weights):
    config = Backbone(name="tiny", weights=weights, tuning="lora", lora=Lora(rank=3, alpha=6))
    module = build(config, 56).module
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert trained == {name for name in module.state_dict() if "lora_" in name}
    assert module.blocks[0].attn.qkv.lora_a.shape == (3, 192)
    assert module.blocks[0].attn.qkv.scale == 2


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_all_that_is_tuned_gets_a_gradient(weights, tuning):
    """Data-parallel training waits for the gradient of everything that requires one."""
    module = build(Backbone(name="tiny", weights=weights, tuning=tuning), 42).module
    module(IMAGES)[0].square().mean().backward()
    for name, p in module.named_parameters():
        assert (p.grad is not None) == p.requires_grad, name


def test_options_reach_the_network(weights):
    config = Backbone(
        name="tiny", weights=weights, registers=1, drop_path=0.2, checkpoint_activations=True
    )
    built = build(config, 56)
    assert built.registers == built.module.registers == 1
    assert built.module.drop_path == 0.2
    assert built.module.checkpoint_activations
    assert any("backbone.registers is 1: the last are dropped" in note for note in built.notes)


def test_compiles_every_block(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    module = build(Backbone(name="tiny", weights="random", compile=True), 56).module
    assert compiled == list(module.blocks)
    compiled.clear()
    module = build(Backbone(name="timm/resnet10t", compile=True), 64).module
    assert compiled == [module]


@pytest.mark.parametrize(("name", "size", "fix"), [("tiny", 500, "490 or 504"), ("tiny", 9, "14")])
def test_an_image_size_that_does_not_divide(name, size, fix):
    with pytest.raises(
        UserError, match=f"data.image_size={size} is not a multiple .* set it to {fix}"
    ):
        build(Backbone(name=name), size)


def test_timm(tmp_path):
    built = build(Backbone(name="timm/vit_tiny_patch16_224"), 96)
    assert built.module(torch.zeros(1, 3, 96, 96))[0].shape == (1, 192)
    assert built.registers is None
    with pytest.raises(UserError, match="patch size 16: set it to 496 or 512"):
        build(Backbone(name="timm/vit_tiny_patch16_224"), 500)
    with pytest.raises(UserError, match=r"backbone\.registers"):
        build(Backbone(name="timm/vit_tiny_patch16_224", registers=2), 96)
    path = tmp_path / "timm.safetensors"
    save_tensors(path, built.module.model.state_dict(), FACTS.to_metadata())
    again = build(Backbone(name="timm/vit_tiny_patch16_224", weights=path), 96)
    assert again.gsd == 0.75
    torch.testing.assert_close(
        again.module(torch.ones(1, 3, 96, 96)), built.module.eval()(torch.ones(1, 3, 96, 96))
    )


def test_unknown_names():
    with pytest.raises(UserError, match=r"'smal' is none of tiny, .*\(did you mean 'small'\?\)"):
        build(Backbone(name="smal"), 56)


def test_the_sizes_of_the_published_configs_are_there():
    assert SIZES["giant"] == Size(width=1536, depth=40, heads=24, hidden=4096, swiglu=True)
    assert (int(6144 * 2 / 3) + 7) // 8 * 8 == SIZES["giant"].hidden
