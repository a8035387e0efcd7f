"""The Mix Transformer against transformers' SegFormer with the same weights."""

import pytest
import torch
from torch import Tensor
from transformers import SegformerConfig, SegformerModel

from cgeartheye.models.change.mit import EPS, MIT_B2, MixTransformer


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names for transformers' tensors."""
    ours: dict[str, Tensor] = {}
    parts = {
        "patch_embeddings.proj.": "0.projection.",
        "patch_embeddings.layer_norm.": "0.norm.",
        "layernorm_before.": "norm1.",
        "layernorm_after.": "norm2.",
        "attention.o_proj.": "attn.attn.out_proj.",
        "attention.sequence_reduction.sequence_reduction.": "attn.sr.",
        "attention.sequence_reduction.layer_norm.": "attn.norm.",
        "mlp.fc1.": "ffn.layers.0.",
        "mlp.dwconv.dwconv.": "ffn.layers.1.",
        "mlp.fc2.": "ffn.layers.4.",
        "blocks.": "1.",
        "stages.": "layers.",
    }
    for name, tensor in state.items():
        if "_proj." in name and "o_proj" not in name:
            continue
        new = name
        for old, other in parts.items():
            new = new.replace(old, other)
        words = new.split(".")
        if words[2] == "layer_norm":
            new = f"layers.{words[1]}.2.{words[3]}"
        if "ffn" in new and tensor.ndim == 2:
            tensor = tensor[..., None, None]
        ours[new] = tensor
    for name in state:
        if name.endswith(("q_proj.weight", "q_proj.bias")):
            stem, kind = name.split("q_proj.")
            joined = torch.cat([state[f"{stem}{part}_proj.{kind}"] for part in "qkv"])
            words = stem.split(".")
            ours[f"layers.{words[1]}.1.{words[3]}.attn.attn.in_proj_{kind}"] = joined
    return ours


@pytest.mark.parametrize("size", [(64, 96), (70, 41)])
def test_agrees_with_transformers(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    sizes = [stage.channels for stage in MIT_B2]
    peer = SegformerModel(
        SegformerConfig(depths=[stage.depth for stage in MIT_B2], hidden_sizes=sizes)
    ).eval()
    for parameter in peer.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    for module in peer.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = EPS  # mmsegmentation's, everywhere
    peer.double()
    ours = MixTransformer().eval().double()
    ours.load_state_dict(renamed(peer.state_dict()))
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        maps = ours(images)
        expected = peer(images, output_hidden_states=True).hidden_states
    assert len(maps) == 4
    for one, other in zip(maps, expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-8)


def test_drop_path_keeps_the_mean() -> None:
    torch.manual_seed(0)
    encoder = MixTransformer(drop_path=0.5)
    block = encoder.layers[3][1][2]
    assert block.drop_path == pytest.approx(0.5)
    x = torch.ones(20_000, 1, 1)
    dropped = block.train()._dropped(x)
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    assert set(dropped.unique().tolist()) == {0, 2}
    assert block.eval()._dropped(x) is x
