from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cgeartheye.models.change import BAN
from cgeartheye.models.change.ban import Bridge, load_side_encoder
from cgeartheye.utils.errors import UserError


def inputs(batch: int = 2, side: int = 64) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
    maps = [[torch.randn(batch, 24, 4, 4) for _ in range(4)] for _ in range(2)]
    return *maps, torch.randn(batch, 3, side, side), torch.randn(batch, 3, side, side)


def test_names_are_those_of_published_checkpoints() -> None:
    names = {name for name, _ in BAN(24, 2, 16).named_parameters()}
    stages = "side_adapter_network.side_encoder.layers"
    for name in (
        f"{stages}.0.0.projection.weight",
        f"{stages}.0.1.2.attn.attn.in_proj_weight",
        f"{stages}.2.1.5.ffn.layers.4.bias",
        f"{stages}.3.2.weight",
        "side_adapter_network.conv_clips.0.0.weight",
        "side_adapter_network.conv_clips.0.1.conv.weight",
        "side_adapter_network.clip_attns.3.attn.attn.out_proj.bias",
        "side_adapter_network.clip_attns.3.ffn.layers.1.weight",
        "mask_decoder.convs.3.bn.weight",
        "mask_decoder.fusion_conv.conv.weight",
        "mask_decoder.discriminator.layers.0.weight",
        "mask_decoder.conv_seg.weight",
    ):
        assert name in names


def test_a_bridge_is_attention_and_a_sum() -> None:
    """Against PyTorch's own attention and the formulas of the paper, step by step."""
    torch.manual_seed(0)
    bridge = Bridge(32, 4)
    peer = torch.nn.MultiheadAttention(32, 4, batch_first=True)
    attention = bridge.attn.attn
    peer.load_state_dict(attention.state_dict())
    x, vit = torch.randn(2, 32, 6, 5), torch.randn(2, 32, 3, 3)

    def normed(tokens: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
        return F.layer_norm(tokens, (32,), norm.weight, norm.bias, 1e-6)

    tokens, context = x.flatten(2).mT, vit.flatten(2).mT
    tokens = tokens + peer(normed(tokens, bridge.norm1), context, context)[0]
    first, depthwise, _, _, last = bridge.ffn.layers
    middle = normed(tokens, bridge.norm2).mT.unflatten(2, (6, 5))
    tokens = tokens.mT.unflatten(2, (6, 5)) + last(F.gelu(depthwise(first(middle))))
    expected = tokens + F.interpolate(vit, (6, 5), mode="bilinear")
    torch.testing.assert_close(bridge(x, vit), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", [64, 50])
def test_shapes_and_gradients(side: int) -> None:
    torch.manual_seed(0)
    ban = BAN(24, 2, 16)
    before_maps, after_maps, before, after = inputs(side=side)
    logits = ban(before_maps, after_maps, before, after, (side, side))
    assert logits.shape == (2, 2, side, side)
    logits.square().mean().backward()
    without = [
        name for name, p in ban.named_parameters() if p.grad is None or not p.grad.abs().any()
    ]
    assert without == []


def test_dates_do_not_mix_within_the_encoder() -> None:
    """Both dates in one batch: the same as each alone."""
    torch.manual_seed(0)
    ban = BAN(24, 2, 16).eval()
    before_maps, after_maps, before, after = inputs()
    with torch.no_grad():
        both = ban(before_maps, after_maps, before, after, (64, 64))
        one = ban.side_adapter_network(before, before_maps)
        other = ban.side_adapter_network(after, after_maps)
        alone = F.interpolate(ban.mask_decoder(one, other), (64, 64), mode="bilinear")
        single = ban(
            *([x[:1] for x in maps] for maps in (before_maps, after_maps)),
            before[:1],
            after[:1],
            (64, 64),
        )
    torch.testing.assert_close(both, alone, atol=3e-5, rtol=1e-4)
    torch.testing.assert_close(both[:1], single, atol=3e-5, rtol=1e-4)


def test_symmetry_is_exact() -> None:
    torch.manual_seed(0)
    symmetric, lopsided = BAN(24, 2, 16, symmetric=True).eval(), BAN(24, 2, 16).eval()
    before_maps, after_maps, before, after = inputs()
    with torch.no_grad():
        for ban, same in ((symmetric, True), (lopsided, False)):
            torch.nn.init.normal_(ban.mask_decoder.conv_seg.weight)
            one = ban(before_maps, after_maps, before, after, (64, 64))
            other = ban(after_maps, before_maps, after, before, (64, 64))
            assert torch.equal(one, other) == same


def test_side_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, ban = BAN(24, 2, 16), BAN(24, 2, 16)
    state = source.side_adapter_network.side_encoder.state_dict()
    published = {f"backbone.{name}": x for name, x in state.items()}
    torch.save(
        {"state_dict": {**published, "decode_head.conv_seg.bias": torch.zeros(2)}},
        tmp_path / "mit_b2.pth",
    )
    load_side_encoder(ban, tmp_path / "mit_b2.pth")
    loaded = ban.side_adapter_network.side_encoder.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    del published["backbone.layers.3.2.weight"]
    torch.save(published, tmp_path / "cut.pth")
    with pytest.raises(UserError, match="does not fit the side encoder: missing"):
        load_side_encoder(ban, tmp_path / "cut.pth")
