import pytest
import torch
from torch import nn

from cgeartheye.models.backbone.checkpoint_io import read_weights, save_tensors
from cgeartheye.models.backbone.lora import SCALE, add_lora, merge_lora
from cgeartheye.models.backbone.variants import Size
from cgeartheye.models.backbone.vit import VisionTransformer
from cgeartheye.utils.errors import UserError


@pytest.fixture(params=[False, True], ids=["mlp", "swiglu"])
def vit(request, randomize) -> VisionTransformer:
    size = Size(width=48, depth=2, heads=3, hidden=64, swiglu=request.param)
    vit = VisionTransformer(size, grid=2)
    randomize(vit)
    return vit.eval()


IMAGES = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))


def tune(vit: VisionTransformer) -> None:
    """Take some steps, so that B is no longer zero."""
    optimizer = torch.optim.SGD([p for p in vit.parameters() if p.requires_grad], lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        vit(IMAGES)[0].square().mean().backward()
        optimizer.step()


def test_starts_as_the_network_it_is_put_on(vit):
    before, keys = vit(IMAGES)[0], vit.state_dict().keys()
    add_lora(vit, rank=4, alpha=8)
    torch.testing.assert_close(vit(IMAGES)[0], before, rtol=1e-5, atol=1e-5)
    added = vit.state_dict().keys() - keys
    assert vit.state_dict().keys() > keys
    # Four linear layers in each of two blocks, two matrices each.
    assert len(added) == 2 * 4 * 2
    assert all("lora_" in name for name in added)


def test_only_the_additions_are_trained_and_they_learn(vit):
    add_lora(vit, rank=4, alpha=8)
    trained = {name: p for name, p in vit.named_parameters() if p.requires_grad}
    assert trained.keys() == {name for name in vit.state_dict() if "lora_" in name}
    before = {name: p.detach().clone() for name, p in vit.named_parameters()}
    output = vit(IMAGES)[0]
    tune(vit)
    assert not torch.allclose(vit(IMAGES)[0], output, atol=1e-3)
    for name, p in vit.named_parameters():
        assert torch.equal(p, before[name]) == (name not in trained), name


def test_the_formula():
    layer = nn.Sequential(nn.Linear(6, 5))
    add_lora(layer, rank=2, alpha=3)
    nn.init.normal_(layer[0].lora_b)
    x = torch.randn(7, 6)
    low_rank = layer[0].lora_b @ layer[0].lora_a
    assert torch.linalg.matrix_rank(low_rank) == 2
    expected = x @ (layer[0].weight + 3 / 2 * low_rank).T + layer[0].bias
    torch.testing.assert_close(layer(x), expected)


def test_merged_computes_the_same_in_a_plain_network(vit):
    keys = vit.state_dict().keys()
    add_lora(vit, rank=4, alpha=8)
    tune(vit)
    unmerged, maps = vit(IMAGES, [0])
    merge_lora(vit)
    merged, merged_maps = vit(IMAGES, [0])
    torch.testing.assert_close(merged, unmerged, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(merged_maps[0], maps[0], rtol=1e-4, atol=1e-4)
    assert vit.state_dict().keys() == keys


def test_a_file_with_lora_is_read_as_the_plain_network(vit, tmp_path):
    add_lora(vit, rank=4, alpha=6.0)
    for name, parameter in vit.named_parameters():
        if name.endswith("lora_b"):
            nn.init.normal_(parameter, std=0.1)
    path, facts = tmp_path / "model.safetensors", {"format": "1"}
    tensors = {f"backbone.{name}": tensor for name, tensor in vit.state_dict().items()}
    save_tensors(path, tensors, facts | {SCALE: "1.5"})
    found = read_weights(path)
    merge_lora(vit)
    expected = vit.state_dict()
    assert found.state.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found.state[name], tensor)
    assert SCALE not in found.card
    save_tensors(path, tensors, facts)
    with pytest.raises(UserError, match="has LoRA's matrices, but not how they are scaled"):
        read_weights(path)


def test_a_network_without_linear_layers():
    with pytest.raises(UserError, match="no linear layers"):
        add_lora(nn.Sequential(nn.Conv2d(3, 3, 1)), rank=4, alpha=8)
