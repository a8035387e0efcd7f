"""The peers of our backbone: timm's and transformers' networks of the same size."""

from pathlib import Path

import timm
import torch
from torch import nn
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
)

from cgeartheye.models.backbone.key_mapping import to_native
from cgeartheye.models.backbone.variants import Size
from cgeartheye.models.backbone.vit import VisionTransformer


def timm_model(size: Size, grid: int, registers: int = 0) -> nn.Module:
    """Return timm's network for `grid` patches a side, with random weights."""
    kind = "giant" if size.swiglu else "base"
    return timm.create_model(
        f"vit_{kind}_patch14_{'reg4_' if registers else ''}dinov2",
        num_classes=0,
        img_size=14 * grid,
        embed_dim=size.width,
        depth=size.depth,
        num_heads=size.heads,
    ).eval()


def transformers_model(size: Size, grid: int, registers: int = 0) -> nn.Module:
    """Return transformers' network for `grid` patches a side, with random weights."""
    options = {
        "hidden_size": size.width,
        "num_hidden_layers": size.depth,
        "num_attention_heads": size.heads,
        # With SwiGLU the ratio is that of the MLP that it stands for.
        "mlp_ratio": 4 if size.swiglu else size.hidden // size.width,
        "use_swiglu_ffn": size.swiglu,
        "image_size": 14 * grid,
        "patch_size": 14,
    }
    if registers:
        config = Dinov2WithRegistersConfig(num_register_tokens=registers, **options)
        return Dinov2WithRegistersModel(config).eval()
    return Dinov2Model(Dinov2Config(**options)).eval()


@torch.no_grad()
def randomize(network: nn.Module) -> None:
    """Give every parameter such values that a wrong or missing one shows in the output."""
    generator = torch.Generator().manual_seed(1)
    for name, p in network.named_parameters():
        if "token" in name or "pos" in name:
            p.normal_(generator=generator)
        elif p.ndim > 1:
            p.normal_(std=p[0].numel() ** -0.5, generator=generator)
        elif name.endswith("bias"):
            p.normal_(std=0.3, generator=generator)
        else:
            p.uniform_(0.5, 1.5, generator=generator)


def ours_like(peer: nn.Module, size: Size, grid: int, registers: int = 0) -> VisionTransformer:
    """Return our network with the weights of a peer."""
    _, state, _ = to_native(peer.state_dict(), {}, Path("peer"))
    state.setdefault("mask_token", torch.zeros(1, size.width))
    with torch.device("meta"):
        vit = VisionTransformer(size, grid=grid, registers=registers)
    vit.load_state_dict(state, assign=True)
    return vit.eval()
