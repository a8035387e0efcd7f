import socket
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file

from cgeartheye.models.backbone.checkpoint_io import WeightsMetadata, read_weights
from cgeartheye.models.backbone.load_weights import load_into
from cgeartheye.models.backbone.lora import add_lora
from cgeartheye.models.backbone.timm_adapter import TimmBackbone
from cgeartheye.models.backbone.variants import SIZES
from cgeartheye.models.backbone.vit import VisionTransformer
from cgeartheye.utils.errors import UserError


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize(
    ("name", "side", "depth", "patch"),
    [
        ("vit_tiny_patch16_224", 96, 12, 16),
        ("deit3_small_patch16_224", 96, 12, 16),
        ("swin_tiny_patch4_window7_224", 224, 4, 32),
        ("resnet10t", 96, 5, 32),
        ("mobilenetv3_small_050", 96, 5, 32),
    ],
)
@torch.no_grad()
def test_keeps_the_contract(name, side, depth, patch):
    backbone = TimmBackbone(name, side).eval()
    assert (backbone.depth, backbone.patch_size) == (depth, patch)
    images = torch.randn(2, 3, side, side)
    alone, none = backbone(images)
    cls, (last, first) = backbone(images, [-1, 0])
    assert alone.shape == (2, backbone.embed_dim)
    assert none == []
    torch.testing.assert_close(alone, cls)
    torch.testing.assert_close(alone, backbone.model(images))
    assert last.shape[2:] == (side // patch, side // patch)
    assert first.shape[2] >= last.shape[2]
    with pytest.raises(UserError, match=f"has {depth} layers"):
        backbone(images, [depth])


@torch.no_grad()
def test_is_our_own_network_under_another_name(tmp_path, randomize):
    backbone = TimmBackbone("vit_small_patch14_reg4_dinov2", 56).eval()
    randomize(backbone)
    path = tmp_path / "weights.safetensors"
    save_file(backbone.model.state_dict(), path)
    weights = read_weights(path)
    vit = VisionTransformer(SIZES["small"], grid=weights.grid, registers=4).eval()
    load_into(vit, weights)
    images = torch.randn(1, 3, 518, 518)
    (cls, maps), (ours, our_maps) = (network(images, [5, -1]) for network in (backbone, vit))
    for theirs, own in zip((cls, *maps), (ours, *our_maps), strict=True):
        assert theirs.shape == own.shape
        assert (theirs - own).abs().max() < 1e-4 * own.abs().max()


def test_loads_its_own_names_strictly(tmp_path):
    source = timm.create_model("vit_tiny_patch16_224", num_classes=5)
    path = tmp_path / "weights.safetensors"
    save_file(source.state_dict(), path, WeightsMetadata(gsd=0.5).to_metadata())
    backbone = TimmBackbone("vit_tiny_patch16_224", 224)
    facts, fingerprint = backbone.load(path)
    assert facts.gsd == 0.5
    assert len(fingerprint) == 64
    assert torch.equal(backbone.model.norm.weight, source.norm.weight)
    assert torch.equal(backbone.model.blocks[3].mlp.fc1.weight, source.blocks[3].mlp.fc1.weight)
    state = source.state_dict()
    del state["blocks.0.norm1.bias"]
    save_file(state, path)
    with pytest.raises(UserError, match=r"missing: blocks\.\*\.norm1\.bias"):
        backbone.load(path)


def test_takes_lora_and_checkpoints():
    backbone = TimmBackbone("vit_tiny_patch16_224", 32, 0.1, checkpoint_activations=True)
    add_lora(backbone, rank=2, alpha=2)
    assert len(backbone.blocks) == 12
    cls, _ = backbone(torch.randn(1, 3, 32, 32))
    cls.sum().backward()
    trained = [name for name, p in backbone.named_parameters() if p.grad is not None]
    assert trained
    assert all("lora_" in name for name in trained)


def test_an_unknown_model_and_a_missing_library(monkeypatch):
    with pytest.raises(UserError, match=r"no model 'resnet_50' .did you mean 'resnet50'"):
        TimmBackbone("resnet_50", 224)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install cgeartheye\[timm\]"):
        TimmBackbone("resnet50", 224)
